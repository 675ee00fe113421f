"""The HTTP service: one gallery, asked by people through a page and by programs through JSON.

::

    settings.py       what can be set, checked
    auth.py           who may read and who may write
    errors.py         refusals, as problem+json
    middleware.py     what every request passes: host, origin, key, body limit and deadline, headers, metrics
    forms.py          multipart bodies, read as they come
    form_fields.py    what forms and addresses say
    requests.py       requests, as the OpenAPI document shows them and as they are checked
    responses.py      answers, as it shows them
    gallery_api.py    what the service asks of a gallery, and the answers as JSON
    gallery_info.py   counts that take a look at every item
    decode_tasks.py   what is done to images in processes that may die
    image_encoder.py  those processes, and the network
    thumbnails.py     made when they are asked for
    limits.py         threads and their queues, whose turn it is, memory and disk for bodies, requests a second
    metrics.py        counts and times
    conditions.py     what the client has already, parts of files, and clients that have gone
    originals.py      where the image of an item is
    sharing.py        a folder that several services use
    uploads.py        files that were sent, and jobs, on disk
    job.py            a job, and what became of each of its images
    jobs.py           what adds them, also across a restart
    routes.py         one function for each path
    service.py        all of it together
    app.py            the application around it
    protocol.py       HTTP on one connection: deadlines for headers, pauses for slow senders
    run.py            the process: signals, the drain, the limit of connections

Only the last two know uvicorn's server. Nothing here is imported before ``anglehash serve`` is run.
"""
