"""Images that are added and removed over HTTP; 16: a restart in the middle."""

from __future__ import annotations

import hashlib
import json
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from anglehash.gallery.gallery import Gallery
from anglehash.gallery.ingest import Given, ingest
from anglehash.gallery.store.opening import open_writer
from anglehash.server import jobs as jobs_module
from anglehash.server.auth import Keys
from anglehash.server.gallery_api import key_of
from tests.cli.conftest import anglehash as anglehash
from tests.server.conftest import (
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
    until,
)  # fmt: skip


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


def skipped(job: Any) -> list[tuple[str, str]]:
    return [(one["name"], one["reason"]) for one in job["skipped"]]


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"]


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
        assert skipped(job) == [("a\tb.jpg", "not-an-image"), ("half.jpg", "truncated")]
        assert all(one["detail"] for one in job["skipped"])
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


def send(client: Client, data: bytes, name: str = "a.jpg", **fields: str) -> str:
    """Upload an image: the address of its job."""
    texts = [text_part(key, value) for key, value in fields.items()]
    accepted = client.form("/v1/items", *texts, file_part(data, name))
    assert accepted.status == 202, accepted.body
    return str(accepted.json["url"])


def test_the_same_image_again_keeps_its_labels_unless_it_is_to_replace_them(own: Path, keys: Keys) -> None:
    data = picture(1000)
    with writing(own, keys) as (client, _):

        def labels() -> Any:
            return client.get(f"/v1/items/{key_of(name_of_upload(data))}").json["labels"]

        assert finished(client, send(client, data, "1.jpg", labels="one"))["added"] == 1
        again = finished(client, send(client, data, "2.jpg", labels="two"))
        assert (again["state"], again["added"], skipped(again)) == ("done", 0, [("2.jpg", "already-there")])
        assert "already there" in again["skipped"][0]["detail"]
        assert labels() == ["one"]
        assert finished(client, send(client, data, labels="two", replace="true"))["added"] == 1
        assert labels() == ["two"]
        assert client.get("/v1/gallery").json["items"] == 62
        twice = client.form("/v1/items", file_part(picture(1001), "x"), file_part(picture(1001), "y"))
        job = finished(client, twice.json["url"])
        assert (job["added"], skipped(job)) == (1, [("y", "already-there")])
        for wrong in ("yes", "1", '"true"'):
            refused = client.form("/v1/items", text_part("replace", wrong), file_part(data))
            assert refused.reason == "invalid"


