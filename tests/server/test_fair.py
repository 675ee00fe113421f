"""No request may hurt the others: turns, clients that have gone, images that are slow on purpose, decoders."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from anglehash.server.errors import RefusalError
from anglehash.server.image_encoder import WorkerPool
from anglehash.server.limits import FairPool
from tests.server.conftest import FORM, Running, file_part, multipart, serving, until
from tests.server.decoders import hostile


def in_loop(test: Callable[[FairPool], Any], *, threads: int = 1, waiting: int = 8) -> None:
    async def run() -> None:
        pool = FairPool("testing", threads, waiting)
        try:
            await test(pool)
        finally:
            await asyncio.to_thread(pool.close)

    asyncio.run(run())


class Gate:
    """Calls that wait until they may go on, and the order in which they were begun."""

    def __init__(self) -> None:
        self.open, self.begun = threading.Event(), list[str]()

    def call(self, name: str) -> str:
        self.begun.append(name)
        assert self.open.wait(60)
        return name


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def test_clients_take_turns() -> None:
    gate = Gate()

    async def run(pool: FairPool) -> None:
        names = ["a0", "a1", "a2", "a3", "b0", "c0", "b1"]
        calls = [asyncio.create_task(pool.run(name[0], gate.call, name)) for name in names]
        await settled()
        assert pool.pending == 7
        gate.open.set()
        assert await asyncio.gather(*calls) == names
        assert pool.pending == 0

    in_loop(run)
    assert gate.begun == ["a0", "a1", "b0", "c0", "a2", "b1", "a3"]


def test_where_the_queue_is_full_the_greediest_makes_room() -> None:
    gate = Gate()

    async def run(pool: FairPool) -> None:
        calls = {f"a{i}": asyncio.create_task(pool.run("a", gate.call, f"a{i}")) for i in range(5)}
        await settled()
        with pytest.raises(RefusalError, match="wait for testing already"):
            await pool.run("a", gate.call, "a5")
        calls |= {name: asyncio.create_task(pool.run(name[0], gate.call, name)) for name in ("b0", "c0")}
        await settled()
        with pytest.raises(RefusalError):  # two of a, one of b, one of c: nobody has more than a share
            await pool.run("b", gate.call, "b1")
        gate.open.set()
        ended = dict(zip(calls, await asyncio.gather(*calls.values(), return_exceptions=True), strict=True))
        refused = [name for name, result in ended.items() if isinstance(result, RefusalError)]
        assert refused == ["a3", "a4"]
        assert pool.pending == 0

    in_loop(run, waiting=4)
    assert gate.begun == ["a0", "a1", "b0", "c0", "a2"]


def test_who_is_cancelled_leaves_no_place_taken() -> None:
    gate = Gate()

    async def run(pool: FairPool) -> None:
        first = asyncio.create_task(pool.run("a", gate.call, "first"))
        waiting = [asyncio.create_task(pool.run("b", gate.call, f"b{i}")) for i in range(5)]
        last = asyncio.create_task(pool.run("b", gate.call, "last"))
        await settled()
        for call in waiting:
            call.cancel()
        first.cancel()  # its call continues, and its thread is not given away
        await settled()
        assert pool.pending == 2
        assert gate.begun == ["first"]
        gate.open.set()
        assert await last == "last"
        for _ in range(100):  # a turn that has just come, and is not taken up
            one = asyncio.create_task(pool.run("a", gate.call, "one"))
            other = asyncio.create_task(pool.run("b", gate.call, "other"))
            await asyncio.sleep(0)
            await asyncio.wait((one,))
            other.cancel()
            await asyncio.gather(other, return_exceptions=True)
        while pool.pending:
            await asyncio.sleep(0.001)

    in_loop(run)


@pytest.fixture
def hanging(gallery: Path) -> Any:
    """A service whose decoders hang at some images, for half a second."""
    with serving(gallery, workers=2) as running:
        image_encoder = running.service.image_encoder
        usual, image_encoder._decoders = image_encoder._decoders, WorkerPool(hostile, 2, 0.5)
        try:
            yield running
        finally:
            image_encoder._decoders.stop()
            image_encoder._decoders, workers = usual, image_encoder._decoders
            workers.close()


def test_clients_that_have_hung_up_are_not_decoded(hanging: Running) -> None:
    body = multipart(file_part(b"hang"))
    head = f"POST /v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: {FORM['Content-Type']}\r\n"
    head += f"Content-Length: {len(body)}\r\n\r\n"
    images = hanging.service.image_encoder.images
    links = [socket.create_connection(("127.0.0.1", hanging.client.port)) for _ in range(40)]
    for link in links:
        link.sendall(head.encode() + body)
    until(lambda: images.pending == 40)
    for link in links:
        link.close()
    until(lambda: images.pending <= 2)  # those that are being decoded
    assert hanging.client.image(b"no").reason == "damaged"
    until(lambda: images.pending == 0)


def test_an_image_that_takes_too_long_costs_its_time_and_no_more(gallery: Path) -> None:
    """The clock is the parent's; the process that hung is replaced."""
    with serving(gallery, workers=2, decode_timeout=0.5) as running:
        image_encoder = running.service.image_encoder
        usual, image_encoder._decoders = image_encoder._decoders, WorkerPool(hostile, 2, 0.5)
        try:
            with ThreadPoolExecutor(6) as threads:
                answers = list(threads.map(lambda _: running.client.image(b"hang"), range(6)))
            assert {(answer.status, answer.reason) for answer in answers} == {(422, "decoder-timeout")}
        finally:
            image_encoder._decoders.stop()
            image_encoder._decoders.close()
            image_encoder._decoders = usual


def test_there_is_more_than_one_decoder(running: Running) -> None:
    assert running.service.settings.workers > 1
    processes = [worker._process for worker in running.service.image_encoder._decoders._workers]
    assert len({process.pid for process in processes if process}) == running.service.settings.workers


def test_a_thumbnail_that_killed_a_decoder_is_not_tried_again(
    running: Running, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from anglehash.errors import ImageError
    from anglehash.server.gallery_api import key_of

    tried = list[bytes]()

    async def dies(data: bytes, client: object) -> bytes:
        tried.append(data)
        raise ImageError("decoder-timeout", "not done within 15 s")

    service = running.service
    monkeypatch.setattr(service.image_encoder, "thumbnail", dies)
    service.thumbnails._kept.clear()
    for _ in range(3):
        assert running.client.get(f"/v1/items/{key_of('eel/11.jpg')}/thumbnail").reason == "no-image"
    assert len(tried) == 1
    service.thumbnails._dead.clear()


def test_pictures_that_are_searched_by_are_decoded_while_another_is_slow(hanging: Running) -> None:
    with ThreadPoolExecutor(1) as threads:
        slow = threads.submit(hanging.client.image, b"hang")
        until(lambda: hanging.service.image_encoder.images.pending)
        assert hanging.client.image(b"no").reason == "damaged"
        assert slow.result().reason == "decoder-timeout"
