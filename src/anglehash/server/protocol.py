"""HTTP on one connection: uvicorn's protocol, with a deadline for headers, and little work for slow senders.

uvicorn waits for ever for the headers of a request. Here a connection that has not sent them in time is closed.
A request that comes by a few bytes is read at intervals, not byte by byte, so that slow senders hold a socket for
some seconds and nothing else.
"""

from __future__ import annotations

import asyncio
import random
from http import HTTPStatus

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from anglehash.server.errors import RefusalError, problem
from anglehash.server.limits import spread
from anglehash.server.middleware import HEADER_BYTES, large_headers

FEW = 64
"""Bytes: what brings fewer, and no end of the request, comes slowly."""

FIRST_PAUSE, LONGEST_PAUSE = 0.01, 3.0
"""Seconds until more is read of what comes slowly; each time sixteen times as long, and never exactly so: else all
that began together would be read together. A client that sends its headers line by line waits for the first alone."""


def protocol(header_timeout: float, most: int) -> type[H11Protocol]:
    """The protocol of one service.

    Args:
        header_timeout: seconds for the headers of a request, from its first byte, or from the connection.
        most: connections at once; further ones are closed at once.
    """

    class Impatient(H11Protocol):
        """uvicorn's protocol, with a deadline for headers, and pauses."""

        _deadline: asyncio.TimerHandle | None = None
        _pause: asyncio.TimerHandle | None = None
        _pauses = 0
        _quiet_since = 0.0

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._quiet_since = self.loop.time()
            if len(self.connections) > most:
                transport.abort()
                return
            self._start()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop()
            if self._pause is not None:
                self._pause.cancel()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            if self._deadline is None and self._is_idle():
                self._start()
            self._quiet_since = self.loop.time()
            super().data_received(data)
            if not self._is_idle():
                self._stop()
            self._pace(len(data))

        def send_400_response(self, msg: str) -> None:
            """Refuse what is not HTTP, as everything is refused."""
            refusal = RefusalError(400, "no-http", "this is not a request of HTTP/1.1", hang_up=True)
            if len(self.conn.trailing_data[0]) > HEADER_BYTES:
                refusal = large_headers()
            refused = problem(refusal)
            phrase = HTTPStatus(refusal.status).phrase.encode()
            head = h11.Response(status_code=refusal.status, headers=refused.raw_headers, reason=phrase)
            for event in (head, h11.Data(data=bytes(refused.body)), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
            self.transport.close()

        def on_response_complete(self) -> None:
            self._quiet_since = self.loop.time()
            super().on_response_complete()

        def close_if_quiet(self, seconds: float) -> None:
            """Close the connection, if no request is under way and none has come for so long."""
            if self._is_idle() and self.loop.time() - self._quiet_since >= seconds:
                self.shutdown()

        def _pace(self, count: int) -> None:
            """Read on after a pause, where a request comes by a few bytes; the system keeps what comes meanwhile."""
            unfinished = self.conn.their_state in (h11.IDLE, h11.SEND_BODY)
            if count >= FEW or not unfinished or self.transport.is_closing():
                self._pauses = 0
                return
            seconds = min(LONGEST_PAUSE, FIRST_PAUSE * 16**self._pauses) * random.uniform(0.5, 1)
            self._pauses = min(self._pauses + 1, 8)
            self.transport.pause_reading()
            self._pause = self.loop.call_later(seconds, self._read_on)

        def _read_on(self) -> None:
            self._pause = None
            if not self.transport.is_closing() and not self.flow.read_paused:
                self.transport.resume_reading()

        def _is_idle(self) -> bool:
            """Whether no request is under way: its headers have not come, or not all of them."""
            return self.cycle is None or self.cycle.response_complete

        def _start(self) -> None:
            self._deadline = self.loop.call_later(spread(header_timeout), self._too_slow)

        def _stop(self) -> None:
            if self._deadline is not None:
                self._deadline.cancel()
                self._deadline = None

        def _too_slow(self) -> None:
            self._deadline = None
            if self._is_idle() and not self.transport.is_closing():
                self.transport.abort()

    return Impatient
