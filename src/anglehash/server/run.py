"""The process: uvicorn with its own protocol, a limit of connections, and an orderly end."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import logging
import select
import signal
import socket
import struct
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import closing
from typing import Any

import uvicorn

from anglehash.errors import ConfigError
from anglehash.gallery.opening import open_gallery
from anglehash.server.app import make_app
from anglehash.server.middleware import HEADER_BYTES
from anglehash.server.protocol import protocol
from anglehash.server.service import Service
from anglehash.server.settings import Settings

GC_YOUNG = 5000
"""New objects after which the youngest are looked through; Python's own 700 is for small programs."""

KEEP_ALIVE, QUIET = 15, 3.0
"""Seconds for which a connection may be idle between requests, and at the end, while the service drains."""

ACCEPT_SECONDS = 1.0
"""For connections that wait to be accepted at the end; without new ones, which Linux keeps away, it takes less."""

BACKLOG = 2048
AT_ONCE = 4
"""Connections that may wait to be accepted, and how many of them are before others have their turn."""


class Server(uvicorn.Server):
    """uvicorn's server; a signal ends it in order, with the exit code 0.

    Args:
        config: uvicorn's.
        stopping: is called when the end begins.
    """

    def __init__(self, config: uvicorn.Config, stopping: Callable[[], None]) -> None:
        super().__init__(config)
        self.stopping = stopping

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen; many that connect together are accepted a few at a time, between what others have asked."""
        await super().startup(sockets)  # which takes the length of the queue for that number
        for listener in sockets or []:
            with contextlib.suppress(OSError):
                listener.listen(BACKLOG)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer whoever has connected, then stop: a connection that waits to be accepted would be reset.

        What comes on a connection that is kept alive is answered too, with ``Connection: close``; when a connection
        has been quiet for a while, its client has nothing under way.
        """
        self.stopping()
        loop = asyncio.get_running_loop()
        end = loop.time() + (self.config.timeout_graceful_shutdown or 0)
        for listener in sockets or []:
            refuse_new(listener)
        empty, latest = 0, loop.time() + ACCEPT_SECONDS
        while (
            sockets and empty < 5 and loop.time() < latest
        ):  # asyncio accepts what waits, and makes it ready
            empty = 0 if select.select(sockets, [], [], 0)[0] else empty + 1
            await asyncio.sleep(0.01)
        for server in self.servers:
            server.close()
        while self.server_state.connections and not self.force_exit and loop.time() < end:
            for connection in list(self.server_state.connections):
                connection.close_if_quiet(min(QUIET, (end - loop.time()) / 2))  # type: ignore[union-attr]
            await asyncio.sleep(0.05)
        self.config.timeout_graceful_shutdown = max(0, round(end - loop.time()))
        await super().shutdown(sockets)

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


def refuse_new(listener: socket.socket) -> None:
    """Have the system drop new connections, where it can: those that wait to be accepted stay."""
    if sys.platform == "linux":
        code = (ctypes.c_uint64 * len(_DROP_SYN))(*_DROP_SYN)
        program = struct.pack("@HP", len(_DROP_SYN), ctypes.addressof(code))
        with contextlib.suppress(OSError):
            listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)


_SO_ATTACH_FILTER = 26
# Berkeley packet filter: load the byte of the TCP flags, keep SYN, drop the packet if it is set, else take all of it.
_DROP_SYN = tuple(
    code | jump_if << 16 | jump_else << 24 | value << 32
    for code, jump_if, jump_else, value in (
        (0x30, 0, 0, 13), (0x54, 0, 0, 2), (0x15, 0, 1, 2), (0x06, 0, 0, 0), (0x06, 0, 0, 0xFFFFFFFF),
    )
)  # fmt: skip


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
        backlog=AT_ONCE,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=max(1, round(settings.drain)),
        h11_max_incomplete_event_size=HEADER_BYTES,
    )
    return Server(config, service.stop_accepting)


def run(target: str, settings: Settings, *, started: Callable[[str], Any]) -> None:
    """Serve a gallery until a signal comes.

    Args:
        target: the gallery.
        settings: how.
        started: receives the address once requests are answered.

    Raises:
        ConfigError: the address cannot be listened on.
        ModelError: gallery or model are damaged.
    """
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
    with (
        closing(listen(settings)) as listener,
        open_gallery(target) as gallery,
        closing(Service(gallery, settings)) as service,
    ):
        service.start()
        _settle()
        started(address_of(listener))
        asyncio.run(make_server(service).serve([listener]))


def address_of(listener: socket.socket) -> str:
    """The address of a service that listens there."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def _settle() -> None:
    """Take what is there now for good: a full garbage collection would look at all of it, for 0.2 s at a time.

    Many connections that come together set one off, and all others would wait.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_YOUNG, 10, 10)


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
