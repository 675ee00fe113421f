"""Answers over HTTP are the gallery's own."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from io import BytesIO
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
from PIL import Image

from anglehash.data.image_hash import picture_of
from anglehash.gallery import filter_cache as subsets
from anglehash.gallery.filter_sql import matching
from anglehash.gallery.gallery import Gallery
from anglehash.gallery.image_search import encoding_of, model_of
from anglehash.gallery.snapshot import NAMED
from anglehash.gallery.store.database import connect
from anglehash.gallery.store.layout import Store
from anglehash.server.gallery_api import key_of
from anglehash.server.gallery_info import health, summary_of
from tests.server.conftest import Client, Running, picture, serving, until


def found(answer: Any) -> list[tuple[str, int]]:
    return [(result["id"], result["distance"]) for result in answer["results"]]


def code(opened: Gallery, name: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.frombuffer(opened.item(name).item.code, np.uint8)[None]


def test_a_search_by_image_finds_what_the_command_finds(
    client: Client, opened: Gallery, photos: Path
) -> None:
    path = photos / "cat" / "03.jpg"
    answer = client.image(path.read_bytes(), k="5").json
    expected = opened.search(
        encoding_of(model_of(opened), path.read_bytes(), str(path)).logits, 5, pictures=[picture_of(path)]
    )[0]
    assert found(answer) == [(hit.id, hit.distance) for hit in expected]
    assert [result["same_picture"] for result in answer["results"]] == [
        True,
        True,
        *[False] * 3,
    ]  # 18.jpg, too
    assert answer["tied_at_last"] == expected.tied_at_last
    assert answer["unknown"] is expected.unknown is False  # it is an item
    assert answer["model"] == opened.model_id
    assert answer["query"] == {
        "code": encoding_of(model_of(opened), path.read_bytes(), str(path)).codes.tobytes().hex(),
        "bits": 16,
    }


def test_a_search_by_image_with_its_real_values(client: Client, opened: Gallery, photos: Path) -> None:
    path = photos / "cat" / "03.jpg"
    answer = client.image(path.read_bytes(), k="40", asymmetric="true").json
    logits = encoding_of(model_of(opened), path.read_bytes(), str(path)).logits
    expected = opened.search(logits, 60, asymmetric=True, pictures=[picture_of(path)])[0]
    request = {"code": answer["query"]["code"], "k": 20, "cursor": answer["next_cursor"]}
    following = client.post("/v1/search", request).json
    assert found(answer) + found(following) == [(hit.id, hit.distance) for hit in expected]
    plain = client.image(path.read_bytes(), k="40", asymmetric="false").json
    assert plain["results"] == client.image(path.read_bytes(), k="40").json["results"] != answer["results"]
    refused = client.image(path.read_bytes(), asymmetric="maybe")
    assert (refused.status, refused.json["detail"]) == (422, "asymmetric: true or false is wanted")


def test_a_search_by_code_tells_all_of_each_answer(client: Client, opened: Gallery) -> None:
    query = code(opened, "dog/01.jpg")
    answer = client.post("/v1/search", {"code": query.tobytes().hex(), "k": 4}).json
    expected = opened.search(query, 4)[0]
    assert found(answer) == [(hit.id, hit.distance) for hit in expected]
    for result in answer["results"]:
        item = opened.item(result["id"]).item
        assert result["labels"] == list(item.labels)
        assert result["code"] == item.code.hex()
        assert result["thumbnail"] == f"{result['item']}/thumbnail"
        assert client.get(result["item"]).json["id"] == result["id"]


def test_a_search_by_item_leaves_it_out(client: Client, opened: Gallery) -> None:
    answer = client.post("/v1/search", {"id": "cat/03.jpg", "k": 7}).json
    expected = opened.similar("cat/03.jpg", 7)
    assert found(answer) == [(hit.id, hit.distance) for hit in expected]
    assert answer["query"]["code"] == code(opened, "cat/03.jpg").tobytes().hex()
    assert answer["query"]["labels"] == ["cat"]


@pytest.mark.parametrize("k", [1, 2, 7, 59, 60, 61, 1000])
def test_pages_hold_every_item_but_the_query_once(client: Client, opened: Gallery, k: int) -> None:
    seen, cursor = list[tuple[str, int]](), None
    while True:
        request = {"id": "cat/03.jpg", "k": k} | ({"cursor": cursor} if cursor else {})
        answer = client.post("/v1/search", request).json
        assert 0 < len(answer["results"]) <= k
        seen += found(answer)
        cursor = answer["next_cursor"]
        if cursor is None:
            break
        assert len(answer["results"]) == k
    assert seen == [(hit.id, hit.distance) for hit in opened.similar("cat/03.jpg", len(opened))]


def test_the_next_page_of_an_image_is_asked_for_with_its_code(client: Client, photos: Path) -> None:
    whole = client.image((photos / "eel" / "02.jpg").read_bytes(), k="10").json
    first = client.image((photos / "eel" / "02.jpg").read_bytes(), k="4").json
    request = {"code": first["query"]["code"], "k": 6, "cursor": first["next_cursor"]}
    following = client.post("/v1/search", request).json
    assert first["results"] + following["results"] == whole["results"]
    assert following["tied_at_last"] == whole["tied_at_last"]
    other = client.post("/v1/search", {**request, "code": "0000"})
    assert (other.status, "belongs to another search" in other.json["detail"]) == (422, True)


def test_an_unknown_query_is_marked(running: Running) -> None:
    gallery, queries = running.service.gallery, [{"code": "0000"}, {"id": "cat/03.jpg"}]
    assert isinstance(gallery, Gallery)
    level = gallery.level
    assert level is not None
    try:
        for bits, unknown in ((-1, True), (16, False)):
            gallery.level = level._replace(bits=bits)
            assert running.client.image(picture(999), k="2").json["unknown"] is unknown
            assert running.client.post("/v1/search", queries[0]).json["unknown"] is unknown
            batch = running.client.post("/v1/search/batch", {"queries": queries}).json
            assert [answer["unknown"] for answer in batch["answers"]] == [unknown, False]
        gallery.level = None
        assert running.client.post("/v1/search", queries[0]).json["unknown"] is None
    finally:
        gallery.level = level


def test_the_same_pixels_in_another_file_come_first(client: Client, opened: Gallery, photos: Path) -> None:
    pixels = Image.open(photos / "eel" / "07.jpg").convert("RGB")
    pixels.save(file := BytesIO(), "PNG")
    answer = client.image(file.getvalue(), k="3").json
    assert answer["results"][0]["id"] == "eel/07.jpg"
    assert [hit["same_picture"] for hit in answer["results"]] == [True, False, False]
    elsewhere = client.image(file.getvalue(), k="3", filter=json.dumps({"labels": ["dog"]})).json
    assert {(*hit["labels"], hit["same_picture"]) for hit in elsewhere["results"]} == {("dog", False)}


def test_filters_and_distance_come_before_k(client: Client, opened: Gallery) -> None:
    everything = opened.similar("dog/02.jpg", len(opened))
    request = {"id": "dog/02.jpg", "k": 1000, "filter": {"labels": ["eel"], "path": "*1?.jpg"}}
    assert found(client.post("/v1/search", request).json) == [
        (hit.id, hit.distance) for hit in everything if hit.id.startswith("eel/1")
    ]
    near = client.post("/v1/search", {"id": "dog/02.jpg", "k": 1000, "max_distance": 3}).json
    assert found(near) == [(hit.id, hit.distance) for hit in everything if hit.distance <= 3]
    assert client.post("/v1/search", {**request, "filter": {"after": "2200-01-01"}}).json["results"] == []
    nowhere = {"where": {"year": {">=": 2000}}}
    assert client.post("/v1/search", {**request, "filter": nowhere}).json["results"] == []


def test_the_filter_of_a_form_is_json(client: Client, photos: Path) -> None:
    data = (photos / "cat" / "01.jpg").read_bytes()
    answer = client.image(data, filter=json.dumps({"labels": ["dog"]}), k="3", max_distance="").json
    assert [result["labels"] for result in answer["results"]] == [["dog"]] * 3


def test_a_batch_is_several_searches(client: Client, opened: Gallery) -> None:
    queries = [
        {"id": "cat/00.jpg"},
        {"code": code(opened, "eel/05.jpg").tobytes().hex()},
        {"id": "eel/05.jpg"},
    ]
    answers = client.post("/v1/search/batch", {"queries": queries, "k": 6}).json["answers"]
    for query, answer in zip(queries, answers, strict=True):
        assert found(answer) == found(client.post("/v1/search", {**query, "k": 6}).json)


def test_items_are_listed_in_order_page_by_page(client: Client, opened: Gallery) -> None:
    names, path = list[str](), "/v1/items?k=25"
    answer = client.get(path).json
    while answer["next_cursor"]:
        names += [item["id"] for item in answer["results"]]
        answer = client.get(f"{path}&cursor={answer['next_cursor']}").json
    names += [item["id"] for item in answer["results"]]
    assert names == list(opened.ids)
    some = client.get("/v1/items?label=cat&label=eel&k=1000").json["results"]
    assert [item["id"] for item in some] == [name for name in opened.ids if not name.startswith("dog")]


def test_an_item_tells_what_it_is(client: Client, opened: Gallery, photos: Path) -> None:
    item = client.get(f"/v1/items/{key_of('dog/05.jpg')}").json
    stored = opened.item("dog/05.jpg")
    assert item["code"] == stored.item.code.hex()
    assert (item["labels"], item["bits"], item["status"], item["added"]) == (["dog"], 16, "ok", stored.born)
    assert item["size"] == (photos / "dog" / "05.jpg").stat().st_size
    assert item["date"].startswith("20")


def test_the_gallery_tells_what_it_is(client: Client, opened: Gallery) -> None:
    gallery = client.get("/v1/gallery").json
    assert (gallery["items"], gallery["bits"]) == (61, 16)
    assert gallery["generation"] == opened.generation
    assert gallery["labels"] == [
        {"name": "cat", "count": 21}, {"name": "dog", "count": 20}, {"name": "eel", "count": 20}
    ]  # fmt: skip
    assert gallery["model"] == {
        "id": opened.model_id, "method": "andsh", "backbone": "tiny", "size": 16,
        "classes": ["cat", "dog", "eel"],
    }  # fmt: skip
    assert (gallery["can_write"], gallery["needs_key"], gallery["can_encode"]) == (False, False, True)


def test_health_counts_what_naive_loops_count(client: Client, opened: Gallery) -> None:
    health = client.get("/v1/gallery/health").json
    codes = [stored.item.code for stored in opened]
    assert health["items"] == len(codes)
    assert health["unique_codes"] == len(set(codes))
    bits = np.unpackbits(np.frombuffer(b"".join(codes), np.uint8).reshape(-1, 2), axis=1)
    assert health["bits"] == pytest.approx(bits.mean(axis=0).tolist(), abs=1e-4)
    assert health["problems"]["count"] == 1
    assert health["problems"]["reasons"] == [{"reason": opened.problems[0][1], "count": 1}]
    assert health["problems"]["files"] == [{"path": "dog/broken.jpg", "reason": opened.problems[0][1]}]


def test_what_a_bit_leans_to_is_the_mean_of_each_label(client: Client, opened: Gallery) -> None:
    answer = client.get("/v1/gallery/bits").json
    assert answer["labels"] == ["cat", "dog", "eel"]
    for label, lean in zip(answer["labels"], answer["lean"], strict=True):
        codes = [np.frombuffer(s.item.code, np.uint8) for s in opened if label in s.item.labels]
        assert lean == pytest.approx(np.unpackbits(np.array(codes), axis=1).mean(axis=0).tolist(), abs=1e-4)


def test_a_gallery_of_codes_alone_is_searched_without_images(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 256, (300, 4), dtype=np.uint8)
    codes[:, -1] &= 0xF0  # 28 bits
    names = ["caf\udce9.jpg", "a\nb.jpg", *map(str, range(298))]
    Gallery.create(
        tmp_path / "g", codes=codes, ids=names, labels=[["ünïcödé"]] * 300, bits=28, model_id="m"
    ).close()
    with serving(tmp_path / "g") as running:
        client: Client = running.client
        assert client.get("/v1/gallery").json["can_encode"] is False
        assert client.image(picture(1)).reason == "no-model"
        answer = client.post("/v1/search", {"id": names[0], "k": 300}).json
        distances = np.unpackbits(codes ^ codes[0], axis=1).sum(axis=1)
        assert [result["distance"] for result in answer["results"]] == sorted(distances[1:].tolist())
        assert b"caf\\udce9.jpg" in client.get("/v1/items?k=1").body  # FAULTS 39: JSON with the escaped byte
        assert client.get(f"/v1/items/{key_of(names[0])}").json["id"] == names[0]
        assert client.get(f"/v1/items/{key_of(names[1])}").json["status"] == "missing"
        assert client.get(f"/v1/items/{key_of(names[1])}/thumbnail").reason == "no-image"
        odd = {"code": codes[0].tobytes().hex()[:-1] + "1"}  # the last 4 bits are not the code's
        assert client.post("/v1/search", odd).status == 422


def test_an_item_is_found_without_looking_at_all_others(gallery: Path) -> None:
    with closing(connect(Store(gallery / "1").database)) as connection:
        plan = connection.execute(f"EXPLAIN QUERY PLAN {NAMED}", (b"cat/00.jpg",)).fetchall()
    assert sum("USING INDEX" in step for *_, step in plan) == 2
    assert not any(step.startswith("SCAN") for *_, step in plan)


def test_a_newer_generation_is_served_once_it_is_there(running: Running) -> None:
    assert "anglehash_items 61" in running.client.get("/metrics").body.decode()
    assert running.service.gallery.refresh() is False


def test_searches_without_a_filter_do_not_wait_for_one(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many filters as there are threads for them are being worked out, and never end."""
    go_on = Event()

    def stuck(*given: Any) -> Any:
        assert go_on.wait(20)
        return matching(*given)

    monkeypatch.setattr(subsets, "matching", stuck)
    request = {"id": "cat/00.jpg", "k": 3}
    with ThreadPoolExecutor(3) as threads:
        slow = [
            threads.submit(running.client.post, "/v1/search", {**request, "filter": {"path": f"*{i}.jpg"}})
            for i in range(3)
        ]
        until(lambda: running.service.filtered.pending == 3)
        assert running.client.post("/v1/search", request).status == 200
        go_on.set()
        assert [answer.result().status for answer in slow] == [200, 200, 200]


@pytest.mark.parametrize("bits", [24, 64, 100])
def test_health_of_codes_that_are_mapped_from_a_file(tmp_path: Path, bits: int) -> None:
    codes = np.packbits(np.random.default_rng(0).integers(0, 2, (9, bits)), axis=1)[[0, 1, 2, 0]]
    made = {"ids": list("abcd"), "labels": [[]] * 4, "bits": bits, "model_id": "m"}
    with Gallery.create(tmp_path / "g", codes=codes, **made) as opened:  # type: ignore[arg-type]
        assert not opened.codes.flags.writeable
        assert health(opened, summary_of(opened))["unique_codes"] == 3
