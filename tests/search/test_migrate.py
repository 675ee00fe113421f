"""A gallery of format 1, written by the code that wrote them, is converted and loses nothing."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from anglehash.errors import ModelError
from anglehash.search.gallery import Gallery
from anglehash.search.store import migrate

OLD = Path(__file__).parent / "gallery-v1"
CODES = [[28, 224], [96, 64], [193, 0], [45, 96], [40, 240], [202, 144]]  # of 12 bits, as they were given
IDS = ("cat/1.jpg", "dog/1.jpg", "dog/2.jpg", os.fsdecode(b"caf\xe9.jpg"), "no label.jpg", "🦊.png")


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return Path(shutil.copytree(OLD, tmp_path / "gallery"))


def check(gallery: Gallery) -> None:
    assert gallery.codes.tolist() == CODES
    assert gallery.ids == IDS
    assert gallery.labels == (("cat",), ("dog", "pet"), ("dog",), ("café",), (), ("\ud800",))
    assert gallery.problems == (("bad.jpg", "truncated", "ends after 12 bytes"),)
    assert (gallery.bits, gallery.model_id, gallery.root) == (12, "0123456789abcdef", "photos")
    assert gallery.created_by == "anglehash 0.1.0"
    assert (gallery.model_folder / "weights").read_bytes() == b"not a real model\n"


def test_opening_converts(old: Path) -> None:
    check(Gallery.open(old))
    assert sorted(p.name for p in old.iterdir()) == ["1", "manifest.json"]
    check(Gallery.open(old))


def test_an_old_gallery_that_is_damaged_stays_as_it_is(old: Path) -> None:
    (old / "items.jsonl").write_bytes(b"{}\n")
    before = sorted(p.name for p in old.iterdir())
    with pytest.raises(ModelError, match=r"items\.jsonl is damaged"):
        Gallery.open(old)
    assert sorted(p.name for p in old.iterdir()) == before


@pytest.mark.parametrize("step", range(5))
def test_a_conversion_that_fails_anywhere_can_be_begun_again(
    old: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    names = ["make_store", "attach", "Changes", "shutil.rmtree", "acknowledge"]
    target = {"acknowledge": "anglehash.search.store.writer.write_receipt"}.get(
        names[step], f"anglehash.search.store.migrate.{names[step]}"
    )

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(target, fail)
        with pytest.raises(OSError, match="No space"):
            Gallery.open(old)
    check(Gallery.open(old))


def test_codes_are_compared_with_their_length(old: Path) -> None:
    assert migrate.migrate_if_old(old)
    assert not migrate.migrate_if_old(old)
    assert np.array_equal(Gallery.open(old).codes, np.array(CODES, np.uint8))
