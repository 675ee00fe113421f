"""What requests are refused, and what every answer carries; numbers are those of the fault list."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from anglehash.errors import ConfigError
from anglehash.server.auth import Keys
from anglehash.server.errors import RefusalError
from anglehash.server.gallery_api import key_of
from anglehash.server.middleware import SAFETY, _Exchange
from anglehash.server.settings import Settings
from tests.server.conftest import (
    BOUNDARY,
    FORM,
    READ,
    WRITE,
    Client,
    Running,
    file_part,
    multipart,
    picture,
    serving,
    text_part,
)  # fmt: skip


@pytest.fixture(scope="module")
def keyed(gallery: Path, keys: Keys, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    uploads = tmp_path_factory.mktemp("uploads")
    with serving(gallery, keys=keys, body_limit=300_000, upload_limit=400_000, uploads=uploads) as found:
        yield found


def raw(port: int, *pieces: bytes, pause: float = 0.0) -> bytes:
    """What comes back for bytes that are sent as they are."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        for piece in pieces:
            connection.sendall(piece)
            time.sleep(pause)
        answer = b""
        try:
            while chunk := connection.recv(65536):
                answer += chunk
        except ConnectionResetError:
            pass
        return answer


def test_every_answer_is_safe_for_a_browser(client: Client) -> None:
    """48: CSP, nosniff, and no cache of what is private; also on errors."""
    for path in ("/v1/gallery", "/nothing", "/metrics", f"/v1/items/{key_of('cat/00.jpg')}/thumbnail"):
        headers = client.get(path).headers
        for name in SAFETY.keys() - {"cache-control"}:
            assert headers[name] == SAFETY[name]
        assert "cache-control" in headers
        assert "server" not in headers
    assert SAFETY["content-security-policy"].startswith("default-src 'self'; img-src 'self' blob: data:;")


def test_errors_are_problems_with_a_reason(client: Client) -> None:
    assert client.get("/nothing").reason == "no-such-path"
    refused = client.send("PUT", "/v1/search")
    assert (refused.status, refused.reason, refused.headers["allow"]) == (405, "no-such-method", "POST")
    assert client.get("/v1/items?k=0").reason == "invalid"
    assert client.get("/v1/items/!!").reason == "no-item"
    assert client.get("/static/nothing.js").reason == "no-such-path"
    assert client.get("/v1/jobs/" + "0" * 32).reason == "no-job"


@pytest.mark.parametrize(
    "value",
    [
        {"id": "cat/00.jpg", "k": 0},
        {"id": "cat/00.jpg", "k": -1},
        {"id": "cat/00.jpg", "k": 10**9},
        {"id": "cat/00.jpg", "k": 2.5},
        {"id": "cat/00.jpg", "k": "5"},
        {"id": "cat/00.jpg", "k": True},
        {"id": "cat/00.jpg", "max_distance": 17},
        {"id": "cat/00.jpg", "max_distance": -1},
        {"id": "cat/00.jpg", "code": "ffff"},
        {"id": ["cat/00.jpg"]},
        {"id": "cat/00.jpg", "cursor": "made-up"},
        {"id": "cat/00.jpg", "kk": 3},
        {"id": "cat/00.jpg", "filter": {"label": "cat"}},
        {"id": "cat/00.jpg", "filter": {"after": "yesterday"}},
        {"id": "cat/00.jpg", "filter": {"before": "0001-01-01"}},
        {"id": "cat/00.jpg", "filter": {"after": "9999-12-31T23:59:59+00:00"}},
        {"id": "cat/00.jpg", "filter": {"where": {"year": {"~": 1}}}},
        {"id": "cat/00.jpg", "filter": {"labels": ["x"] * 101}},
        {"code": "fff"},
        {"code": "ff"},
        {"code": "zz" * 2},
        {"code": ""},
        {},
        [],
        None,
        "cat/00.jpg",
    ],
    ids=lambda value: json.dumps(value)[:60],
)
def test_51_a_search_that_makes_no_sense_is_422(client: Client, value: Any) -> None:
    answer = client.post("/v1/search", value)
    assert (answer.status, answer.reason) == (422, "invalid")


@pytest.mark.parametrize("body", [b"", b"{", b'{"id": NaN}', b"[" * 100_000, b"\xff\xfe", b'{"k": 1e999}'])
def test_51_what_is_not_json_is_422(client: Client, body: bytes) -> None:
    answer = client.send("POST", "/v1/search", body, {"Content-Type": "application/json"})
    assert answer.status == 422


