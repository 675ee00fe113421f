"""Filters, and pages, against loops over all items; indexes that follow a growing gallery."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from anglehash.codes import hamming
from anglehash.errors import ConfigError
from anglehash.gallery.cursor import Cursor
from anglehash.gallery.filters import Condition, Filter, nanoseconds
from anglehash.gallery.gallery import Gallery
from anglehash.gallery.store import writer as writing
from anglehash.gallery.store.backup import backup, restore
from anglehash.gallery.store.items import Item
from anglehash.gallery.store.opening import open_writer
from anglehash.gallery.store.writer import Changes
from anglehash.index import ENGINES

N, BITS = 200, 12
LABELS = ["a", "b", 'quote"', ",", '","', "\n", "\ud800", "é"]


def items() -> list[Item]:
    rng = np.random.default_rng(0)
    codes = np.packbits(rng.integers(0, 2, (N, BITS)), axis=1)
    made = []
    for i in range(N):
        labels = tuple(sorted(rng.choice(LABELS, rng.integers(0, 4), replace=False).tolist()))
        metadata = {"n": i, "even": "yes" if i % 2 == 0 else "no", "tags": [str(i % 7), "x"]} if i % 5 else {}
        date = nanoseconds(datetime(2020, 1, 1 + i % 28, tzinfo=UTC), 0) if i % 3 else 0
        made.append(Item(f"d{i % 4}/é{i}.jpg", codes[i].tobytes(), labels, metadata, b"", date))
    return made


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Gallery:
    path = tmp_path_factory.mktemp("answers") / "g"
    none = np.zeros((0, 2), np.uint8)
    Gallery.create(path, codes=none, ids=[], labels=[], bits=BITS, model_id="m").close()
    with open_writer(path) as writer:
        writer.commit(Changes(items()))
    return Gallery.open(path)


def day(number: int) -> datetime:
    return datetime(2020, 1, number, tzinfo=UTC)


FILTERS: list[tuple[Filter, Any]] = [
    *((Filter(labels=(label,)), lambda item, label=label: label in item.labels) for label in LABELS),
    (Filter(labels=("a", "é")), lambda item: bool({"a", "é"} & set(item.labels))),
    (Filter(labels=("c",)), lambda item: False),
    (Filter(path="d1/*"), lambda item: item.id.startswith("d1/")),
    (Filter(path="*/é?.jpg"), lambda item: len(item.id) == len("d1/é1.jpg")),
    (Filter(path="d[02]*"), lambda item: item.id[1] in "02"),
    (Filter(after=day(10)), lambda item: item.date >= nanoseconds(day(10), 0)),
    (Filter(before=day(10)), lambda item: 0 < item.date < nanoseconds(day(10), 0)),
    (Filter(where=(Condition("n", ">=", "100"),)), lambda item: item.metadata.get("n", -1) >= 100),
    (Filter(where=(Condition("n", "<", "9"),)), lambda item: item.metadata.get("n", 999) < 9),  # not as text
    (Filter(where=(Condition("tags", "=", "3"),)), lambda item: "3" in item.metadata.get("tags", [])),
    (Filter(where=(Condition("even", "!=", "yes"),)), lambda item: item.metadata.get("even") == "no"),
    (
        Filter(labels=("a",), path="d1/*", where=(Condition("even", "=", "no"), Condition("n", ">", "20"))),
        lambda item: (
            "a" in item.labels
            and item.id.startswith("d1/")
            and item.metadata.get("even") == "no"
            and item.metadata["n"] > 20
        ),
    ),
]


@pytest.mark.parametrize("engine", list(ENGINES))
def test_filters_come_before_the_top_k(gallery: Gallery, engine: str) -> None:
    query = np.packbits(np.random.default_rng(5).integers(0, 2, (1, BITS)), axis=1)
    every = items()
    distances = hamming(query, gallery.codes)[0]
    for where, passes in FILTERS:
        kept = [i for i in range(N) if passes(every[i])]
        expected = sorted((int(distances[i]), i) for i in kept)
        for k, radius in ((7, None), (N + 5, None), (None, 5), (4, 5)):
            hits = gallery.search(query, k, radius=radius, engine=engine, where=where)[0]
            wanted = [(d, every[i].id) for d, i in expected if radius is None or d <= radius][:k]
            assert [(hit.distance, hit.id) for hit in hits] == wanted, where
        assert [item.id for item in gallery.listed(where)[0]] == [every[i].id for i in kept]


@pytest.mark.parametrize("engine", list(ENGINES))
def test_indexes_follow_a_gallery(tmp_path: Path, engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was built before items came and went gives what an index of now gives."""
    monkeypatch.setattr(writing, "TAIL", 20)
    none, rng = np.zeros((0, 2), np.uint8), np.random.default_rng(1)
    reader = Gallery.create(tmp_path / "g", codes=none, ids=[], labels=[], bits=16, model_id="m")
    queries = rng.integers(0, 4, (5, 2), dtype=np.uint8)
    where = Filter(path="*7")
    for step in range(12):
        with open_writer(tmp_path / "g") as writer:
            ids = writer.ids()
            gone = rng.choice(ids, len(ids) // (2 if step % 4 == 3 else 9), replace=False).tolist()
            fresh = [Item(f"{step}/{i}", rng.integers(0, 4, 2, dtype=np.uint8).tobytes()) for i in range(30)]
            writer.commit(Changes(fresh, gone))
        assert reader.refresh()
        now = Gallery.open(tmp_path / "g")
        for chosen in (None, where):
            for k, radius in ((9, None), (None, 3)):
                found = reader.search(queries, k, radius=radius, engine=engine, where=chosen)
                assert found == now.search(queries, k, radius=radius, engine="exact", where=chosen)
        now.close()


@pytest.mark.parametrize("engine", list(ENGINES))
def test_searches_beside_a_refresh_see_one_generation(tmp_path: Path, engine: str) -> None:
    """Every commit replaces all items, with codes of another distance: an answer has each id once, and one distance."""
    ids = [str(i) for i in range(40)]
    gallery = Gallery.create(
        tmp_path / "g", codes=np.zeros((40, 2), np.uint8), ids=ids, labels=[["x"]] * 40, bits=16, model_id="m"
    )
    query, over, wrong = np.zeros((1, 2), np.uint8), Event(), list[Any]()

    def look(where: Filter) -> int:
        looks = 0
        while not over.is_set():
            hits = gallery.search(query, radius=16, engine=engine, where=where)[0]
            if len({hit.distance for hit in hits}) != 1 or sorted(hit.id for hit in hits) != sorted(ids):
                wrong.append(hits)
            looks += 1
        return looks

    with ThreadPoolExecutor(3) as pool:
        looking = [pool.submit(look, where) for where in (Filter(), Filter(), Filter(labels=("x",)))]
        with open_writer(tmp_path / "g") as writer:
            for number in range(1, 40):
                code = ((1 << number % 16) - 1).to_bytes(2, "big")
                writer.commit(Changes([Item(name, code, ("x",)) for name in ids]))
                gallery.refresh()
        over.set()
        assert all(looks.result() > 0 for looks in looking)
    assert wrong == []


def test_a_segment_of_which_all_items_are_gone(tmp_path: Path) -> None:
    codes = np.arange(20, dtype=np.uint8)[:, None]
    ids = [str(i) for i in range(20)]
    reader = Gallery.create(tmp_path / "g", codes=codes, ids=ids, labels=[[]] * 20, bits=8, model_id="m")
    reader.search(codes[:1], 1)
    with open_writer(tmp_path / "g") as writer:
        writer.commit(Changes([Item("new", b"\x09")], ids))
    assert reader.refresh()
    for gallery in (reader, Gallery.open(tmp_path / "g")):
        assert [hit.id for hit in gallery.search(codes[:1], 5)[0]] == ["new"]
        assert gallery.codes.tolist() == [[9]]
    with open_writer(tmp_path / "g") as writer:
        writer.commit(Changes(remove=["new"]))
    assert reader.refresh()
    assert reader.search(codes[:1], 5) == [[]]


def test_refresh_sees_that_another_gallery_took_its_place(tmp_path: Path) -> None:
    codes = np.array([[1], [2]], np.uint8)
    made = {"labels": [[], []], "bits": 8, "model_id": "m"}
    reader = Gallery.create(tmp_path / "g", codes=codes, ids=["a", "b"], **made)  # type: ignore[arg-type]
    backup(tmp_path / "g", tmp_path / "b.tar")
    with open_writer(tmp_path / "g") as writer:
        writer.commit(Changes(remove=["a"]))
    assert reader.refresh()
    assert list(reader.ids) == ["b"]
    restore(tmp_path / "b.tar", tmp_path / "g", force=True)
    assert reader.refresh()
    assert list(reader.ids) == ["a", "b"]
    assert [hit.id for hit in reader.search(codes[:1], 1)[0]] == ["a"]
    assert not reader.refresh()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(size=st.integers(1, 60), radius=st.sampled_from([None, 3, 6]), which=st.integers(0, len(FILTERS)))
def test_pages_join_to_the_whole(gallery: Gallery, size: int, radius: int | None, which: int) -> None:
    where = FILTERS[which][0] if which < len(FILTERS) else None
    query = gallery.codes[3:4]
    cursor, joined = None, list[Any]()
    while True:
        page = gallery.page(query, size, cursor=cursor, radius=radius, where=where)
        joined += page.hits
        cursor = page.cursor
        if cursor is None:
            break
        assert len(page.hits) == size
    assert joined == gallery.search(query, N, radius=radius, where=where)[0]


def test_a_cursor_goes_on_where_the_gallery_has_changed(tmp_path: Path) -> None:
    codes = np.zeros((6, 1), np.uint8)
    ids = list("abcdef")
    reader = Gallery.create(tmp_path / "g", codes=codes, ids=ids, labels=[[]] * 6, bits=8, model_id="m")
    first = reader.page(codes[:1], 2)
    assert [hit.id for hit in first.hits] == ["a", "b"]
    with open_writer(tmp_path / "g") as writer:
        writer.commit(Changes([Item("near", b"\0"), Item("c", b"\1")], ["a"]))
    reader.refresh()
    second = reader.page(codes[:1], 10, cursor=first.cursor)
    assert [hit.id for hit in second.hits] == ["d", "e", "f", "near", "c"]  # none twice, none left out
    assert second.hits[0].rank == 3


@given(text=st.text(max_size=60))
def test_any_other_text_is_not_cursor(text: str) -> None:
    with pytest.raises(ConfigError, match="cursor"):
        Cursor.parse(text, "key")


def test_cursors_of_other_searches_are_refused(gallery: Gallery) -> None:
    cursor = gallery.page(gallery.codes[:1], 3).cursor
    others: list[dict[str, Any]] = [{"radius": 3}, {"where": Filter(path="x")}]
    for options in others:
        with pytest.raises(ConfigError, match="another search"):
            gallery.page(gallery.codes[:1], 3, cursor=cursor, **options)
    with pytest.raises(ConfigError, match="another search"):
        gallery.page(gallery.codes[1:2], 3, cursor=cursor)


@pytest.mark.parametrize("text", ["", "year", "=3", "a~b"])
def test_what_is_not_a_condition(text: str) -> None:
    with pytest.raises(ConfigError, match="a condition is COLUMN=VALUE"):
        Condition.parse(text)
