"""Images that are added and removed over HTTP; 16: a restart in the middle."""

from __future__ import annotations

import hashlib
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from anglehash.search.gallery import Gallery
from anglehash.search.store.opening import open_writer
from anglehash.serve.ingest import Given, ingest
from anglehash.serve.web import jobs as jobs_module
from anglehash.serve.web.collection import key_of
from anglehash.serve.web.keys import Keys
from tests.web.conftest import READ, WRITE, Client, Running, file_part, picture, serving, text_part, until


@pytest.fixture
def own(gallery: Path, tmp_path: Path) -> Path:
    """A gallery of the test's own."""
    return Path(shutil.copytree(gallery, tmp_path / "own"))


@contextmanager
def writing(gallery: Path, keys: Keys) -> Iterator[tuple[Client, Running]]:
    with serving(gallery, keys=keys) as running:
        yield running.client.with_key(WRITE), running


def finished(client: Client, url: str) -> Any:
    def ended() -> Any:
        job = client.get(url).json
        return job if job["state"] in ("done", "failed") else None

    return until(ended)


def name_of_upload(data: bytes) -> str:
    digest = hashlib.sha256(data).hexdigest()
    return f"uploads/{digest[:2]}/{digest}.jpg"


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_images_are_added_found_and_removed(own: Path, keys: Keys) -> None:
    """46: what the client calls its files stays a name."""
    good = [picture(1000), picture(1001)]
    with writing(own, keys) as (client, _):
        accepted = client.form(
            "/v1/items", file_part(good[0], "../../../x.jpg"), file_part(b"no image", "a\tb.jpg"),
            file_part(good[1][:-2], "half.jpg"), file_part(good[1], "caf\udce9.jpg"), text_part("labels", "new|red"),
        )  # fmt: skip
        assert accepted.status == 202
        job = finished(client, accepted.json["url"])
        assert (job["state"], job["done"], job["total"], job["added"]) == ("done", 4, 4, 2)
        assert job["skipped"] == [
            {"name": "a\tb.jpg", "reason": "not-an-image"}, {"name": "half.jpg", "reason": "truncated"}
        ]  # fmt: skip
        found = client.get("/v1/items?label=red").json["results"]
        assert {item["id"] for item in found} == {name_of_upload(data) for data in good}
        item = client.get(f"/v1/items/{key_of(name_of_upload(good[1]))}").json
        assert (item["labels"], item["metadata"]) == (["new", "red"], {"name": "caf\udce9.jpg"})
        assert client.get(item["thumbnail"]).status == 200
        answer = client.image(good[0], k="1").json["results"][0]
        assert answer["distance"] == 0  # its own code; others may have the same
        assert client.send("DELETE", item["item"]).json == {"removed": 1}
        assert client.send("DELETE", item["item"]).reason == "no-item"
        assert client.get(item["item"]).reason == "no-item"
        assert [path.suffix for path in files(own.with_name("own.uploads") / "images")] == [".jpg"]
    assert len(Gallery.open(own)) == 62
    assert not (own.parent / "x.jpg").exists()


def test_an_upload_without_an_image_is_415_and_leaves_nothing(own: Path, keys: Keys) -> None:
    with writing(own, keys) as (client, _):
        assert client.form("/v1/items", file_part(b"%PDF-1.7")).reason == "unsupported-format"
        assert client.form("/v1/items", file_part(b"")).reason == "empty"
        assert client.form("/v1/items", text_part("labels", "x")).reason == "no-image"
        assert client.form("/v1/items", file_part(picture(1)), text_part("labels", "[1]")).reason == "invalid"
        assert client.form("/v1/items", file_part(picture(1)), text_part("label", "x")).reason == "invalid"
        assert client.post("/v1/items", {}).reason == "unknown-body"
    assert files(own.with_name("own.uploads")) == []


def test_the_same_image_twice_is_one_item(own: Path, keys: Keys) -> None:
    with writing(own, keys) as (client, _):
        for labels in ("one", "two"):
            accepted = client.form("/v1/items", file_part(picture(1000)), text_part("labels", labels))
            assert finished(client, accepted.json["url"])["added"] == 1
        assert client.get("/v1/gallery").json["items"] == 62
        assert client.get(f"/v1/items/{key_of(name_of_upload(picture(1000)))}").json["labels"] == ["two"]