def test_51_an_id_that_is_not_there_is_404(client: Client) -> None:
    assert client.post("/v1/search", {"id": "cat/99.jpg"}).reason == "no-item"
    assert client.post("/v1/search", {"id": "caf\udce9"}).reason == "no-item"  # a byte that is not UTF-8


def test_51_a_cursor_that_was_changed_or_is_of_another_search_is_refused(client: Client) -> None:
    cursor = client.post("/v1/search", {"id": "cat/00.jpg", "k": 3}).json["next_cursor"]
    assert client.post("/v1/search", {"id": "cat/00.jpg", "k": 3, "cursor": cursor}).status == 200
    for place in range(0, len(cursor), 7):
        changed = cursor[:place] + ("A" if cursor[place] != "A" else "B") + cursor[place + 1 :]
        answer = client.post("/v1/search", {"id": "cat/00.jpg", "cursor": changed})
        assert (answer.status, answer.reason) == (422, "invalid")
    assert client.post("/v1/search", {"id": "dog/01.jpg", "cursor": cursor}).status == 422
    listed = client.get("/v1/items?k=3").json["next_cursor"]
    assert client.get(f"/v1/items?k=3&cursor=9{listed}").status == 422
    assert client.post("/v1/search", {"id": "cat/00.jpg", "cursor": listed}).status == 422


