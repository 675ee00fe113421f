"""Damage of every kind: found by verify, named, and made good by repair as far as the truth is whole."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np
import pytest

from anglehash.errors import ModelError
from anglehash.gallery.gallery import Gallery
from anglehash.gallery.store import writer as writing
from anglehash.gallery.store.items import Item, Seen
from anglehash.gallery.store.opening import open_writer
from anglehash.gallery.store.repair import repair
from anglehash.gallery.store.sources import Source
from anglehash.gallery.store.verify import verify
from anglehash.gallery.store.writer import Changes

N = 300
CODES = np.random.default_rng(0).integers(0, 256, (N, 2), dtype=np.uint8)
IDS = tuple(f"{i:03d}.jpg" for i in range(N))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A gallery with two segments, a tail of one row, a dead row, a problem and a source."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_bytes(b"12")
    path = tmp_path / "g"
    Gallery.create(
        path, codes=CODES[:200], ids=IDS[:200], labels=[["x"]] * 200, bits=16, model_id="m",
        model=tmp_path / "model", problems=[("bad.jpg", "truncated", "half")],
    ).close()  # fmt: skip
    with pytest.MonkeyPatch.context() as patch, open_writer(path) as writer:
        patch.setattr(writing, "TAIL", 10)
        writer.add_source(Source("/photos"))
        writer.commit(Changes([item(i) for i in range(200, 299)], remove=["007.jpg"]))
    with open_writer(path) as writer:
        writer.commit(Changes([item(299)], seen=[Seen("worse.jpg", "empty", "nothing")]))
    return path


def item(row: int) -> Item:
    return Item(IDS[row], CODES[row].tobytes(), ("x",))


def held(path: Path) -> dict[str, bytes]:
    with Gallery.open(path) as gallery:
        codes = dict(zip(gallery.ids, map(bytes, gallery.codes), strict=True))
        assert {s.item.id: s.item.code for s in gallery} == codes
        return codes


EXPECTED = {name: bytes(code) for name, code in zip(IDS, CODES, strict=True) if name != "007.jpg"}


def test_a_whole_gallery_has_no_fault(path: Path) -> None:
    assert verify(path) == []
    assert held(path) == EXPECTED
    done = repair(path)
    assert (done.faults, done.items, done.lost, done.kept) == ([], N - 1, 0, None)


@pytest.mark.parametrize("name", ["manifest.json", "1/receipt", "segment"])
@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "remove"])
def test_what_is_derived_is_rebuilt(path: Path, name: str, damage: str) -> None:
    file = sorted((path / "1" / "codes").iterdir())[-1] if name == "segment" else path / name
    whole = file.read_bytes()
    if damage == "remove":
        file.unlink()
    else:
        flipped = whole[:-3] + bytes([whole[-3] ^ 4]) + whole[-2:]
        file.write_bytes({"flip": flipped, "cut": whole[:-2], "empty": b""}[damage])
    faults = verify(path)
    assert [fault.file for fault in faults] == [str(file)]
    done = repair(path)
    assert (done.faults, done.items, done.lost, done.kept) == (faults, N - 1, 0, None)
    assert verify(path) == []
    assert held(path) == EXPECTED
    assert (Gallery.open(path).model_folder / "weights").exists()


def test_a_damaged_row_is_left_out_and_the_rest_is_saved(path: Path) -> None:
    with sqlite3.connect(path / "1" / "items.db") as connection:
        connection.execute("UPDATE items SET labels = replace(labels, 'x', 'y') WHERE row = 5")
        connection.execute("UPDATE items SET code = x'0000' WHERE row = 9")  # a segment has the right one
        connection.execute("UPDATE files SET reason = 'fine' WHERE id = CAST('bad.jpg' AS BLOB)")
    connection.close()
    assert any("row 5" in fault.detail for fault in verify(path))
    done = repair(path)
    assert (done.items, done.lost, done.kept) == (N - 2, 1, path / "1.damaged")
    expected = {name: code for name, code in EXPECTED.items() if name != IDS[4]}
    assert verify(path) == []
    assert held(path) == expected
    opened = Gallery.open(path)
    assert opened.problems == (("worse.jpg", "empty", "nothing"),)
    assert (opened.model_folder / "weights").read_bytes() == b"12"
    with open_writer(path) as writer:
        assert writer.add_source(Source("/photos")) == 1


@pytest.mark.parametrize("page", range(1, 12))
def test_a_lost_page_takes_only_its_own_rows(path: Path, page: int) -> None:
    file = path / "1" / "items.db"
    data = bytearray(file.read_bytes())
    if (page + 1) * 4096 > len(data):
        pytest.skip("the database has fewer pages")
    data[page * 4096 : (page + 1) * 4096] = bytes(4096)
    file.write_bytes(data)
    assert verify(path)
    done = repair(path)
    found = held(path)
    assert found.items() <= EXPECTED.items()
    assert done.items == len(found)
    assert done.lost == N - 1 - len(found)
    assert verify(path) == []


def test_what_is_not_gallery_is_refused(tmp_path: Path) -> None:
    for ask in (verify, repair):
        with pytest.raises(ModelError, match="is not an anglehash gallery"):
            ask(tmp_path)


def test_a_lost_truth_says_that_only_a_backup_helps(path: Path) -> None:
    (path / "1" / "items.db").unlink()
    with pytest.raises(ModelError, match=r"items\.db is missing: restore a backup"):
        repair(path)