def test_a_file_that_was_not_sent_here_stays(own: Path, photos: Path, keys: Keys) -> None:
    with writing(own, keys) as (client, _):
        assert client.send("DELETE", f"/v1/items/{key_of('dog/03.jpg')}").json == {"removed": 1}
    assert (photos / "dog" / "03.jpg").exists()


def test_removing_waits_for_no_other_writer_for_long(
    own: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs_module, "REMOVE_SECONDS", 0.1)
    with writing(own, keys) as (client, _), open_writer(own):
        answer = client.send("DELETE", f"/v1/items/{key_of('dog/03.jpg')}")
        assert (answer.status, answer.reason) == (503, "busy")


def test_16_a_job_goes_on_after_a_restart(own: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first service is stopped after its first commit; the second one ends the job, and says so."""
    count = 12
    parts = [file_part(picture(2000 + i), f"{i}.jpg") for i in range(count)]
    parts.insert(3, file_part(b"\xff\xd8\xff but no more", "broken.jpg"))
    broken = {"name": "broken.jpg", "reason": "not-an-image"}
    reached, go_on = threading.Event(), threading.Event()
    real = ingest

    def held(writer: Any, model: Any, given: Any, *, report: Any) -> Any:
        half = Given(
            images=given.images.select(range(count // 2)), source=given.source, metadata=given.metadata
        )
        real(writer, model, half)
        reached.set()
        go_on.wait(20)
        report("images", count // 2, count, "")
        raise AssertionError("the service was stopping")

    monkeypatch.setattr(jobs_module, "ingest", held)
    with writing(own, keys) as (client, _):
        url = client.form("/v1/items", *parts).json["url"]
        assert reached.wait(30)
        assert client.get(url).json["state"] == "running"
        threading.Timer(0.3, go_on.set).start()
    assert len(Gallery.open(own)) == 61 + count // 2  # what was committed is there
    monkeypatch.setattr(jobs_module, "ingest", real)
    with writing(own, keys) as (client, _):
        job = finished(client, url)
        assert (job["state"], job["done"], job["added"]) == ("done", count + 1, count)
        assert job["skipped"] == [broken]  # and not that its file is gone
        assert client.get("/v1/gallery").json["items"] == 61 + count
    with writing(own, keys) as (client, _):  # and a third one still knows
        assert client.get(url).json == job
        assert client.with_key(READ).get(url).json == job


def test_a_job_that_fails_says_why(own: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(jobs_module, "ingest", fails)
    with writing(own, keys) as (client, _):
        job = finished(client, client.form("/v1/items", file_part(picture(1))).json["url"])
        assert job["state"] == "failed"
        assert "No space left" in job["error"]
        assert client.get("/healthz").status == 200


def test_a_full_disk_is_507(own: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    """4: nothing is acknowledged, and nothing is left."""
    with writing(own, keys) as (client, running):

        def full(*_: Any) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(running.service.jobs._uploads.__class__, "save", full)
        answer = client.form("/v1/items", file_part(picture(1)))
        assert (answer.status, answer.reason) == (507, "disk-full")
        monkeypatch.undo()
        accepted = client.form("/v1/items", file_part(picture(1)))
        assert finished(client, accepted.json["url"])["added"] == 1


def test_leftovers_and_strangers_among_the_jobs_do_no_harm(own: Path, keys: Keys) -> None:
    folder = own.with_name("own.uploads")
    for place in ("incoming", "jobs"):
        (folder / place).mkdir(parents=True)
    (folder / "incoming" / ".half.tmp").write_bytes(b"x")
    (folder / "jobs" / ("0" * 32 + ".json")).write_text("{")
    (folder / "jobs" / ("1" * 32 + ".json")).write_text('{"id": "../../etc"}')
    with writing(own, keys) as (client, _):
        assert client.get("/v1/jobs/" + "0" * 32).reason == "no-job"
        assert client.get("/v1/jobs/..%2f..%2fkeys").status == 404
        assert files(folder / "incoming") == []


def test_another_writer_is_followed(own: Path, keys: Keys) -> None:
    with writing(own, keys) as (client, _):
        from anglehash.search.store.items import Item
        from anglehash.search.store.writer import Changes

        with open_writer(own) as writer:
            writer.commit(Changes(add=[Item("from elsewhere", b"\1\2", ("new",))]))
        found = until(lambda: client.get("/v1/items?label=new").json["results"])
        assert [item["id"] for item in found] == ["from elsewhere"]
        counted = until(lambda: [x for x in client.get("/v1/gallery").json["labels"] if x["name"] == "new"])
        assert counted == [{"name": "new", "count": 1}]
