"""What can be set of the service."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass
from pathlib import Path

from anglehash.errors import ConfigError
from anglehash.index import DEFAULT
from anglehash.server.auth import NO_KEYS, Keys

PAGE = Path(__file__).parent / "static"
"""The folder of the page's own files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One service. Times are in seconds, sizes in bytes.

    Attributes:
        host: the address to listen on; another than this machine's own needs a key.
        port: 0 takes a free one.
        keys: who may read and write; without any, everybody may read and nobody write.
        allow_hosts: further names by which clients may call the service.
        body_limit: of a request: an image to search by, or JSON.
        upload_limit: of a request that adds images, all of them together.
        header_timeout: for a request's headers, from when the connection is made or the last answer was given.
        body_timeout: for a request's body.
        drain: how long requests may go on after SIGTERM.
        queue: requests with images that may wait or be worked on; further ones are refused with Retry-After.
        workers: processes that decode query images.
        decode_timeout: for one image to search by.
        rate_limit: requests a second that one client may make; ``None`` for no limit.
        engine: who searches.
        uploads: folder for images that are added; ``None`` for one beside the gallery.
        upload_quota: bytes that this folder may hold; ``None`` for no bound.
        root_path: the path below which a proxy shows the service, such as ``/photos``, if it passes it on.
        trust_proxies: addresses of proxies whose X-Forwarded-For and X-Forwarded-Proto are believed.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    keys: Keys = NO_KEYS
    allow_hosts: tuple[str, ...] = ()
    body_limit: int = 8 * 2**20
    upload_limit: int = 256 * 2**20
    header_timeout: float = 10.0
    body_timeout: float = 30.0
    drain: float = 10.0
    queue: int = 64
    workers: int = 2
    decode_timeout: float = 2.0
    rate_limit: float | None = None
    engine: str = DEFAULT
    uploads: Path | None = None
    upload_quota: int | None = None
    root_path: str = ""
    trust_proxies: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.keys and not is_loopback(self.host):
            raise ConfigError(
                f"{self.host} can be reached from other machines, so keys are needed: give --api-key-file, "
                "a file with lines read:KEY and write:KEY; or stay with --host 127.0.0.1"
            )
        if not 0 <= self.port < 65536:
            raise ConfigError(f"port must be in 0..65535, got {self.port}")
        for name in ("body_limit", "upload_limit", "header_timeout", "body_timeout", "queue", "workers",
                     "decode_timeout"):  # fmt: skip
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name.replace('_', ' ')} must be more than 0, got {getattr(self, name)}")
        if self.drain < 0:
            raise ConfigError(f"the time to drain must be 0 or more, got {self.drain}")
        if self.root_path and (not self.root_path.startswith("/") or self.root_path.endswith("/")):
            raise ConfigError(f"a root path is such as /photos, got {self.root_path!r}")
        if self.rate_limit is not None and self.rate_limit <= 0:
            raise ConfigError(f"a rate limit is a number of requests a second, got {self.rate_limit}")

    @property
    def names(self) -> frozenset[str]:
        """The host names that are answered: a page of another name that resolves to us gets nothing.

        >>> sorted(Settings(allow_hosts=("photos.home",)).names)
        ['127.0.0.1', '::1', 'localhost', 'photos.home']
        """
        own = {"localhost", "127.0.0.1", "::1"}
        if not is_loopback(self.host):
            own |= {self.host.lower(), socket.gethostname().lower()}
        return frozenset(own | {name.lower() for name in self.allow_hosts})

    def answers_to(self, host: str) -> bool:
        """Whether a ``Host`` header names this service.

        An address can be no name that was rebound, so any is right where the service listens on all of them.

        >>> Settings().answers_to("localhost:8000"), Settings().answers_to("evil.example:8000")
        (True, False)
        """
        name = host_name(host)
        if name in self.names:
            return True
        return self.host in ("0.0.0.0", "::") and _address(name) is not None  # noqa: S104


def host_name(host: str) -> str:
    """The name in a ``Host`` header, without the port.

    >>> host_name("[::1]:8000"), host_name("LOCALHOST:1"), host_name("a.b.")
    ('::1', 'localhost', 'a.b')
    """
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower().rstrip(".")


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address.

    >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("0.0.0.0")
    (True, True, False)
    """
    address = _address(host)
    return host == "localhost" if address is None else address.is_loopback


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