@pytest.mark.parametrize("junk", [b"\x16\x03\x01\x02\x00", b"GET\r\n\r\n", b"GET / HTTP/1.1\r\nA b\r\n\r\n"])
def test_what_is_not_http_is_a_problem_too(client: Client, junk: bytes) -> None:
    answer = raw(client.port, junk + b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b'"reason":"no-http"' in answer
    assert b"application/problem+json" in answer


def test_a_body_of_another_kind_is_415(client: Client) -> None:
    assert client.send("POST", "/v1/search", b"a=b", {"Content-Type": "text/plain"}).reason == "unknown-body"
    assert client.send("POST", "/v1/search", b"a=b").status == 415


def test_43_a_declared_body_past_the_limit_is_413_before_it_comes(keyed: Running) -> None:
    head = f"POST /v1/search HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {READ}\r\n"
    answer = raw(keyed.client.port, f"{head}Content-Length: {2 * 2**30}\r\nContent-Type: x\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in answer.lower()  # and it was: the reading has ended
    assert b'"reason":"too-large"' in answer
    assert keyed.service.bodies.used == 0


@pytest.mark.parametrize("path", ["/v1/search", "/v1/items"])
def test_43_a_chunked_body_is_cut_at_the_limit(keyed: Running, path: str, tmp_path: Path) -> None:
    part = file_part(picture(1)).split(b"\xff\xd8")[0] + b"\xff\xd8\xff"
    begin = b"--" + BOUNDARY.encode() + b"\r\n" + part
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {WRITE}\r\n"
        f"Content-Type: {FORM['Content-Type']}\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    chunk = b"x" * 65536
    body = [f"{len(data):x}\r\n".encode() + data + b"\r\n" for data in [begin, *[chunk] * 40]]
    began = time.monotonic()
    answer = raw(keyed.client.port, head.encode(), *body)
    assert b"HTTP/1.1 413 " in answer
    assert time.monotonic() - began < 10
    assert keyed.service.bodies.used == 0
    uploads = keyed.service.settings.uploads
    assert uploads is not None
    assert [file for file in uploads.rglob("*") if file.is_file() and file.suffix != ".lock"] == []


def test_46_forms_that_are_none(keyed: Running) -> None:
    """Too many parts, no end, endless headers, no name, no boundary: 400 or 413, and nothing is left."""
    client = keyed.client.with_key(WRITE)
    many = [text_part(f"field{i}", "x") for i in range(10_000)]
    for path in ("/v1/search", "/v1/items"):
        assert client.form(path, *many).status in (400, 413)
        assert client.form(path, file_part(picture(1)), end=False).reason == "bad-form"
        huge = b"X-Long: " + b"x" * 100_000 + b"\r\n\r\n"
        assert client.form(path, huge).reason == "bad-form"
        assert client.form(path, b"Content-Disposition: form-data\r\n\r\nx").reason == "bad-form"
        assert client.form(path, text_part("labels", "x"), text_part("labels", "y")).reason == "bad-form"
        assert client.form(path, text_part("labels", "x" * 70_000)).reason == "too-large"
        assert client.form(path, file_part(b"x", name="other")).reason == "bad-form"
        assert client.form(path).status == 400
        for kind in ("multipart/form-data", f"multipart/form-data; boundary={'b' * 71}"):
            answer = client.send("POST", path, multipart(file_part(b"x")), {"Content-Type": kind})
            assert answer.reason == "bad-form"
        assert client.send("POST", path, b"no form at all", FORM).reason == "bad-form"
    assert client.form("/v1/search", *[file_part(picture(i)) for i in range(10)]).reason == "too-many-files"
    assert client.form("/v1/search", text_part("k", "3")).reason == "no-image"
    assert client.form("/v1/search", text_part("k", "three"), file_part(picture(1))).reason == "invalid"
    assert client.form("/v1/search", text_part("kk", "3"), file_part(picture(1))).reason == "invalid"
    assert client.form("/v1/search", text_part("filter", "{"), file_part(picture(1))).reason == "invalid"
    assert keyed.service.bodies.used == 0
    uploads = keyed.service.settings.uploads
    assert uploads is not None
    assert [file for file in uploads.rglob("*") if file.is_file() and file.suffix != ".lock"] == []


@pytest.mark.parametrize("name", ["../../x.jpg", "a\0b.jpg", "/etc/passwd", "caf\udce9.jpg", "", "x" * 5000])
def test_46_the_name_of_a_query_means_nothing(client: Client, photos: Path, name: str) -> None:
    data = (photos / "cat" / "02.jpg").read_bytes()
    answer = client.image(data, name, k="1")
    if len(name) < 1000:
        assert answer.json == client.image(data, k="1").json
    else:
        assert answer.status == 400  # a header is at most 4 KiB


@pytest.mark.parametrize(
    "path",
    [
        "/v1/items/..%2f..%2fetc%2fpasswd/thumbnail",
        "/v1/items/%2Fetc%2Fpasswd/thumbnail",
        f"/v1/items/{key_of('/etc/passwd')}/thumbnail",
        f"/v1/items/{key_of('../../../../etc/passwd')}/thumbnail",
        f"/v1/items/{key_of('dog/broken.jpg')}/thumbnail",
        "/v1/items/../../etc/passwd",
        "/static/..%2f..%2f__init__.py",
        "/static/../web/server.py",
        "/static//etc/passwd",
    ],
)
def test_47_only_items_are_served(client: Client, path: str) -> None:
    assert client.get(path).status == 404


def test_48_pages_of_other_sites_get_nothing(keyed: Running) -> None:
    client = keyed.client.with_key(WRITE)
    body = json.dumps({"id": "cat/00.jpg"}).encode()
    for origin in ("https://evil.example", "null", f"http://localhost:{client.port + 1}", "garbage"):
        headers = {"Content-Type": "application/json", "Origin": origin}
        assert client.send("POST", "/v1/search", body, headers).reason == "cross-origin"
        place = f"/v1/items/{key_of('cat/00.jpg')}"
        assert client.send("DELETE", place, headers={"Origin": origin}).reason == "cross-origin"
    own = {"Content-Type": "application/json", "Origin": f"http://127.0.0.1:{client.port}"}
    assert client.send("POST", "/v1/search", body, own).status == 200
    foreign = {"Content-Type": "application/json", "Sec-Fetch-Site": "cross-site"}
    assert client.send("POST", "/v1/search", body, foreign).reason == "cross-origin"


def test_48_names_that_were_rebound_are_refused(client: Client) -> None:
    for host in (
        "evil.example",
        "evil.example:80",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "[::2]",
    ):
        answer = client.get("/", Host=host)
        assert (answer.status, answer.reason) == (421, "unknown-host")
    for host in ("localhost", f"LOCALHOST:{client.port}", "[::1]:80"):
        assert client.get("/healthz", Host=host).status == 200
    assert b"421" in raw(client.port, b"GET / HTTP/1.0\r\n\r\n")


def test_49_keys(keyed: Running) -> None:
    client = keyed.client
    for path in (
        "/v1/gallery",
        "/v1/items",
        "/metrics",
        f"/v1/items/{key_of('cat/00.jpg')}/thumbnail",
        "/nothing",
    ):
        assert client.get(path).reason == "no-key"
        assert client.get(path).headers["www-authenticate"] == "Bearer"
        assert client.with_key(READ + "x").get(path).reason == "no-key"
    for path in ("/healthz", "/readyz", "/openapi.json"):
        assert client.get(path).status == 200
    assert client.get("/v1/gallery", Authorization=f"Basic {READ}").status == 401
    assert client.get(f"/v1/gallery?key={READ}").status == 401
    assert client.get("/v1/gallery", Authorization=f"bearer  {READ}").status == 200
    assert client.with_key(READ).get("/v1/gallery").json["can_write"] is False
    writer = client.with_key(WRITE).get("/v1/gallery").json
    assert (writer["can_write"], writer["needs_key"]) == (True, True)
    assert client.with_key(READ).form("/v1/items", file_part(picture(1))).reason == "read-only"
    assert client.with_key(READ).send("DELETE", f"/v1/items/{key_of('cat/00.jpg')}").reason == "read-only"


def test_49_without_a_key_file_nobody_writes(client: Client) -> None:
    assert client.form("/v1/items", file_part(picture(1))).reason == "read-only"
    assert client.send("DELETE", f"/v1/items/{key_of('cat/00.jpg')}").reason == "read-only"


def test_49_wrong_keys_and_fast_clients_are_slowed_down(gallery: Path, keys: Keys) -> None:
    with serving(gallery, keys=keys, rate_limit=5) as running:
        wrong = [running.client.with_key(f"guess-{i}").get("/v1/gallery").status for i in range(40)]
        assert wrong[0] == 401
        assert 429 in wrong
        right = [running.client.with_key(READ).get("/v1/gallery") for _ in range(12)]
        assert right[0].status == 200  # the wrong ones do not count against it
        late = [answer for answer in right if answer.status == 429]
        assert late
        assert int(late[0].headers["retry-after"]) >= 1


def test_49_keys_are_never_logged(keyed: Running, caplog: pytest.LogCaptureFixture) -> None:
    keyed.client.with_key(READ + "-wrong").get("/v1/gallery")
    keyed.client.with_key(WRITE).get("/nothing")
    metrics = keyed.client.with_key(READ).get("/metrics").body.decode()
    for text in (caplog.text, metrics, repr(keyed.service.settings)):
        assert READ not in text
        assert WRITE not in text


@pytest.mark.parametrize("text", ["", "# nothing\n", "read:\n", "admin:abc\n", "abc\n", "read:a\x07b\n"])
def test_a_key_file_that_makes_no_sense_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "keys").write_text(text)
    with pytest.raises(ConfigError, match="key"):
        Keys.read(tmp_path / "keys")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "photos.example"])
