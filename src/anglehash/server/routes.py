"""One function for each path. They parse, call one thing, and answer; what is refused is raised."""

from __future__ import annotations

import time
from typing import Annotated, cast

from fastapi import APIRouter, Path, Query
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from anglehash.gallery.filters import Filter
from anglehash.server import requests as ask
from anglehash.server import responses as doc
from anglehash.server.conditions import is_known, unless_gone, unless_known
from anglehash.server.errors import RefusalError, answer, json_bytes
from anglehash.server.form_fields import filter_of, is_form, upload_fields, values_of
from anglehash.server.forms import Held, holding, read_form, read_json
from anglehash.server.gallery_api import Asked, Image, name_of
from anglehash.server.requests import UPLOAD_BODY, body_of, checked
from anglehash.server.service import Service
from anglehash.server.settings import PAGE
from anglehash.server.thumbnails import tag_of

ROUTER = APIRouter()

MOST_UPLOADS = 1000
"""Images that can be added at once."""

Key = Annotated[str, Path(max_length=6000, description="The last part of an item's address.")]


def _service(request: Request) -> Service:
    return cast(Service, request.app.state.service)


@ROUTER.get("/", include_in_schema=False)
async def page(request: Request) -> Response:
    """The page."""
    if not (PAGE / "index.html").is_file():
        raise RefusalError(404, "no-page", "this installation has no page; the API is at openapi.json")
    headers = {"Cache-Control": "no-cache"}
    return unless_known(request, FileResponse(PAGE / "index.html", headers=headers))


@ROUTER.get("/healthz", response_model=doc.Status, tags=["service"])
async def healthz(request: Request) -> Response:
    """Whether the process lives."""
    return answer({"status": "ok"})


@ROUTER.get("/readyz", response_model=doc.Status, tags=["service"])
async def readyz(request: Request) -> Response:
    """Whether it takes requests."""
    if _service(request).draining:
        raise RefusalError(503, "draining", "the service is stopping", headers={"Retry-After": "5"})
    return answer({"status": "ok"})


@ROUTER.get("/metrics", response_class=Response, tags=["service"],
            responses={200: {"content": {"text/plain": {}}}})  # fmt: skip
async def metrics(request: Request) -> Response:
    """Counts and times, for Prometheus."""
    service = _service(request)
    gauges = {
        "anglehash_items": len(service.gallery),
        "anglehash_generation": service.gallery.generation,
        "anglehash_searches_pending": service.searches.pending + service.filtered.pending,
        "anglehash_images_pending": service.image_encoder.images.pending,
        "anglehash_body_bytes": service.bodies.used,
        "anglehash_thumbnail_bytes": service.thumbnails.size,
    }
    return Response(service.metrics.text(gauges), media_type="text/plain; version=0.0.4; charset=utf-8")


@ROUTER.get("/v1/gallery", response_model=doc.GalleryAnswer, tags=["gallery"])
async def gallery(request: Request) -> Response:
    """What the gallery is, and what may be done with it."""
    service = _service(request)
    summary = await service.surveys.run(service.summary)
    return answer(
        {
            "items": len(service.gallery),
            "bits": service.gallery.bits,
            "generation": service.gallery.generation,
            "model": service.model_facts,
            "labels": [{"name": name, "count": count} for name, count in summary.labels.most_common(1000)],
            "columns": summary.columns,
            "can_write": bool(request.state.may_write),
            "needs_key": bool(service.settings.keys),
            "can_encode": service.image_encoder.model is not None,
        }
    )


@ROUTER.get("/v1/gallery/health", response_model=doc.HealthAnswer, tags=["gallery"])
async def health(request: Request) -> Response:
    """How good the codes are, by what can be counted, and which files gave none."""
    service = _service(request)
    return answer(await service.surveys.run(service.health))


@ROUTER.get("/v1/gallery/bits", response_model=doc.BitsAnswer, tags=["gallery"])
async def bits(request: Request) -> Response:
    """The share of ones of each bit, for each of the most frequent labels."""
    service = _service(request)
    return answer(await service.surveys.run(service.lean))


@ROUTER.post("/v1/search", response_model=doc.SearchAnswer, tags=["search"],
             openapi_extra=body_of(ask.SearchRequest, image=True))  # fmt: skip
async def search(request: Request) -> Response:
    """The items nearest to an image, to an item, or to a code.

    The next page of an image's answers is asked for with its code and the cursor.
    """
    service = _service(request)
    with holding(service.bodies) as held:
        if is_form(request):
            return await _search_by_image(request, service, held)
        asked = checked(ask.SearchRequest, await read_json(request, held))
    where = asked.filter.filter() if asked.filter else Filter()

    def found() -> bytes:
        code, own = service.collection.query(asked.id, asked.code)
        given = Asked(code, own, asked.k, asked.max_distance, where, asked.cursor)
        return json_bytes(service.collection.search(given))

    return _json(await service.searching(where).run(found))


async def _search_by_image(request: Request, service: Service, held: Held) -> Response:
    if service.image_encoder.model is None:
        raise RefusalError(409, "no-model", "this gallery cannot encode images: search by id or by code")
    form = await read_form(request, held, most_files=1)
    if len(form.files) != 1:
        raise RefusalError(400, "no-image", "a search needs one file, in the field image")
    given = checked(ask.ImageFields, values_of(form))
    where = given.filter.filter() if given.filter else Filter()
    work = service.image_encoder.code(form.files[0].data, service.gallery.model_id, request.state.client)
    seen = await unless_gone(request, work)

    def found() -> bytes:
        image = Image(seen.found.logits, seen.picture, given.asymmetric)
        asked = Asked(seen.found.codes, None, given.k, given.max_distance, where, None, image)
        return json_bytes(service.collection.search(asked))

    began = time.perf_counter()
    body = await service.searching(where).run(found)
    times = {"decode": seen.decode, "network": seen.network, "search": time.perf_counter() - began}
    timing = ", ".join(f"{name};dur={seconds * 1e3:.1f}" for name, seconds in times.items())
    return _json(body, {"Server-Timing": timing})


