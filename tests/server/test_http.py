"""HTTP as the world speaks it: HEAD, entity tags, ranges, proxies, and headers that are too large."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import pytest

from anglehash.errors import ConfigError
from anglehash.server.auth import Keys
from anglehash.server.gallery_api import key_of
from anglehash.server.settings import Settings
from tests.server.conftest import (
    FORM,
    READ,
    WRITE,
    Client,
    file_part,
    multipart,
    picture,
    serving,
    until,
)  # fmt: skip

ITEM = f"/v1/items/{key_of('cat/00.jpg')}"
PATHS = (
    "/", "/healthz", "/readyz", "/metrics", "/openapi.json", "/static/app.js", "/v1/gallery", "/v1/gallery/health",
    "/v1/gallery/bits", "/v1/items", "/v1/items?k=3&label=cat", ITEM, f"{ITEM}/thumbnail", f"{ITEM}/original",
)  # fmt: skip
MISSING = (
    "/nothing",
    "/v1/items/bm90aGluZw",
    "/v1/items?k=0",
    "/v1/jobs/x",
    "/static/nothing",
    "/v1/items/!!/original",
)


@pytest.mark.parametrize("path", [*PATHS, *MISSING])
def test_head_is_get_without_its_body(client: Client, path: str) -> None:
    get, head = client.get(path), client.send("HEAD", path)
    assert head.status == get.status
    assert head.body == b""
    changing = {"date"} | ({"content-length"} if path == "/metrics" else set())
    assert {k: v for k, v in head.headers.items() if k not in changing} == {
        k: v for k, v in get.headers.items() if k not in changing
    }


def test_head_of_what_has_no_get_is_405(client: Client) -> None:
    assert client.send("HEAD", "/v1/search").status == 405


@pytest.mark.parametrize("path", PATHS)
def test_a_known_entity_tag_is_304(client: Client, path: str) -> None:
    first = client.get(path)
    tag = first.headers.get("etag")
    if tag is None:
        assert path not in ("/", "/static/app.js", f"{ITEM}/thumbnail", f"{ITEM}/original")
        return
    for given in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        if path.startswith("/static/") and given == "*":
            continue  # Starlette's own
        for method in ("GET", "HEAD"):
            again = client.send(method, path, headers={"If-None-Match": given})
            assert (again.status, again.body, again.headers["etag"]) == (304, b"", tag)
    for other in ('"other"', tag[:-2] + 'x"', ""):
        assert client.get(path, **{"If-None-Match": other}).status == 200


def test_ranges_of_an_original(client: Client, photos: Path) -> None:
    whole = (photos / "cat" / "00.jpg").read_bytes()
    count = len(whole)
    answer = client.get(f"{ITEM}/original")
    assert (answer.status, answer.body) == (200, whole)
    assert (answer.headers["content-type"], answer.headers["accept-ranges"]) == ("image/jpeg", "bytes")
    for given, start, end in (("0-9", 0, 10), (f"{count - 5}-", count - 5, count), ("-7", count - 7, count),
                              (f"5-{count + 99}", 5, count)):  # fmt: skip
        part = client.get(f"{ITEM}/original", Range=f"bytes={given}")
        assert (part.status, part.body) == (206, whole[start:end])
        assert part.headers["content-range"] == f"bytes {start}-{end - 1}/{count}"
        assert client.get(f"{ITEM}/original", Range=f"bytes={given}", **{"If-Range": '"old"'}).body == whole
    for given in (f"{count}-", f"{count + 5}-{count + 9}", "-0"):
        refused = client.get(f"{ITEM}/original", Range=f"bytes={given}")
        assert (refused.status, refused.reason) == (416, "no-such-range")
        assert refused.headers["content-range"] == f"bytes */{count}"
    for given in ("bytes=", "bytes=x-y", "bytes=9-5", "bytes=1", "lines=0-1", "bytes=--1", "bytes=1-2-3"):
        assert client.get(f"{ITEM}/original", Range=given).body == whole  # what is not a range is passed over
    many = client.get(f"{ITEM}/original", Range="bytes=0-1,4-5")
    assert (many.status, many.headers["content-type"].split(";")[0]) == (206, "multipart/byteranges")
    assert client.get(f"{ITEM}/original", Range="bytes=" + ",".join(["0-"] * 1000)).status in (200, 206)


def test_headers_that_are_too_large_are_431(client: Client) -> None:
    fits, large = "x" * 15_000, "x" * 20_000
    assert client.get("/healthz", **{"X-Long": fits}).status == 200
    for headers in ({"X-Long": large}, {f"X-{i}": "y" * 200 for i in range(90)}):
        answer = client.get("/healthz", **headers)
        assert (answer.status, answer.reason) == (431, "large-headers")
    assert client.get("/healthz?" + large).status == 431
    with socket.create_connection(
        ("127.0.0.1", client.port), timeout=20
    ) as connection:  # in pieces, without an end
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Long: ")
        for _ in range(5):
            connection.sendall(b"x" * 4000)
        assert connection.recv(65536).startswith(b"HTTP/1.1 431 ")


@contextmanager
def proxied(port: int, *, strip: bool, headers: dict[str, str]) -> Iterator[str]:
    """A proxy that shows the service at ``/photos/``: the address of that."""

    class Proxy(BaseHTTPRequestHandler):
        def _pass_on(self) -> None:
            if not self.path.startswith("/photos"):
                self.send_error(404)
                return
            path = self.path.removeprefix("/photos") if strip else self.path
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            sent = {k: v for k, v in self.headers.items() if k.lower() not in ("host", "connection")}
            with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
                connection.request(self.command, path or "/", body, {**sent, **headers})
                answer = connection.getresponse()
                content = answer.read()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("connection", "content-length", "date", "transfer-encoding"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_DELETE = do_HEAD = _pass_on  # noqa: N815

        def log_message(self, *_: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as proxy:
        thread = threading.Thread(target=proxy.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{proxy.server_address[1]}/photos/"
        finally:
            proxy.shutdown()
            thread.join()


def asked(client: Client, url: str, method: str = "GET", body: bytes | None = None, **headers: str) -> Any:
    parts = urlsplit(url)
    own = Client(int(parts.port or 0), client.headers)
    return own.send(method, f"{parts.path}?{parts.query}", body, headers)


@pytest.mark.parametrize(
    ("strip", "options"),
    [(True, {}), (True, {"root_path": "/photos"}), (False, {"root_path": "/photos"})],
    ids=["plain", "root path, taken away", "root path, passed on"],
)
def test_every_address_works_behind_a_path_of_a_proxy(
    gallery: Path, keys: Keys, tmp_path: Path, strip: bool, options: dict[str, Any]
) -> None:
    import shutil

    own = Path(shutil.copytree(gallery, tmp_path / "own"))
    forwarded = {
        "Host": "localhost", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "photos.example",
        "X-Forwarded-Prefix": "/photos", "X-Forwarded-For": "203.0.113.9",
    }  # fmt: skip
    with (
        serving(
            own, keys=keys, allow_hosts=("photos.example",), trust_proxies=("127.0.0.1",), **options
        ) as running,
        proxied(running.client.port, strip=strip, headers=forwarded) as base,
    ):
        client = running.client.with_key(WRITE)
        page = asked(client, base)
        assert page.status == 200
        for line in page.body.decode().splitlines():
            assert 'src="/' not in line
            assert 'href="/' not in line
        origin = {"Origin": "https://photos.example", "Sec-Fetch-Site": "same-origin"}
        found = asked(client, base + "v1/items?k=2").json["results"]
        body = json.dumps({"id": "cat/00.jpg", "k": 2}).encode()
        kind = {"Content-Type": "application/json"}
        found += asked(client, base + "v1/search", "POST", body, **kind, **origin).json["results"]
        found.append(asked(client, urljoin(base, found[0]["item"])).json)
        assert len(found) == 5
        for item in found:
            for name in ("item", "thumbnail", "original"):
                assert asked(client, urljoin(base, item[name])).status == 200
        sent = asked(client, base + "v1/items", "POST", multipart(file_part(picture(1000))), **FORM, **origin)
        url = urljoin(base, sent.json["url"])
        until(lambda: asked(client, url).json["state"] == "done")
        document = urljoin(base, "openapi.json")
        (server,) = asked(client, document).json["servers"]
        assert urljoin(document, server["url"]) == base
        for path, place in (("v1/items/", "v1/items"), ("v1/gallery/?x=1", "v1/gallery?x=1")):
            moved = asked(client, base + path)
            https = base.replace("http:", "https:")
            assert (moved.status, urljoin(https + path, moved.headers["location"])) == (307, https + place)
        if not strip:
            moved = asked(client, base.removesuffix("/"))
            assert (moved.status, urljoin(base.removesuffix("/"), moved.headers["location"])) == (307, base)
        evil = asked(client, base + "v1/search", "POST", body, **kind, Origin="https://evil.example")
        assert evil.reason == "cross-origin"


def test_the_host_that_a_proxy_names_must_be_allowed(client: Client) -> None:
    body, kind = json.dumps({"id": "cat/00.jpg"}).encode(), {"Content-Type": "application/json"}
    for named in ("evil.example", ""):
        headers = {**kind, "Origin": "https://evil.example", "X-Forwarded-Host": named}
        assert client.send("POST", "/v1/search", body, headers).reason == "cross-origin"


def test_clients_behind_a_proxy_are_distinguished_where_it_is_trusted(gallery: Path, keys: Keys) -> None:
    for trusted, expected in (((), 429), (("127.0.0.1",), 401)):
        with serving(gallery, keys=keys, trust_proxies=trusted) as running:
            guesses = [
                running.client.with_key("wrong")
                .get("/v1/gallery", **{"X-Forwarded-For": f"203.0.113.{i}"})
                .status
                for i in range(20)
            ]
            assert guesses[-1] == expected
            assert running.client.with_key(READ).get("/v1/gallery").status == 200


@pytest.mark.parametrize("path", ["photos", "/photos/", "/"])
def test_a_root_path_that_makes_no_sense(path: str) -> None:
    with pytest.raises(ConfigError, match="root path"):
        Settings(root_path=path)


def test_cursors_of_one_kind_are_not_taken_for_another(client: Client) -> None:
    by_id = {"id": "cat/00.jpg", "k": 3}
    of_image = client.image(picture(3), k="3").json
    cursors = {
        "list": client.get("/v1/items?k=3").json["next_cursor"],
        "id": client.post("/v1/search", by_id).json["next_cursor"],
        "image": of_image["next_cursor"],
    }
    for kind, cursor in cursors.items():
        assert (client.get(f"/v1/items?k=3&cursor={cursor}").status == 200) == (kind == "list")
        assert (client.post("/v1/search", {**by_id, "cursor": cursor}).status == 200) == (kind == "id")
        asked = {"code": of_image["query"]["code"], "k": 3, "cursor": cursor}
        assert (client.post("/v1/search", asked).status == 200) == (kind == "image")
    refused = client.get(f"/v1/items?cursor={cursors['id']}")
    assert (refused.status, refused.reason) == (422, "invalid")
    assert "GET /v1/items" in refused.json["detail"]


def test_metrics_hold_nothing_that_clients_make_up(client: Client) -> None:
    def lines() -> set[str]:
        text = client.get("/metrics").body.decode()
        return {line.rpartition(" ")[0] for line in text.splitlines()}

    for method in ("GET", "X1"):
        client.send(method, "/healthz")
        client.send(method, "/nothing")
    before = lines()
    for i in range(200):
        client.send(f"MADE-UP-{i}", f"/healthz?{i}", headers={"Authorization": f"Bearer {i}"})
        client.send("GET", f"/nothing/{i}", headers={f"X-{i}": "y"})
    assert lines() <= before | {line for line in lines() if 'method="other"' in line}
    assert len(lines() - before) <= 4
    assert not any("MADE-UP" in line or "nothing" in line for line in lines())
