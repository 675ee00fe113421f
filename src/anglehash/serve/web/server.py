"""The process: uvicorn with deadlines for headers, a limit of connections, and an orderly end.

uvicorn waits for ever for the headers of a request. Here a connection that has not sent them in time is closed,
so that slow senders hold a socket for some seconds and nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import closing
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from anglehash.errors import ConfigError
from anglehash.search.remote.opening import open_any
from anglehash.serve.web.limits import spread
from anglehash.serve.web.problems import RefusalError, problem
from anglehash.serve.web.service import Service, make_app
from anglehash.serve.web.settings import Settings

HEADER_BYTES = 16 * 2**10
KEEP_ALIVE = 15
"""Seconds for which a connection may be idle between requests."""

BACKLOG = 2048


def protocol(header_timeout: float, most: int) -> type[H11Protocol]:
    """The protocol of one service.

    Args:
        header_timeout: seconds for the headers of a request, from its first byte, or from the connection.
        most: connections at once; further ones are closed at once.
    """

    class Impatient(H11Protocol):
        """uvicorn's protocol, with a deadline for headers."""

        _deadline: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            if len(self.connections) > most:
                transport.abort()
                return
            self._start()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            if self._deadline is None and self._is_idle():
                self._start()
            super().data_received(data)
            if not self._is_idle():
                self._stop()

        def send_400_response(self, msg: str) -> None:
            """Refuse what is no HTTP, as everything is refused."""
            refused = problem(RefusalError(400, "no-http", "this is not a request of HTTP/1.1", hang_up=True))
            head = h11.Response(status_code=400, headers=refused.raw_headers, reason=b"Bad Request")
            for event in (head, h11.Data(data=bytes(refused.body)), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
            self.transport.close()

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


class Server(uvicorn.Server):
    """uvicorn's server; a signal ends it in order, with the exit code 0."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Hear signals while it runs, and do not raise them again at its end."""
        if threading.current_thread() is not threading.main_thread():  # where nobody can listen
            yield
            return
        before = {
            number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def listen(settings: Settings) -> socket.socket:
    """A socket that listens where the settings say.

    Raises:
        ConfigError: the address is taken, or none of this machine's.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # Named as TCP: else asyncio does not know it, lets the system wait with small answers, and each costs 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"cannot listen on {settings.host} port {settings.port}: {error.strerror}; choose another --port"
        ) from error
    return listener


def make_server(service: Service) -> Server:
    """The server of a service that has started."""
    settings = service.settings
    config = uvicorn.Config(
        make_app(service),
        http=protocol(settings.header_timeout, _most_connections()),
        ws="none",
        loop="asyncio",
        log_config=None,  # we log ourselves, and never an address
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=max(1, round(settings.drain)),
        h11_max_incomplete_event_size=HEADER_BYTES,
    )
    return Server(config)


def run(target: str, settings: Settings, *, started: Callable[[str], Any]) -> None:
    """Serve a gallery until a signal comes.

    Args:
        target: the gallery.
        settings: how.
        started: is told the address once requests are answered.

    Raises:
        ConfigError: the address cannot be listened on.
        ModelError: gallery or model are damaged.
    """
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
    with (
        closing(listen(settings)) as listener,
        open_any(target) as gallery,
        closing(Service(gallery, settings)) as service,
    ):
        service.start()
        started(address_of(listener))
        asyncio.run(make_server(service).serve([listener]))


def address_of(listener: socket.socket) -> str:
    """The address of a service that listens there."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def _most_connections() -> int:
    """As many as there may be open files, less those that the service needs itself."""
    if sys.platform == "win32":
        return 1000
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(8192, hard) if hard != resource.RLIM_INFINITY else 8192
    if soft < wanted:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
    return max(64, soft - 128)
