"""What every request passes on its way in, and every answer on its way out.

Host, origin, rate and key are looked at before anything is read; the body is counted and timed as it comes;
whatever goes wrong leaves as problem+json; every answer carries the headers that keep a browser safe.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from contextlib import suppress
from typing import Any, NoReturn
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from anglehash.serve.web.limits import Buckets, spread
from anglehash.serve.web.metrics import Metrics
from anglehash.serve.web.problems import RefusalError, problem, refusal_of
from anglehash.serve.web.settings import Settings

_log = logging.getLogger("anglehash.serve")

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

_OPEN = ("/", "/healthz", "/readyz", "/openapi.json", "/favicon.ico")
_SEND_SECONDS = 60.0
_UPLOAD_RATE = 100_000
"""Bytes a second: an upload that comes as quickly is not cut off, however large it is."""

_LINGER_SECONDS = 2.0
_WRONG_KEYS = (0.2, 10)  # a second, and at once: for each address


class Guard:
    """Wraps the application."""

    def __init__(self, app: ASGIApp, settings: Settings, metrics: Metrics) -> None:
        self._app, self._settings, self._metrics = app, settings, metrics
        rate = settings.rate_limit
        self._rate = Buckets(rate, max(1.0, rate)) if rate else None
        self._wrong = Buckets(*_WRONG_KEYS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, receive, send, self._settings)
        began = time.monotonic()
        try:
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
            self._metrics.observe(route, scope["method"], exchange.status, time.monotonic() - began)

    def _admit(self, scope: Scope) -> None:
        headers = _headers(scope)
        host = headers.get(b"host", b"").decode("latin-1")
        if not self._settings.answers_to(host):
            raise RefusalError(
                421, "unknown-host", "this service does not answer to that name: see --allow-host"
            )
        if scope["method"] not in ("GET", "HEAD"):
            _check_origin(headers, host)
        self._check_key(scope, headers)

    def _check_key(self, scope: Scope, headers: dict[bytes, bytes]) -> None:
        path, keys = scope["path"], self._settings.keys
        address = (scope.get("client") or ("", 0))[0]
        role = keys.role(headers.get(b"authorization", b"")) if keys else None
        client = headers[b"authorization"] if role else address
        if self._rate and (wait := self._rate.wait(hash(client))):
            _too_many(wait)
        scope.setdefault("state", {})["may_write"] = role == "write"
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


def _check_origin(headers: dict[bytes, bytes], host: str) -> None:
    """Refuse what a page of another site sends: its visitors did not mean it."""
    origin = headers.get(b"origin")
    same = origin is None or urlsplit(origin.decode("latin-1")).netloc == host
    if not same or headers.get(b"sec-fetch-site", b"none") in (b"cross-site", b"same-site"):
        raise RefusalError(403, "cross-origin", "this was sent by a page of another site")


def _too_many(wait: float) -> NoReturn:
    raise RefusalError(
        429, "too-many", "too many requests: slower, please", headers={"Retry-After": str(math.ceil(wait))}
    )


def _headers(scope: Scope) -> dict[bytes, bytes]:
    return dict(scope["headers"])


class _Exchange:
    """One request and its answer: the body counted and timed, the headers completed.

    Attributes:
        status: of the answer, once it has begun.
        ended: whether all of it is sent.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send, settings: Settings) -> None:
        self._scope, self._receive, self._send = scope, receive, send
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
        names = {name for name, _ in headers}
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
