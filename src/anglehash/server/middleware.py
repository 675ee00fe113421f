"""What every request passes on its way in, and every answer on its way out.

Host, origin, rate and key are looked at before anything is read; the body is counted and timed as it comes;
whatever goes wrong leaves as problem+json; every answer carries the headers that keep a browser safe.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from anglehash.server.errors import RefusalError, problem, refusal_of
from anglehash.server.limits import Buckets, spread
from anglehash.server.metrics import Metrics
from anglehash.server.settings import Settings

_log = logging.getLogger("anglehash.cli")

SAFETY = {
    "content-security-policy": (
        "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; "
        "form-action 'self'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}
"""Headers of every answer that does not bring its own."""

HEADER_BYTES = 16 * 2**10
"""Bytes of the first line and the headers of a request, at most."""

_OPEN = ("/", "/healthz", "/readyz", "/openapi.json", "/favicon.ico")
_SEND_SECONDS = 60.0
_UPLOAD_RATE = 100_000
"""Bytes a second: an upload that comes as quickly is not cut off, however large it is."""

_LINGER_SECONDS = 2.0
_WRONG_KEYS = (0.2, 10)  # a second, and at once: for each address


class Middleware:
    """Wraps the application."""

    def __init__(
        self, app: ASGIApp, settings: Settings, metrics: Metrics, draining: Callable[[], bool]
    ) -> None:
        self._app, self._settings, self._metrics, self._draining = app, settings, metrics, draining
        rate = settings.rate_limit
        self._rate = Buckets(rate, max(1.0, rate)) if rate else None
        self._wrong = Buckets(*_WRONG_KEYS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        method = scope["method"]
        # What GET gives is what HEAD gives; uvicorn, which has the request as it came, leaves out the body.
        asked = "GET" if method == "HEAD" else method
        scope = {**scope, "method": asked, "path": self._below_root(scope["path"])}
        scope.setdefault("state", {})["head"] = method == "HEAD"
        exchange = _Exchange(scope, receive, send, self._settings, last=self._draining())
        began = time.monotonic()
        try:
            _check_headers(scope)
            self._admit(scope)
            exchange.check_length()
            await self._app(scope, exchange.receive, exchange.send)
        except Exception as error:
            if exchange.ended:  # the answer to it is out already
                return
            if exchange.status:
                raise  # half an answer: all that is left is to close the connection
            await problem(refusal_of(error))(scope, exchange.receive, exchange.send)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            self._metrics.observe(route, method, exchange.status, time.monotonic() - began)

    def _below_root(self, path: str) -> str:
        """The path as the service has it, whether a proxy has taken its own part away or not."""
        root = self._settings.root_path
        return path[len(root) :] if root and path.startswith(f"{root}/") else path

    def _admit(self, scope: Scope) -> None:
        headers = _headers(scope)
        host = headers.get(b"host", b"").decode("latin-1")
        if not self._settings.answers_to(host):
            raise RefusalError(
                421, "unknown-host", "this service does not answer to that name: see --allow-host"
            )
        if scope["method"] != "GET":
            forwarded = headers.get(b"x-forwarded-host", b"").decode("latin-1")
            _check_origin(headers, {host, *([forwarded] if self._settings.answers_to(forwarded) else [])})
        if scope["path"] == self._settings.root_path != "":
            raise RefusalError(
                307, "elsewhere", "the page ends with a slash",
                headers={"Location": f"{scope['path'].rpartition('/')[2]}/"},
            )  # fmt: skip
        self._check_key(scope, headers)

    def _check_key(self, scope: Scope, headers: dict[bytes, bytes]) -> None:
        path, keys = scope["path"], self._settings.keys
        address = (scope.get("client") or ("", 0))[0]
        role = keys.role(headers.get(b"authorization", b"")) if keys else None
        client = headers[b"authorization"] if role else address
        if self._rate and (wait := self._rate.wait(hash(client))):
            _too_many(wait)
        state = scope["state"]
        state["may_write"] = role == "write"
        state["client"] = hash(client), address
        if path in _OPEN or path.startswith("/static/"):
            return
        if keys and role is None:
            if b"authorization" in headers and (wait := self._wrong.wait(address)):
                _too_many(wait)
            raise RefusalError(
                401, "no-key", "a key is needed: Authorization: Bearer KEY",
                headers={"WWW-Authenticate": "Bearer"},
            )  # fmt: skip
        writes = scope["method"] == "DELETE" or (scope["method"], path) == ("POST", "/v1/items")
        if writes and role != "write":
            needed = (
                "a key for writing is needed" if keys else "adding and removing needs a key: --api-key-file"
            )
            raise RefusalError(403, "read-only", needed)


def _check_headers(scope: Scope) -> None:
    count = len(scope["method"]) + len(scope["raw_path"]) + len(scope["query_string"])
    count += sum(len(name) + len(value) + 4 for name, value in scope["headers"])
    if count > HEADER_BYTES:
        raise large_headers()


def _check_origin(headers: dict[bytes, bytes], hosts: set[str]) -> None:
    """Refuse what a page of another site sends: its visitors did not mean it."""
    origin = headers.get(b"origin")
    same = origin is None or urlsplit(origin.decode("latin-1")).netloc in hosts
    if not same or headers.get(b"sec-fetch-site", b"none") in (b"cross-site", b"same-site"):
        raise RefusalError(403, "cross-origin", "this was sent by a page of another site")


def _too_many(wait: float) -> NoReturn:
    raise RefusalError(
        429, "too-many", "too many requests: slower, please", headers={"Retry-After": str(math.ceil(wait))}
    )


def large_headers() -> RefusalError:
    """The refusal of headers that are too large."""
    return RefusalError(
        431, "large-headers", f"the headers have more than {HEADER_BYTES:,} bytes", hang_up=True
    )


def _headers(scope: Scope) -> dict[bytes, bytes]:
    return dict(scope["headers"])


class _Exchange:
    """One request and its answer: the body counted and timed, the headers completed.

    Attributes:
        status: of the answer, once it has begun.
        ended: whether all of it is sent.
    """

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, settings: Settings, *, last: bool = False
    ) -> None:
        self._scope, self._receive, self._send, self._last = scope, receive, send, last
        uploads = (scope["method"], scope["path"]) == ("POST", "/v1/items")
        self._uploads = uploads
        self._limit = settings.upload_limit if uploads else settings.body_limit
        self._timeout = settings.body_timeout
        self._deadline = time.monotonic() + spread(settings.body_timeout)
        self._count = 0
        self._whole = False  # the body has come
        self._closing = False
        self.status = 0
        self.ended = False

    def check_length(self) -> None:
        """Refuse a body that says of itself that it is too large.

        Raises:
            RefusalError: 413.
        """
        declared = _headers(self._scope).get(b"content-length", b"0")
        if int(declared) > self._limit:  # the parser of HTTP has seen to it that it is a number
            self._too_large()

    async def receive(self) -> Message:
        """The next part of the body.

        Raises:
            RefusalError: 413 or 408.
        """
        if self._whole:
            return await self._receive()
        try:
            async with asyncio.timeout_at(asyncio.get_running_loop().time() + self._left()):
                message = await self._receive()
        except TimeoutError:
            raise RefusalError(
                408, "slow-body", f"the body did not come within {self._timeout:g} s", hang_up=True
            ) from None
        if message["type"] == "http.request":
            self._count += len(message.get("body", b""))
            self._whole = not message.get("more_body", False)
            if self._count > self._limit:
                self._too_large()
        return message

    async def send(self, message: Message) -> None:
        """Send a part of the answer, with the headers that every answer has."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message = {**message, "headers": self._completed(message["headers"])}
        last = message["type"] == "http.response.body" and not message.get("more_body", False)
        if last and self._closing and not self._whole:
            # Closing at once would reset the connection, and the client lose the answer while it still sends.
            await self._out({**message, "more_body": True})
            await self._linger()
            message = {"type": "http.response.body", "body": b""}
        await self._out(message)
        self.ended = self.ended or last

    def _left(self) -> float:
        earned = self._count / _UPLOAD_RATE if self._uploads else 0.0
        return max(0.0, self._deadline + earned - time.monotonic())

    def _too_large(self) -> NoReturn:
        raise RefusalError(
            413, "too-large", f"at most {self._limit:,} bytes are taken: see --body-limit", hang_up=True
        )

    def _completed(self, given: Any) -> list[tuple[bytes, bytes]]:
        headers = [(name.lower(), value) for name, value in given]
        headers = [(n, _relative(v) if n == b"location" else v) for n, v in headers]
        names = {name for name, _ in headers}
        if self._last and b"connection" not in names:
            headers.append((b"connection", b"close"))
        self._closing = (b"connection", b"close") in headers
        return headers + [(n.encode(), v.encode()) for n, v in SAFETY.items() if n.encode() not in names]

    async def _out(self, message: Message) -> None:
        async with asyncio.timeout(_SEND_SECONDS):  # a client that does not read is let go
            await self._send(message)

    async def _linger(self) -> None:
        """Throw away what still comes, for a moment."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_LINGER_SECONDS):
                while True:
                    message = await self._receive()
                    if message["type"] != "http.request" or not message.get("more_body", False):
                        return


def _relative(location: bytes) -> bytes:
    """A redirect to the same path with or without a slash, right behind any proxy: without scheme, host and root.

    >>> _relative(b"http://localhost:8000/v1/items?k=1"), _relative(b"http://localhost:8000/static/")
    (b'../items?k=1', b'static/')
    """
    url = urlsplit(location)
    if not url.scheme:
        return location
    last = url.path.rstrip(b"/").rpartition(b"/")[2]
    place = last + b"/" if url.path.endswith(b"/") else b"../" + last
    return place + (b"?" + url.query if url.query else b"")