def test_an_address_that_others_reach_needs_a_key(host: str, keys: Keys) -> None:
    with pytest.raises(ConfigError, match="--api-key-file"):
        Settings(host=host)
    assert Settings(host=host, keys=keys).answers_to("localhost")


def test_hosts_of_a_service_that_others_reach(keys: Keys) -> None:
    everywhere = Settings(host="0.0.0.0", keys=keys, allow_hosts=("Photos.example",))
    assert everywhere.answers_to("192.168.1.7:8000")
    assert everywhere.answers_to("photos.example.")
    assert not everywhere.answers_to("evil.example")
    assert not Settings(host="192.168.1.5", keys=keys).answers_to("192.168.1.6")


@pytest.mark.parametrize("options", [{"port": 70_000}, {"queue": 0}, {"drain": -1}, {"rate_limit": 0}])
def test_settings_out_of_range(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Settings(**options)


@pytest.mark.parametrize(("path", "refused"), [("/v1/items", False), ("/v1/search", True)])
def test_an_upload_may_take_longer_than_the_deadline_as_long_as_it_comes(path: str, refused: bool) -> None:
    """Half a megabyte within 0.25 s, where the deadline is 0.1 s: it earns five seconds where images are added."""
    left = 5

    async def receive() -> dict[str, Any]:
        nonlocal left
        await asyncio.sleep(0.05)
        left -= 1
        return {"type": "http.request", "body": b"x" * 100_000, "more_body": left > 0}

    async def nobody(message: Any) -> None: ...

    async def all_of_it() -> int:
        exchange = _Exchange({"method": "POST", "path": path}, receive, nobody, Settings(body_timeout=0.1))
        count = 0
        while (message := await exchange.receive())["more_body"]:
            count += len(message["body"])
        return count + len(message["body"])

    if refused:
        with pytest.raises(RefusalError) as error:
            asyncio.run(all_of_it())
        assert error.value.status == 408
    else:
        assert asyncio.run(all_of_it()) == 500_000
