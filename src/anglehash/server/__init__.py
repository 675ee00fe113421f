"""The HTTP service: one gallery, asked by people through a page and by programs through JSON.

::

    settings.py    what can be set, checked
    keys.py        who may read and who may write
    problems.py    refusals, as problem+json
    guard.py       what every request passes: host, origin, key, body limit and deadline, headers, metrics
    forms.py       multipart bodies, read as they come
    fields.py      what forms and addresses say
    requests.py    requests, as the OpenAPI document shows them and as they are checked
    answers.py     answers, as it shows them
    collection.py  what the service asks of a gallery, and the answers as JSON
    facts.py       counts that take a look at every item
    decoding.py    what is done to images in processes that may die
    eyes.py        those processes, and the network
    thumbnails.py  made when they are asked for
    limits.py      threads and their queues, whose turn it is, memory and disk for bodies, requests a second
    metrics.py     counts and times
    conditions.py  what the client has already, parts of files, and clients that have gone
    originals.py   where the image of an item is
    sharing.py     a folder that several services use
    uploads.py     files that were sent, and jobs, on disk
    job.py         a job, and what became of each of its images
    jobs.py        what adds them, also across a restart
    routes.py      one function for each path
    service.py     all of it together
    protocol.py    HTTP on one connection: deadlines for headers, pauses for slow senders
    server.py      the process: signals, the drain, the limit of connections

Only these two know uvicorn. Nothing here is imported before ``anglehash serve`` is run.
"""
