"""44: slow senders are cut off, and others do not notice; 15: what happens at the end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from http.client import HTTPConnection
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from uvicorn.protocols.http.h11_impl import H11Protocol

from anglehash.server import run as server_module
from anglehash.server.auth import Keys
from anglehash.server.gallery_api import key_of
from tests.server.conftest import BOUNDARY, FORM, Client, Running, file_part, picture, serving, until

LEAST = 0.75
"""Of a time limit: a deadline is at least so much of it, and random beyond that (``limits.spread``)."""


def drip(port: int, data: bytes, pause: float = 0.05) -> tuple[float, bytes]:
    """Send a byte at a time until the connection is closed: after how many seconds, and what came back."""
    began, back = time.monotonic(), b""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.settimeout(pause)
        for byte in data:
            try:
                connection.send(bytes([byte]))
                if not (chunk := connection.recv(65536)):
                    break
                back += chunk
            except TimeoutError:
                continue
            except OSError:
                break
        else:
            connection.settimeout(20)
            while chunk := connection.recv(65536):
                back += chunk
    return time.monotonic() - began, back


HEAD = (
    f"POST /v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: {FORM['Content-Type']}\r\n"
    "Content-Length: 100000\r\n\r\n"
).encode()


def test_44_slow_headers_are_cut_off_at_their_deadline(gallery: Path) -> None:
    with serving(gallery, header_timeout=0.5) as running:
        port = running.client.port
        seconds, back = drip(port, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"x" * 10_000)
        assert LEAST * 0.5 <= seconds < 5
        assert back == b""
        with socket.create_connection(("127.0.0.1", port), timeout=10) as silent:
            began = time.monotonic()
            assert silent.recv(1) == b""
            assert 0.3 < time.monotonic() - began < 5
        with socket.create_connection(("127.0.0.1", port), timeout=10) as second:  # after a first request too
            second.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert second.recv(65536).startswith(b"HTTP/1.1 200")
            time.sleep(0.8)  # idle is not a crime
            second.sendall(b"GET /healthz HTTP/1.1\r\nHost: local")
            began = time.monotonic()
            while second.recv(65536):
                pass
            assert 0.3 < time.monotonic() - began < 5


def test_44_slow_bodies_are_cut_off_at_their_deadline(gallery: Path) -> None:
    with serving(gallery, body_timeout=0.5) as running:
        begin = b"--" + BOUNDARY.encode() + b"\r\n" + file_part(b"\xff\xd8\xff")
        began = time.monotonic()
        with socket.create_connection(("127.0.0.1", running.client.port), timeout=20) as connection:
            connection.sendall(HEAD + begin)
            back = b""
            while chunk := connection.recv(65536):
                back += chunk
        assert time.monotonic() - began < 8
        assert back.startswith(b"HTTP/1.1 408 ")
        assert b'"reason":"slow-body"' in back
        assert running.service.bodies.used == 0


def test_44_many_slow_senders_hold_sockets_and_nothing_else(
    gallery: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(gallery, header_timeout=2, body_timeout=2) as running:
        port, client = running.client.port, running.client
        request = {"id": "cat/00.jpg", "k": 5}

        def seconds() -> float:
            began = time.monotonic()
            assert client.post("/v1/search", request).status == 200
            return time.monotonic() - began

        alone = median(seconds() for _ in range(30))
        slow = [socket.create_connection(("127.0.0.1", port)) for _ in range(200)]
        try:
            for number, connection in enumerate(slow):
                connection.sendall(HEAD if number % 2 else HEAD[:40])
            until(lambda: len(running.server.server_state.connections) >= 200)
            beside = median(seconds() for _ in range(30))
            assert beside < 3 * alone + 0.02
            until(lambda: not running.server.server_state.connections, 15)  # all of them are cut off
        finally:
            for connection in slow:
                connection.close()


def test_44_what_comes_byte_by_byte_is_read_at_intervals(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = list[bytes]()
    data = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Padding: " + b"x" * 60 + b"\r\n\r\n"
    received = H11Protocol.data_received

    def noted(self: H11Protocol, data: bytes) -> None:
        reads.append(data)
        received(self, data)

    monkeypatch.setattr(H11Protocol, "data_received", noted)
    with socket.create_connection(("127.0.0.1", running.client.port), timeout=20) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in data:
            connection.send(bytes([byte]))
            time.sleep(0.002)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
    assert b"".join(reads) == data
    assert len(reads) < len(data) / 5


def test_clients_that_go_away_are_no_news(gallery: Path, caplog: pytest.LogCaptureFixture) -> None:
    with serving(gallery) as running:
        for body in (b"", multipart_start()):
            with socket.create_connection(("127.0.0.1", running.client.port)) as connection:
                connection.sendall(HEAD + body)
        json_head = HEAD.replace(FORM["Content-Type"].encode(), b"application/json")
        with socket.create_connection(("127.0.0.1", running.client.port)) as connection:
            connection.sendall(json_head + b"{")
        until(lambda: not running.server.server_state.connections and not running.server.server_state.tasks)
        assert running.service.bodies.used == 0
    assert caplog.text == ""


def multipart_start() -> bytes:
    return b"--" + BOUNDARY.encode() + b"\r\n" + file_part(b"\xff\xd8\xff")


def test_small_answers_are_sent_at_once(gallery: Path) -> None:
    """Headers and body leave apart; with Nagle's algorithm the second would wait 40 ms for the first."""
    with serving(gallery) as running, closing(HTTPConnection("127.0.0.1", running.client.port)) as connection:
        connection.request("GET", "/healthz")
        assert connection.getresponse().read() == b'{"status":"ok"}'
        (served,) = running.server.server_state.connections
        there = served.transport.get_extra_info("socket")
        assert there.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_connections_past_the_limit_are_closed(gallery: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "_most_connections", lambda: 5)
    with serving(gallery) as running:
        with ExitStack() as held:
            for _ in range(5):
                held.enter_context(socket.create_connection(("127.0.0.1", running.client.port)))
            until(lambda: len(running.server.server_state.connections) == 5)
            with socket.create_connection(("127.0.0.1", running.client.port), timeout=10) as sixth:
                assert received(sixth) == b""
        until(lambda: not running.server.server_state.connections)
        assert running.client.get("/healthz").status == 200