@ROUTER.post("/v1/search/batch", response_model=doc.BatchAnswer, tags=["search"],
             openapi_extra=body_of(ask.BatchRequest))  # fmt: skip
async def batch(request: Request) -> Response:
    """Several searches, by items or codes, at once."""
    service = _service(request)
    with holding(service.bodies) as held:
        asked = checked(ask.BatchRequest, await read_json(request, held))
    where = asked.filter.filter() if asked.filter else Filter()

    def found() -> bytes:
        queries = [service.collection.query(query.id, query.code) for query in asked.queries]
        return json_bytes(service.collection.batch(queries, asked.k, asked.max_distance, where))

    return _json(await service.searching(where).run(found))


@ROUTER.get("/v1/items", response_model=doc.ListAnswer, tags=["items"])
async def items(
    request: Request,
    k: ask.K = 50,
    cursor: ask.Cursor | None = None,
    label: Annotated[list[ask.Word] | None, Query(max_length=100)] = None,
    filter: Annotated[str | None, Query(max_length=8192, description="The filter as JSON.")] = None,
) -> Response:
    """Items in the gallery's order, of one of the labels, or that pass the filter."""
    service = _service(request)
    if label and filter:
        raise RefusalError(422, "invalid", "give label or filter, and not both")
    where = filter_of(filter) if filter else Filter(labels=tuple(label or ()))
    found = lambda: json_bytes(service.collection.listed(where, k, cursor))  # noqa: E731
    return _json(await service.searching(where).run(found))


@ROUTER.get("/v1/items/{key}", response_model=doc.ItemAnswer, tags=["items"])
async def item(request: Request, key: Key) -> Response:
    """All that is known of an item."""
    service = _service(request)

    def found() -> bytes:
        stored = service.collection.item(name_of(key))
        size, there = service.originals.size(stored.item)
        return json_bytes(service.collection.described(stored, size, there))

    return _json(await service.files.run(found))


@ROUTER.get("/v1/items/{key}/thumbnail", response_class=Response, tags=["items"],
            responses={200: {"content": {"image/jpeg": {}}}, 304: {"description": "It is what you have"}})  # fmt: skip
async def thumbnail(request: Request, key: Key) -> Response:
    """A small JPEG of an item, made from its pixels."""
    service = _service(request)
    stored = await service.files.run(service.collection.item, name_of(key))
    headers = {"ETag": tag_of(stored), "Cache-Control": "private, max-age=600"}
    if is_known(request, tag_of(stored)):
        return Response(status_code=304, headers=headers)
    made = await unless_gone(request, service.thumbnails.of(stored, request.state.client))
    return Response(made, headers=headers, media_type="image/jpeg")


@ROUTER.get("/v1/items/{key}/original", response_class=Response, tags=["items"],
            responses={200: {"content": {"image/*": {}}}, 206: {"description": "A part of it"},
                       304: {"description": "It is what you have"}})  # fmt: skip
async def original(request: Request, key: Key) -> Response:
    """The file of an item as it is, or a part of it (Range)."""
    service = _service(request)
    stored = await service.files.run(service.collection.item, name_of(key))
    found, kind = await service.files.run(service.originals.whole, stored.item)
    headers = {"Cache-Control": "private, max-age=600"}
    if isinstance(found, bytes):
        return Response(found, headers=headers, media_type=kind)
    return unless_known(request, FileResponse(found, headers=headers, media_type=kind))


@ROUTER.post("/v1/items", status_code=202, response_model=doc.JobAccepted, tags=["items"],
             openapi_extra=UPLOAD_BODY)  # fmt: skip
async def add(request: Request) -> Response:
    """Add images. They and the job to add them are on disk when this answers; the job says how it went."""
    service = _service(request)
    if not is_form(request):
        raise RefusalError(415, "unknown-body", "send multipart/form-data with files in the field image")
    jobs = service.jobs
    folder = await service.files.run(jobs.receive)
    try:
        with holding(service.bodies) as held:
            form = await read_form(request, held, most_files=MOST_UPLOADS, folder=folder, space=jobs.space)
        if not form.files:
            raise RefusalError(400, "no-image", "send one file or several, in the field image")
        given = upload_fields(form)
        job = await service.files.run(jobs.accept, folder, form.files, given.labels, replace=given.replace)
    finally:
        await service.files.run_in_place(jobs.discard, folder)
    return answer({"job": job.id, "url": f"v1/jobs/{job.id}"}, status=202)


@ROUTER.delete("/v1/items/{key}", response_model=doc.Removed, tags=["items"])
async def remove(request: Request, key: Key) -> Response:
    """Remove an item from the gallery. A file that was not sent to the service stays where it is."""
    service = _service(request)
    return answer({"removed": await service.writes.run(service.jobs.remove, name_of(key))})


@ROUTER.get("/v1/jobs/{name}", response_model=doc.JobAnswer, tags=["items"])
async def job(request: Request, name: Annotated[str, Path(max_length=64)]) -> Response:
    """How far a job is."""
    service = _service(request)
    found = await service.files.run(service.jobs.of, name)
    return answer(found.facts())


def _json(body: bytes, headers: dict[str, str] | None = None) -> Response:
    return Response(body, headers=headers, media_type="application/json")
