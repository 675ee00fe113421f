"""Requests that hold under conditions: as long as somebody waits, and unless the client has the answer already."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, Response

from anglehash.server.errors import RefusalError

T = TypeVar("T")


async def unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of work for a client, which is cancelled when the client goes away.

    Args:
        request: its body has been read.
        work: what is to be done.

    Raises:
        ClientDisconnect: it has gone.
    """
    working, gone = asyncio.create_task(work), asyncio.create_task(_gone(request))
    try:
        await asyncio.wait((working, gone), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        working.cancel()
        gone.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def is_known(request: Request, tag: str) -> bool:
    """Whether the client has what has this entity tag."""
    given = request.headers.get("if-none-match", "")
    return any(one.strip().removeprefix("W/") in (tag, "*") for one in given.split(","))


def unless_known(request: Request, file: FileResponse) -> Response:
    """A file, or 304 where the client has it."""
    try:
        status = os.stat(file.path)
    except OSError:
        raise RefusalError(404, "no-image", "the file is not there any more") from None
    file.set_stat_headers(status)
    tag = file.headers["etag"]
    if not is_known(request, tag):
        _check_range(request, status.st_size)
        return Response(headers=file.headers) if request.state.head else file
    return Response(status_code=304, headers={"ETag": tag, "Cache-Control": file.headers["cache-control"]})


def _check_range(request: Request, size: int) -> None:
    """Pass over a Range that is none, as the standard has it, and refuse one past the end of the file.

    Raises:
        RefusalError: 416.
    """
    given = request.headers.get("range", "")
    ranges = [tuple(part.strip().split("-")) for part in given.removeprefix("bytes=").split(",")]
    lawful = given.startswith("bytes=") and all(
        len(r) == 2 and all(not x or (x.isascii() and x.isdigit()) for x in r) and any(r) for r in ranges
    )
    if not lawful or any(first and last and int(first) > int(last) for first, last in ranges):
        request.scope["headers"] = [(n, v) for n, v in request.scope["headers"] if n != b"range"]
    elif any(int(first) >= size if first else int(last) == 0 for first, last in ranges):
        headers = {"Content-Range": f"bytes */{size}"}
        raise RefusalError(416, "no-such-range", f"the file has {size:,} bytes", headers=headers)