def test_a_removal_takes_effect_after_what_was_accepted_before_it(
    own: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In every order of uploads and removals of one image, while no job runs and after they have run."""
    data = picture(1000)
    place, held = f"/v1/items/{key_of(name_of_upload(data))}", threading.Event()
    real = jobs_module.Jobs._try_decoding

    def late(self: Any, job: Any) -> None:
        held.wait(60)
        real(self, job)

    monkeypatch.setattr(jobs_module.Jobs, "_try_decoding", late)
    with writing(own, keys) as (client, _):
        for there_before in (False, True):
            held.set()
            if there_before:
                finished(client, send(client, data, "0", labels="zero"))
            held.clear()
            first = send(client, data, "1", labels="one")
            assert client.send("DELETE", place).json == {"removed": 1}
            assert client.send("DELETE", place).reason == "no-item"
            second = send(client, data, "2", labels="two")
            third = send(client, data, "3", labels="three")
            held.set()
            ended = [finished(client, url) for url in (first, second, third)]
            assert [job["state"] for job in ended] == ["done"] * 3
            assert [skipped(job) for job in ended] == [[("1", "removed")], [], [("3", "already-there")]]
            assert client.get(place).json["labels"] == ["two"]
            assert client.get(f"{place}/thumbnail").status == 200
            assert client.send("DELETE", place).json == {"removed": 1}
            assert skipped(client.get(second).json) == [("2", "removed")]  # also where it was done before
            assert client.get(place).reason == "no-item"
            assert not list((own.with_name("own.uploads") / "images").rglob("*.jpg"))


def test_a_second_service_takes_nothing_away_and_goes_on_when_the_first_ends(
    own: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = picture(1000), picture(1001)
    body = multipart(file_part(first), text_part("labels", "first"))
    with writing(own, keys) as (client, running):
        head = f"POST /v1/items HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {WRITE}\r\n"
        head += f"Content-Type: {FORM['Content-Type']}\r\nContent-Length: {len(body)}\r\n\r\n"
        incoming = own.with_name("own.uploads") / "incoming"
        with socket.create_connection(("127.0.0.1", running.client.port), timeout=60) as half:
            half.sendall(head.encode() + body[:-100])
            until(lambda: files(incoming))
            with writing(own, keys) as (other, _):
                there = files(incoming)
                url = send(other, second, labels="second")  # whose job the first service does
                assert finished(other, url)["added"] == 1
                assert other.get("/v1/items?label=second").json["results"]
                assert set(there) <= set(files(incoming))
            half.sendall(body[-100:])
            assert half.recv(65536).startswith(b"HTTP/1.1 202")
        until(lambda: client.get("/v1/items?label=first").json["results"])
        assert client.get(url).json["added"] == 1
        with writing(own, keys) as (other, _):
            running.service.jobs.stop(30)
            assert finished(other, send(other, picture(1002)))["added"] == 1  # now it does them itself
    assert files(incoming) == []
    assert len(Gallery.open(own)) == 64


def test_an_accepted_image_outlives_a_change_of_the_model(
    own: Path, keys: Keys, photos: Path, tmp_path: Path, anglehash: Any
) -> None:
    trained = anglehash(
        "train", photos, "-o", tmp_path / "other", "--bits", 16, "--backbone", "tiny", "--image-size", 16,
        "--epochs", 1, "--seed", 5,
    )  # fmt: skip
    assert trained.code == 3  # one of the photos is broken
    with writing(own, keys) as (client, running):
        url = send(client, picture(1000), labels="kept")
        running.service.jobs._stopping.set()  # as a kill between acceptance and job
        running.service.jobs._thread.join(30)
    assert anglehash("reindex", own, "--model", tmp_path / "other").code in (0, 3)
    with writing(own, keys) as (client, running):
        assert finished(client, url)["added"] == 1
        before = [worker._process for worker in running.service.image_encoder._decoders._workers]
        running.service.jobs._shared.rest()
        assert anglehash("reindex", own, "--model", own.parent / "missing").code == 1
        (found,) = client.get("/v1/items?label=kept").json["results"]
        assert client.get(found["thumbnail"]).status == 200
        assert [worker._process for worker in running.service.image_encoder._decoders._workers] == before


def test_texts_that_come_in_follow_one_rule(own: Path, keys: Keys) -> None:
    data = picture(1000)
    bad = ["x" * 1001, "a\0b", "half \ud800", "half \udfff"]
    with writing(own, keys) as (client, _):
        for text in [*bad, "not UTF-8 \udce9"]:
            refused = client.form(
                "/v1/items", text_part("labels", json.dumps(["fine", text])), file_part(data)
            )
            assert (refused.status, refused.reason) == (422, "invalid"), text
        raw = b'Content-Disposition: form-data; name="labels"\r\n\r\ncaf\xe9'
        assert client.form("/v1/items", raw, file_part(data)).reason == "invalid"
        many = json.dumps([f"l{i}" for i in range(101)])
        assert client.form("/v1/items", text_part("labels", many), file_part(data)).reason == "invalid"
        assert client.form("/v1/items", file_part(data, "a\0b.jpg")).reason == "invalid"
        for text in bad:
            for asked in (
                {"id": text * 5},
                {"id": "cat/00.jpg", "filter": {"labels": [text]}},
                {"id": "cat/00.jpg", "filter": {"path": text}},
                {"id": "cat/00.jpg", "filter": {"where": {text: 1}}},
                {"id": "cat/00.jpg", "filter": {"where": {"name": text}}},
                {"id": "cat/00.jpg", "filter": {"where": {"name": {"=": text}}}},
            ):
                assert client.post("/v1/search", asked).status == 422, asked
            if "half" not in text:
                assert client.get(f"/v1/items?label={quote(text)}").status == 422
    assert files(own.with_name("own.uploads")) == []


def test_a_quota_bounds_what_is_kept(own: Path, keys: Keys) -> None:
    data = [picture(1000 + i) for i in range(4)]
    quota = len(data[0]) + len(data[1]) + len(data[2]) // 2 + 2000  # a job's own file is in it
    with serving(own, keys=keys, upload_quota=quota) as running:
        client = running.client.with_key(WRITE)
        for one in data[:2]:
            assert finished(client, send(client, one))["added"] == 1
        large = file_part(b"\xff\xd8\xff" + b"x" * quota)
        for parts in ([file_part(data[2]), large], [large]):
            refused = client.form("/v1/items", *parts)
            assert (refused.status, refused.reason) == (507, "quota")
        uploads = own.with_name("own.uploads")
        assert sum(path.stat().st_size for path in files(uploads)) <= quota
        assert client.send("DELETE", f"/v1/items/{key_of(name_of_upload(data[0]))}").json == {"removed": 1}
        assert finished(client, send(client, data[3]))["added"] == 1


def test_a_file_that_was_not_sent_here_stays(own: Path, photos: Path, keys: Keys) -> None:
    with writing(own, keys) as (client, _):
        assert client.send("DELETE", f"/v1/items/{key_of('dog/03.jpg')}").json == {"removed": 1}
    assert (photos / "dog" / "03.jpg").exists()


def test_removing_waits_for_no_other_writer_for_long(
    own: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs_module, "LOCK_SECONDS", 0.1)
    with writing(own, keys) as (client, _), open_writer(own):
        answer = client.send("DELETE", f"/v1/items/{key_of('dog/03.jpg')}")
        assert (answer.status, answer.reason) == (503, "busy")


def test_16_a_job_goes_on_after_a_restart(own: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first service is stopped after its first commit; the second one ends the job, and says so."""
    count = 12
    parts = [file_part(picture(2000 + i), f"{i}.jpg") for i in range(count)]
    parts.insert(3, file_part(b"\xff\xd8\xff but no more", "broken.jpg"))
    reached, go_on = threading.Event(), threading.Event()
    real = ingest

    def held(writer: Any, model: Any, given: Any, *, progress: Any) -> Any:
        half = Given(
            images=given.images.select(range(count // 2)), source=given.source, metadata=given.metadata
        )
        real(writer, model, half)
        reached.set()
        go_on.wait(20)
        progress("images", count // 2, count, "")
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
        assert skipped(job) == [("broken.jpg", "not-an-image")]  # and not that its file is gone
        assert client.get("/v1/gallery").json["items"] == 61 + count
    with writing(own, keys) as (client, _):  # and a third one still knows
        assert client.get(url).json == job
        assert client.with_key(READ).get(url).json == job


def test_a_job_that_fails_says_why(own: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("a bug")

    with writing(own, keys) as (client, _):
        monkeypatch.setattr(jobs_module, "ingest", fails)
        url = send(client, picture(1000))
        job = finished(client, url)
        assert (job["state"], job["error"]) == ("failed", "something went wrong: see the log of the service")
        assert client.get("/healthz").status == 200
        monkeypatch.undo()
        assert finished(client, send(client, picture(1001)))["added"] == 1
    with writing(own, keys) as (client, _):  # it was accepted: it is tried again
        until(lambda: client.get(url).json["added"] == 1)


def test_a_job_waits_for_what_passes(own: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk and another writer are no reason to give up what was accepted."""

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(jobs_module, "LOCK_SECONDS", 0.1)
    with writing(own, keys) as (client, _):
        with monkeypatch.context() as patched:
            patched.setattr(jobs_module, "ingest", full)
            url = send(client, picture(1000))
            until(lambda: "No space left" in (client.get(url).json["error"] or ""))
            assert client.get(url).json["state"] in ("queued", "running")
        with open_writer(own):
            until(lambda: "is being written" in (client.get(url).json["error"] or ""))
        assert finished(client, url)["added"] == 1


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
    for name, text in {"0" * 32: "{", "1" * 32: '{"id": "../../etc"}', "2" * 32: None, "README": ""}.items():
        (folder / "jobs" / name).mkdir()
        if text is not None:
            (folder / "jobs" / name / "job.json").write_text(text)
    with writing(own, keys) as (client, _):
        assert client.get("/v1/jobs/" + "0" * 32).reason == "no-job"
        assert client.get("/v1/jobs/..%2f..%2fkeys").status == 404
        assert files(folder / "incoming") == []
        assert finished(client, send(client, picture(1000)))["added"] == 1
        assert client.send("DELETE", f"/v1/items/{key_of(name_of_upload(picture(1000)))}").json == {
            "removed": 1
        }


def test_another_writer_is_followed(own: Path, keys: Keys) -> None:
    with writing(own, keys) as (client, _):
        from anglehash.gallery.store.items import Item
        from anglehash.gallery.store.writer import Changes

        with open_writer(own) as writer:
            writer.commit(Changes(add=[Item("from elsewhere", b"\1\2", ("new",))]))
        found = until(lambda: client.get("/v1/items?label=new").json["results"])
        assert [item["id"] for item in found] == ["from elsewhere"]
        counted = until(lambda: [x for x in client.get("/v1/gallery").json["labels"] if x["name"] == "new"])
        assert counted == [{"name": "new", "count": 1}]
