"""Filters beside searches: what passes, who waits for whom, and what a later generation works out again."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anglehash.errors import DataError, ModelError
from anglehash.gallery import filter_cache as filter_cache
from anglehash.gallery import filter_sql as filter_sql_module
from anglehash.gallery.filter_sql import matching
from anglehash.gallery.filters import Condition, Filter
from anglehash.gallery.gallery import Gallery
from anglehash.gallery.store import writer as writing
from anglehash.gallery.store.database import SCHEMA
from anglehash.gallery.store.items import COLUMNS, Item, name_bytes, record_of
from anglehash.gallery.store.opening import open_writer
from anglehash.gallery.store.writer import Changes
from anglehash.remote.pushdown import passes

NAMES = [
    "a",
    "ab",
    "aab",
    "a/b.jpg",
    "b\na",
    "é",
    "\udca9é",
    "a\udca9",
    "[a",
    "a?b",
    "",
    "x\0y",
    "*",
    "€é",
]
VALUES: list[Any] = [
    1,
    1.0,
    True,
    None,
    "1",
    "1.0",
    "x",
    "",
    'q"',
    "é",
    "\n",
    [1, "x"],
    [],
    10**20,
    1e-7,
    {"a": 1},
]
KEYS = ["a", "year", 'q"', "é", "a.b", "$", "a b"]


@pytest.fixture(scope="module")
def chunked() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(filter_sql_module, "_TESTED_CHUNK", 5)
        patch.setattr(filter_sql_module, "_CHUNK", 7)
        yield


def is_a_name(text: str) -> bool:
    try:
        name_bytes(text)
    except DataError:
        return False
    return True


names = st.sampled_from(NAMES) | st.text(max_size=5).filter(is_a_name)
patterns = st.text(st.sampled_from("*?[]!ab/.é\udcc3\udca9\ud800\n-"), max_size=7) | names
metadata = st.dictionaries(st.sampled_from(KEYS), st.sampled_from(VALUES), max_size=3)
conditions = st.builds(
    Condition,
    st.sampled_from(KEYS),
    st.sampled_from(["=", "!=", "<", "<=", ">", ">="]),
    st.sampled_from(["1", "1.0", "x", "", "True", "é", "nan", "1e20", "{'a': 1}"]),
)


@pytest.mark.parametrize("arrow", [True, False])
@settings(max_examples=60, deadline=None)
@given(
    named=st.lists(st.tuples(names, metadata), max_size=12),
    path=st.none() | patterns,
    where=st.lists(conditions, max_size=3),
)
def test_what_passes_is_what_the_definition_says(
    chunked: None, arrow: bool, named: list[tuple[str, dict[str, Any]]], path: str | None, where: Any
) -> None:
    items = [Item(name, b"\0\0", (), values) for name, values in named]
    asked = Filter(path=path, where=tuple(where))
    with sqlite3.connect(":memory:") as database, pytest.MonkeyPatch.context() as patch:
        database.execute(SCHEMA[0])
        for row, item in enumerate(items, start=1):
            database.execute(
                f"INSERT INTO items ({COLUMNS}) VALUES ({','.join('?' * (COLUMNS.count(',') + 1))})",
                record_of(item, row, 1),
            )
        patch.setattr(filter_sql_module, "_HAS_ARROW", arrow and filter_sql_module._HAS_ARROW)
        found = matching(database, asked, 2, len(items))
    database.close()
    wanted = [row for row, item in enumerate(items, start=1) if row > 2 and passes(asked, item)]
    assert found.tolist() == wanted


@pytest.fixture
def gallery(tmp_path: Path) -> Iterator[Gallery]:
    codes = np.arange(20, dtype=np.uint8)[:, None]
    ids = [f"{i}.{'jpg' if i % 2 else 'png'}" for i in range(20)]
    Gallery.create(tmp_path / "g", codes=codes, ids=ids, labels=[[]] * 20, bits=8, model_id="m").close()
    with Gallery.open(tmp_path / "g") as opened:
        yield opened


class Slow:
    """Takes the place of :func:`matching`: waits until it is let go on, and counts what it is asked."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.began, self.go_on = Event(), Event()
        self.spans: list[tuple[int, int]] = []
        patch.setattr(filter_cache, "matching", self)

    def __call__(self, connection: Any, where: Filter, after: int, until: int) -> Any:
        self.spans.append((after, until))
        self.began.set()
        assert self.go_on.wait(20)
        return matching(connection, where, after, until)


JPG = Filter(path="*.jpg")
QUERY = np.zeros((1, 1), np.uint8)


def test_searches_do_not_wait_for_a_filter_and_equal_filters_are_worked_out_once(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = Slow(monkeypatch)
    with ThreadPoolExecutor(3) as pool:
        filtered = [pool.submit(gallery.search, QUERY, 20, where=JPG) for _ in range(3)]
        assert slow.began.wait(20)
        assert len(gallery.search(QUERY, 20)[0]) == 20  # here, while the filter is stuck
        assert gallery.item("3.jpg").item.code == b"\3"
        with open_writer(gallery.path) as writer:
            writer.commit(Changes([Item("new.jpg", b"\0")]))
        assert gallery.refresh()
        slow.go_on.set()
        answers = [found.result() for found in filtered]
    assert slow.spans == [(0, 20)]
    assert [len(hits) for (hits,) in answers] == [10, 10, 10]  # of the generation in which they began


def test_a_later_generation_looks_at_what_came_since(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = Slow(monkeypatch)
    slow.go_on.set()
    assert len(gallery.listed(JPG)[0]) == 10
    with open_writer(gallery.path) as writer:
        writer.commit(Changes([Item("new.jpg", b"\0"), Item("new.png", b"\0")], ["1.jpg", "2.png"]))
    assert gallery.refresh()
    found = [item.id for item in gallery.listed(JPG)[0]]
    assert found == [f"{i}.jpg" for i in range(3, 20, 2)] + ["new.jpg"]
    assert slow.spans == [(0, 20), (20, 22)]
    gallery.listed(JPG)
    assert len(slow.spans) == 2
    for number in range(9):  # the oldest is forgotten
        gallery.listed(Filter(path=f"{number}*"))
    gallery.listed(JPG)
    assert slow.spans.count((0, 22)) == 10


def test_a_filter_that_fails_is_tried_again(gallery: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(filter_cache, "matching", Mock(side_effect=ModelError("damaged")))
        with pytest.raises(ModelError, match="damaged"):
            gallery.listed(JPG)
    assert len(gallery.listed(JPG)[0]) == 10


def test_what_was_purged_while_a_filter_was_worked_out_is_missed(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A filter sees the truth of now; where that has lost rows of its generation, it continues to the next one."""
    monkeypatch.setattr(writing, "TAIL", 0)
    with open_writer(gallery.path) as writer:
        writer.commit(Changes(remove=[f"{i}.jpg" for i in range(1, 19, 2)]))
    with sqlite3.connect(gallery.path / "1" / "items.db") as truth:
        assert truth.execute("SELECT count(*) FROM items").fetchone() == (11,)  # purged
    truth.close()
    assert gallery.generation < Gallery.open(gallery.path).generation
    assert [item.id for item in gallery.listed(JPG)[0]] == ["19.jpg"]
    assert len(gallery) == 11
