"""B11 of the faults: SIGTERM while two hundred clients ask: everybody who has connected gets an answer."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.server.conftest import FORM, Client, file_part, multipart, picture
from tests.server.test_slow import process

CLIENTS = 200
IMAGE = multipart(file_part(picture(1)))


def request(kind: int) -> bytes:
    if kind % 4 == 0:
        head = f"POST /v1/search HTTP/1.1\r\nContent-Type: {FORM['Content-Type']}\r\nContent-Length: {len(IMAGE)}\r\n"
        return f"{head}Host: localhost\r\n\r\n".encode() + IMAGE
    path = ("/healthz", "/v1/items?k=20", "/")[kind % 3]
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


async def exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, kind: int) -> tuple[int, bool]:
    """The status of an answer, and whether the connection stays open after it."""
    writer.write(request(kind))
    await writer.drain()
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.partition(b"content-length:")[2].split()[0])
    await reader.readexactly(length)
    return int(head.split()[1]), b"connection: close" not in head


async def client(port: int, number: int, seen: Counter[str], ended: asyncio.Event) -> None:
    """Ask again and again, on one connection after the other, until the service takes no more connections."""
    rng = random.Random(number)
    while not ended.is_set():
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionRefusedError:
            seen["refused"] += 1
            return
        except OSError as error:
            seen[f"not connected: {error!r}"] += 1
            return
        try:
            open_ = True
            while open_ and not ended.is_set():
                status, open_ = await exchange(reader, writer, rng.randrange(100))
                seen[str(status)] += 1
                if number % 2:
                    break
                await asyncio.sleep(rng.random() / 5)
        except (OSError, EOFError, asyncio.IncompleteReadError) as error:
            seen[f"reset: {error!r}"] += 1
        finally:
            writer.close()


async def ask_while(port: int, stop: object) -> Counter[str]:
    seen, ended = Counter[str](), asyncio.Event()
    clients = [asyncio.create_task(client(port, i, seen, ended)) for i in range(CLIENTS)]
    while sum(seen.values()) < 2 * CLIENTS:
        await asyncio.sleep(0.02)
    await asyncio.to_thread(stop)  # type: ignore[arg-type]
    await asyncio.wait(clients, timeout=60)
    ended.set()
    await asyncio.gather(*clients)
    return seen


@pytest.mark.parametrize("round_", range(3))
def test_15_nobody_who_has_connected_is_reset(gallery: Path, round_: int) -> None:
    with process(gallery, "--drain", 60, "--queue", 500, "--decode-timeout", 60) as (service, port):
        seen = asyncio.run(ask_while(port, lambda: service.send_signal(signal.SIGTERM)))
        assert service.wait(90) == 0
    assert set(seen) <= {"200", "503", "refused"}, seen
    assert seen["refused"] == CLIENTS


def test_15_connections_that_are_quiet_do_not_hold_up_the_end(gallery: Path) -> None:
    with process(gallery, "--drain", 60) as (service, port):

        async def quiet() -> None:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            reader, kept = await asyncio.open_connection("127.0.0.1", port)
            assert (await exchange(reader, kept, 3)) == (200, True)
            service.send_signal(signal.SIGTERM)
            began = time.monotonic()
            await asyncio.sleep(1)
            assert (await exchange(reader, kept, 3)) == (
                200,
                False,
            )  # it is reported that this was the last one
            assert await asyncio.to_thread(service.wait, 60) == 0
            assert time.monotonic() - began < 30  # and not 60
            writer.close()
            kept.close()

        asyncio.run(quiet())


def test_what_is_ready_says_so(gallery: Path) -> None:
    with process(gallery, "--drain", 60) as (service, port):
        assert Client(port).get("/readyz").status == 200

        async def draining() -> None:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            service.send_signal(signal.SIGTERM)
            await asyncio.sleep(0.5)
            writer.write(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 503 ")
            writer.close()

        asyncio.run(draining())
        assert service.wait(60) == 0
