"""The store: commits, readers and what each sees, against a plain dictionary."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import threading
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from anglehash.errors import CodeMismatchError, DataError, ModelError
from anglehash.gallery.gallery import Gallery
from anglehash.gallery.store import reader as reading
from anglehash.gallery.store import writer as writing
from anglehash.gallery.store.database import file_digest
from anglehash.gallery.store.items import Item, Seen
from anglehash.gallery.store.opening import open_writer
from anglehash.gallery.store.writer import Applied, Changes

BITS = 16


def item(name: str, code: int, **more: Any) -> Item:
    return Item(name, code.to_bytes(2, "big"), **more)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    empty = np.zeros((0, 2), np.uint8)
    Gallery.create(tmp_path / "g", codes=empty, ids=[], labels=[], bits=BITS, model_id="m").close()
    return tmp_path / "g"


def held(gallery: Gallery) -> dict[str, int]:
    """Ids to codes, by the items; the mapped codes say the same."""
    found = {stored.item.id: int.from_bytes(stored.item.code, "big") for stored in gallery}
    assert gallery.codes.tobytes() == b"".join(code.to_bytes(2, "big") for code in found.values())
    return found


def test_add_replace_remove(path: Path) -> None:
    with open_writer(path) as writer:
        assert writer.commit(Changes([item("a", 1), item("b", 2)])) == Applied(added=2)
        assert writer.commit(Changes([item("b", 3), item("c", 4)])) == Applied(added=1, replaced=1)
        assert writer.commit(Changes(remove=["a", "nothing"])) == Applied(removed=1)
    assert held(Gallery.open(path)) == {"b": 3, "c": 4}


def test_a_reader_keeps_its_generation_until_it_refreshes(path: Path) -> None:
    query = np.array([[0, 1]], np.uint8)
    with open_writer(path) as writer:
        writer.commit(Changes([item("a", 1), item("b", 2)]))
        reader = Gallery.open(path)
        assert [hit.id for hit in reader.search(query, 5)[0]] == ["a", "b"]
        writer.commit(Changes([item("c", 1)], remove=["a"]))
        assert [hit.id for hit in reader.search(query, 5)[0]] == ["a", "b"]
        assert held(reader) == {"a": 1, "b": 2}
        assert reader.refresh()
        assert [hit.id for hit in reader.search(query, 5)[0]] == ["c", "b"]
        assert not reader.refresh()


def test_items_come_back_whole(path: Path) -> None:
    given_item = item(
        os.fsdecode(b"caf\xe9\n"), 7, labels=("b|", "a"), metadata={"year": 2019, "tags": ["x", "é"]},
        content=bytes(32), date=12, source=3,
    )  # fmt: skip
    seen = Seen(os.fsdecode(b"\xff"), "truncated", "half\ud800", bytes(32), 5, 6)
    with open_writer(path) as writer:
        writer.commit(Changes([given_item], seen=[seen]))
    gallery = Gallery.open(path)
    assert [stored.item for stored in gallery] == [given_item]
    assert gallery.item(given_item.id).item == given_item
    assert gallery.files == [seen]
    with pytest.raises(DataError, match="no item 'x'"):
        gallery.item("x")


def test_a_refused_commit_changes_nothing(path: Path) -> None:
    with open_writer(path) as writer:
        writer.commit(Changes([item("a", 1)]))
        with pytest.raises(DataError, match="'b' comes twice"):
            writer.commit(Changes([item("b", 1), item("b", 2)]))
        with pytest.raises(DataError, match="half of a surrogate pair"):
            writer.commit(Changes([item("c", 1), item("\ud800", 2)], remove=["a"]))
        with pytest.raises(CodeMismatchError):
            writer.commit(Changes([Item("d", b"1")]))
        with pytest.raises(DataError, match="metadata are texts"):
            writer.commit(Changes([item("e", 1, metadata={"x": float("nan")})], remove=["a"]))
        writer.commit(Changes([item("f", 6)]))
    assert held(Gallery.open(path)) == {"a": 1, "f": 6}


steps = st.lists(
    st.tuples(
        st.lists(
            st.tuples(st.integers(0, 9), st.integers(0, 2**16 - 1)), max_size=4, unique_by=lambda t: t[0]
        ),
        st.lists(st.integers(0, 9), max_size=2, unique=True),
        st.sampled_from(["go on", "reopen", "publish"]),
    ),
    max_size=8,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=steps, tail=st.sampled_from([0, 2, 4096]))
def test_equals_a_dictionary(tmp_path_factory: pytest.TempPathFactory, steps: Any, tail: int) -> None:
    path = tmp_path_factory.mktemp("store") / "g"
    empty = np.zeros((0, 2), np.uint8)
    reader = Gallery.create(path, codes=empty, ids=[], labels=[], bits=BITS, model_id="m")
    expected: dict[str, int] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writing, "TAIL", tail)  # with 0, every commit that is published makes a segment
        patch.setattr(writing, "LONG_TAIL", 3)
        context = open_writer(path)
        writer = context.__enter__()
        for adds, removes, then in steps:
            removed = [f"id {n}" for n in removes if n not in {n for n, _ in adds}]
            writer.commit(Changes([item(f"id {n}", code) for n, code in adds], remove=removed))
            for name in removed:
                expected.pop(name, None)
            for n, code in adds:
                expected.pop(f"id {n}", None)  # a replaced item goes to the end
                expected[f"id {n}"] = code
            if then == "reopen":
                context.__exit__(None, None, None)
                context = open_writer(path)
                writer = context.__enter__()
            elif then == "publish":
                writer.settle()
            reader.refresh()
            with Gallery.open(path) as opened:
                assert list(held(opened).items()) == list(held(reader).items()) == list(expected.items())
        context.__exit__(None, None, None)


def test_segments_merge_and_the_dead_are_purged(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "TAIL", 0)
    for start in range(0, 40, 4):
        with open_writer(path) as writer:
            writer.commit(Changes([item(str(n), n) for n in range(start, start + 4)]))
    assert len(list((path / "1" / "codes").iterdir())) <= 4
    with open_writer(path) as writer:
        writer.commit(Changes(remove=[str(n) for n in range(30)]))
    with open_writer(path) as writer:
        assert writer.state.dead == 0
        assert writer.connection.execute("SELECT count(*) FROM items").fetchone() == (10,)
    assert held(Gallery.open(path)) == {str(n): n for n in range(30, 40)}


def test_looking_at_all_items_begins_with_those_of_today_or_ends_with_an_error(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "TAIL", 0)
    monkeypatch.setattr(reading, "_PAGE", 2)
    with open_writer(path) as writer:
        writer.commit(Changes([item(str(n), n) for n in range(9)]))
    reader, begun = Gallery.open(path), Gallery.open(path)
    items = iter(begun)
    assert next(items).item.id == "0"
    with open_writer(path) as writer:  # three of nine are more than a quarter of what stays: purged
        writer.commit(Changes(remove=["0", "4", "8"]))
    assert reader.ids == ("1", "2", "3", "5", "6", "7")
    with pytest.raises(ModelError, match="was changed while all of it was looked at: refresh it"):
        list(items)
    with pytest.raises(DataError, match="no item '4'"):
        begun.item("4")


def test_an_answer_whose_row_was_purged_is_searched_for_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "TAIL", 0)
    with open_writer(path) as writer:
        writer.commit(Changes([item("a", 1), item("b", 2)]))
    reader = Gallery.open(path)
    with open_writer(path) as writer:
        writer.commit(Changes(remove=["a"]))
    assert [hit.id for hit in reader.search(np.array([[0, 1]], np.uint8), 1)[0]] == ["b"]


def test_two_writers_take_turns(path: Path) -> None:
    refusal = rf"process {os.getpid()}: .*--lock-timeout 0\.1"
    with (
        open_writer(path),
        pytest.raises(ModelError, match=refusal),
        open_writer(path, lock_timeout=0.1),
    ):
        pass
    ready = threading.Event()

    def hold() -> None:
        with open_writer(path) as writer:
            ready.set()
            writer.commit(Changes([item("first", 1)]))

    thread = threading.Thread(target=hold)
    thread.start()
    ready.wait()
    with open_writer(path, lock_timeout=30) as writer:
        writer.commit(Changes([item("second", 2)]))
    thread.join()
    assert held(Gallery.open(path)) == {"first": 1, "second": 2}


class NoSharedMemory(sqlite3.Connection):
    """SQLite where no write-ahead log can be had."""

    def execute(self, statement: str, *rest: Any) -> Any:
        return super().execute(statement.replace("= WAL", "= DELETE"), *rest)


def grow_and_read(path: Path) -> None:
    with open_writer(path) as writer:
        writer.commit(Changes([item("a", 1)]))
        reader = Gallery.open(path)
        writer.commit(Changes([item("b", 2)]))
        assert reader.refresh()
    assert held(Gallery.open(path)) == {"a": 1, "b": 2}
    assert not (path / "1" / "items.db-wal").exists()


def test_a_file_system_without_write_ahead_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=NoSharedMemory))
        empty = np.zeros((0, 2), np.uint8)
        Gallery.create(tmp_path / "g", codes=empty, ids=[], labels=[], bits=BITS, model_id="m")
    assert "has no write-ahead log" in caplog.text
    grow_and_read(tmp_path / "g")


def test_a_gallery_that_moves_to_such_a_file_system(path: Path) -> None:
    (path / "1" / "items.db-shm").symlink_to("nowhere")  # SQLite follows no link, so it has no shared memory
    with Gallery.open(path) as gallery:
        assert len(gallery) == 0
    grow_and_read(path)


def test_the_digest_of_a_file_apart(tmp_path: Path) -> None:
    file = tmp_path / "x"
    file.write_bytes(b"abc")
    assert file_digest(file) == hashlib.sha256(b"abc").hexdigest()
    with pytest.raises(OSError, match="No such file"):
        file_digest(tmp_path / "absent")
