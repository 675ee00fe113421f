"""Services that run in this process, on a port of their own, and a client that knows nothing but HTTP."""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("fastapi", reason="the service needs the extra serve")

from anglehash.cli.main import cli
from anglehash.gallery.gallery import Gallery
from anglehash.gallery.opening import open_gallery
from anglehash.server.auth import Keys
from anglehash.server.run import Server, listen, make_server
from anglehash.server.service import Service
from anglehash.server.settings import Settings
from tests.cli.conftest import anglehash as anglehash

READ, WRITE = "a-key-for-reading", "a-key-for-writing"

BOUNDARY = "----a-boundary"


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def reason(self) -> str:
        assert self.headers["content-type"] == "application/problem+json"
        found = self.json
        assert found["status"] == self.status
        assert found.keys() == {"type", "title", "status", "detail", "reason"}
        return str(found["reason"])


@dataclass
class Client:
    """Talks to a service, over a new connection for each request."""

    port: int
    headers: dict[str, str] = field(default_factory=dict)

    def send(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Answer:
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)) as connection:
            connection.request(
                method, f"/{path.removeprefix('/')}", body, {**self.headers, **(headers or {})}
            )
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, found, answer.read())

    def get(self, path: str, **headers: str) -> Answer:
        return self.send("GET", path, headers=headers)

    def post(self, path: str, value: Any) -> Answer:
        return self.send("POST", path, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def form(self, path: str, *parts: bytes, end: bool = True) -> Answer:
        return self.send("POST", path, multipart(*parts, end=end), FORM)

    def image(self, data: bytes, name: str = "query.jpg", **fields: str) -> Answer:
        texts = [text_part(key, value) for key, value in fields.items()]
        return self.form("/v1/search", *texts, file_part(data, name))

    def with_key(self, key: str) -> Client:
        return Client(self.port, {"Authorization": f"Bearer {key}"})


FORM = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


def text_part(name: str, value: str) -> bytes:
    return f'Content-Disposition: form-data; name="{name}"\r\n\r\n{value}'.encode()


def file_part(data: bytes, filename: str = "a.jpg", name: str = "image") -> bytes:
    head = f'Content-Disposition: form-data; name="{name}"; filename="{filename}"\r\n'
    return f"{head}Content-Type: application/octet-stream\r\n\r\n".encode("utf-8", "surrogateescape") + data


def multipart(*parts: bytes, end: bool = True) -> bytes:
    body = b"".join(b"--" + BOUNDARY.encode() + b"\r\n" + part + b"\r\n" for part in parts)
    return body + (b"--" + BOUNDARY.encode() + b"--\r\n" if end else b"")


def picture(seed: int, *, size: tuple[int, int] = (40, 32), kind: str = "JPEG", **options: Any) -> bytes:
    """The bytes of an image file, of blurred noise."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    stream = BytesIO()
    small.resize(size, Image.Resampling.BICUBIC).save(stream, kind, **options)
    return stream.getvalue()


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty pictures of three classes, one of them with a hostile name, and one that is not a picture."""
    folder = tmp_path_factory.mktemp("web") / "photos"
    for c, label in enumerate(["cat", "dog", "eel"]):
        (folder / label).mkdir(parents=True)
        for i in range(20):
            (folder / label / f"{i:02d}.jpg").write_bytes(picture(100 * c + i % 15))
    (folder / "cat" / "<img src=x onerror=alert(1)>.png").write_bytes(picture(7, kind="PNG"))
    (folder / "dog" / "broken.jpg").write_bytes(b"\xff\xd8\xff but no more")
    return folder


@pytest.fixture(scope="session")
def gallery(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Their gallery, of 16 bits; nobody changes it."""
    folder = tmp_path_factory.mktemp("web-gallery")
    train = [
        "train",
        photos,
        "-o",
        folder / "model",
        "--bits",
        16,
        "--backbone",
        "tiny",
        "--image-size",
        16,
        "--epochs",
        2,
    ]
    cli.main(list(map(str, train)), standalone_mode=False)
    cli.main(
        ["index", str(folder / "model"), str(photos), "-o", str(folder / "gallery")], standalone_mode=False
    )
    return folder / "gallery"


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    path = tmp_path_factory.mktemp("keys") / "keys"
    path.write_text(f"# for the tests\nread:{READ}\n\nwrite:{WRITE}\n")
    return Keys.read(path)


@dataclass
class Running:
    """A service that is running."""

    client: Client
    service: Service
    server: Server


@contextmanager
def serving(gallery: Path | str, **options: Any) -> Iterator[Running]:
    """Serve a gallery while the block lasts."""
    settings = Settings(port=0, **{"decode_timeout": 30.0, **options})  # the machine may be busy
    with (
        closing(listen(settings)) as listener,
        open_gallery(str(gallery)) as opened,
        closing(Service(opened, settings)) as service,
    ):
        service.start()
        server = make_server(service)
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])))
        thread.start()
        until(lambda: server.started)
        try:
            yield Running(Client(listener.getsockname()[1]), service, server)
        finally:
            server.should_exit = True
            thread.join()


def until(happened: Callable[[], Any], seconds: float = 30) -> Any:
    """Wait for something to be true, and return it."""
    end = time.monotonic() + seconds
    while not (found := happened()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)
    return found


@pytest.fixture(scope="session")
def running(gallery: Path) -> Iterator[Running]:
    """A service without keys, for all tests that change nothing."""
    with serving(gallery) as found:
        yield found


@pytest.fixture(scope="session")
def client(running: Running) -> Client:
    return running.client


@pytest.fixture(scope="session")
def opened(gallery: Path) -> Gallery:
    return Gallery.open(gallery)