def received(connection: socket.socket) -> bytes:
    """What comes until the other side closes the connection, in whatever way."""
    found = b""
    with suppress(ConnectionResetError):
        while chunk := connection.recv(65536):
            found += chunk
    return found


@contextmanager
def process(*arguments: object) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """``anglehash serve`` as people run it, and its port."""
    command = [sys.executable, "-m", "anglehash", "serve", *map(str, arguments), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as started:
        try:
            assert started.stderr is not None
            line = started.stderr.readline()
            assert " is served at http://127.0.0.1:" in line, line
            yield started, int(line.rstrip().rstrip("/").rpartition(":")[2])
        finally:
            started.kill()


def resident(pid: int) -> int:
    """Bytes of memory that a process uses."""
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmRSS"))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_15_sigterm_drains_and_43_a_large_upload_takes_no_memory(gallery: Path) -> None:
    """A request under way is finished, one half sent is cut off, the exit code is 0; 43 before that: < 10 MB."""
    with process(gallery, "--drain", 2) as (service, port):
        client = Client(port)
        for i in range(3):
            assert client.image(picture(i)).status == 200
        before, most = resident(service.pid), 0
        head = HEAD.replace(b"Content-Length: 100000", b"Transfer-Encoding: chunked")
        with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
            connection.sendall(head)
            data = b"--" + BOUNDARY.encode() + b"\r\n" + file_part(b"\xff\xd8\xff" + b"x" * 2**20)
            sent, cut_off, deadline = 0, False, time.monotonic() + 20
            try:
                while time.monotonic() < deadline:
                    connection.sendall(b"%x\r\n%s\r\n" % (len(data), data))
                    sent += len(data)
                    data = b"x" * 2**20
                    most = max(most, resident(service.pid))
            except OSError:
                cut_off = True
        assert cut_off  # two seconds after the answer; a fast machine takes gigabytes in that time
        assert sent >= 8 * 2**20  # what came after the answer was thrown away
        assert most - before < 10 * 2**20 + 2 * 2**20  # the limit of 8 MiB, and what a malloc leaves behind

        half = socket.create_connection(("127.0.0.1", port))
        half.sendall(HEAD)
        with ThreadPoolExecutor(1) as threads:
            whole = threads.submit(client.image, picture(1))
            time.sleep(0.05)
            began = time.monotonic()
            service.send_signal(signal.SIGTERM)
            assert whole.result().status in (200, 503)
            assert service.wait(20) == 0
        assert time.monotonic() - began < 15
        half.close()
        with pytest.raises(OSError, match="refused"):
            client.get("/healthz")


def test_what_cannot_be_served_is_said_in_one_line(gallery: Path, tmp_path: Path, anglehash: Any) -> None:
    refused = anglehash("serve", gallery, "--host", "0.0.0.0")
    assert (refused.code, refused.err.count("\n")) == (1, 1)
    assert "--api-key-file" in refused.err
    assert anglehash("serve", tmp_path / "nothing", "--port", "0").code == 1
    with socket.create_server(("127.0.0.1", 0)) as taken:
        refused = anglehash("serve", gallery, "--port", taken.getsockname()[1])
        assert (refused.code, "choose another --port" in refused.err) == (1, True)
    (tmp_path / "keys").write_text("nonsense\n")
    assert "line 1" in anglehash("serve", gallery, "--api-key-file", tmp_path / "keys").err
    (tmp_path / "keys").write_bytes(b"read:caf\xe9\n")
    assert "is not text" in anglehash("serve", gallery, "--api-key-file", tmp_path / "keys").err
    (tmp_path / "keys").write_bytes(b"\xef\xbb\xbfread:k\r\n")
    assert Keys.read(tmp_path / "keys").role(b"Bearer k") == "read"
    assert anglehash("serve", gallery, "--body-limit", "much").code == 2
    assert "a free one" in anglehash("serve", "--help").out


def test_two_services_with_the_same_keys_take_each_others_cursors(gallery: Path, keys: Keys) -> None:
    from tests.server.conftest import READ

    with serving(gallery, keys=keys) as first, serving(gallery, keys=keys) as second:
        cursor = first.client.with_key(READ).get("/v1/items?k=2").json["next_cursor"]
        answer = second.client.with_key(READ).get(f"/v1/items?k=2&cursor={cursor}")
        assert answer.status == 200
        address = f"/v1/items/{key_of('cat/00.jpg')}"
        assert os.path.basename(second.client.with_key(READ).get(address).json["item"])
