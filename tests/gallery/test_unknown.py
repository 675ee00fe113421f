"""Whether a query is unknown, against a look at every item; where a gallery's level comes from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anglehash.codes import hamming, pack
from anglehash.data.image_hash import Picture
from anglehash.encode.unknown_level import Level
from anglehash.gallery.filters import Filter
from anglehash.gallery.gallery import Gallery
from anglehash.gallery.store.items import Item
from anglehash.gallery.store.opening import open_writer
from anglehash.gallery.store.writer import Changes
from anglehash.index import ENGINES
from anglehash.manifest import write_manifest

BITS, LEVEL = 24, 5
FACTS = {"level": LEVEL, "rejects": 0.04, "images": 450, "from": "validation"}


def model(folder: Path, *, name: str = "m", **facts: Any) -> Path:
    folder.mkdir()
    (folder / "weights").write_bytes(b"12")
    write_manifest(folder, "model", 2, {"id": name, **facts})
    return folder


def codes_of(n: int, seed: int) -> Any:
    return np.random.default_rng(seed).normal(size=(n, BITS)).astype(np.float32)


@pytest.fixture
def gallery(tmp_path: Path) -> Gallery:
    """Sixty items of two labels; one has keys of its picture, and a code far from its query's."""
    none = np.zeros((0, BITS // 8), np.uint8)
    own = model(tmp_path / "m", unknown=FACTS)
    Gallery.create(tmp_path / "g", codes=none, ids=[], labels=[], bits=BITS, model_id="m", model=own).close()
    with open_writer(tmp_path / "g") as writer:
        made = [
            Item(f"{i}.jpg", code.tobytes(), ("ab"[i % 2],)) for i, code in enumerate(pack(codes_of(60, 0)))
        ]
        made.append(Item("own.jpg", b"\xff" * 3, ("b",), {}, b"c" * 32, 0, 0, b"p" * 32))
        writer.commit(Changes(made))
    return Gallery.open(tmp_path / "g")


@pytest.mark.parametrize("engine", list(ENGINES))
@pytest.mark.parametrize(
    "search",
    [
        {"k": 3},
        {"radius": 2},
        {"k": 2, "radius": 1},
        {"k": 3, "where": Filter(labels=("a",))},
        {"k": 3, "where": Filter(labels=("none",))},
        {"k": 1, "asymmetric": True},
    ],
)
def test_it_depends_on_all_items_and_not_on_what_is_shown(
    gallery: Gallery, engine: str, search: dict[str, Any]
) -> None:
    logits = codes_of(80, 1)
    nearest = hamming(pack(logits), gallery.codes).min(axis=1).tolist()
    assert len({distance > LEVEL for distance in nearest}) == 2
    found = gallery.search(logits, engine=engine, **search)
    assert [hits.unknown for hits in found] == [distance > LEVEL for distance in nearest]
    for hits, distance in zip(found, nearest, strict=True):
        assert hits.nearest == (distance if hits.unknown else None)
        assert hits.level == Level(LEVEL, 0.04, 450, "validation")


def test_all_pages_say_the_same(gallery: Gallery) -> None:
    logits = codes_of(80, 1)
    nearest = hamming(pack(logits), gallery.codes).min(axis=1)
    for query in (int(nearest.argmin()), int(nearest.argmax())):
        cursor, said = None, set()
        for _ in range(3):
            page = gallery.page(logits[query : query + 1], 5, cursor=cursor)
            cursor = page.cursor
            said.add(page.hits.unknown)
        assert said == {bool(nearest[query] > LEVEL)}


def test_what_is_in_the_gallery_is_never_unknown(gallery: Gallery) -> None:
    far = np.zeros((1, 3), np.uint8)
    assert hamming(far, gallery.codes).min() > LEVEL
    assert gallery.search(far, 2)[0].unknown is True
    for picture in (Picture(b"c" * 32, b""), Picture(b"", b"p" * 32)):
        assert gallery.search(far, 2, pictures=[picture])[0].unknown is False
        assert gallery.search(far, 2, pictures=[picture], where=Filter(labels=("a",)))[0].unknown is False
        assert gallery.page(far, 2, picture=picture).hits.unknown is False
    assert gallery.search(far, 2, pictures=[Picture(b"d" * 32, b"")])[0].unknown is True
    assert gallery.similar("own.jpg", 3).unknown is False
    assert gallery.search(np.frombuffer(b"\xff" * 3, np.uint8)[None], 1)[0].unknown is False


def test_a_gallery_of_codes_knows_no_level_until_it_is_given_one(tmp_path: Path) -> None:
    codes = pack(codes_of(9, 0))
    made = Gallery.create(
        tmp_path / "g", codes=codes, ids=list("abcdefghi"), labels=[()] * 9, bits=BITS, model_id="m"
    )
    hits = made.search(codes[:1], 2)[0]
    assert (made.level, hits.unknown, hits.level, hits.nearest) == (None, None, None, None)
    assert made.similar("a", 3).unknown is None
    made.level = Level(0, 0.0, 30, "training")
    strange = 255 - codes[:1]
    assert [hits.unknown for hits in made.search(np.concatenate([codes[:1], strange]), 2)] == [False, True]


@pytest.mark.parametrize("facts", [{}, {"unknown": None}, {"name": "another", "unknown": FACTS}])
def test_a_model_without_a_level_or_of_another_id_gives_none(tmp_path: Path, facts: dict[str, Any]) -> None:
    codes = pack(codes_of(2, 0))
    made = Gallery.create(
        tmp_path / "g", codes=codes, ids=["a", "b"], labels=[(), ()], bits=BITS, model_id="m",
        model=model(tmp_path / "m", **facts),
    )  # fmt: skip
    assert made.search(255 - codes, 1)[0].unknown is None


def test_an_empty_gallery_says_nothing(tmp_path: Path) -> None:
    none = np.zeros((0, BITS // 8), np.uint8)
    made = Gallery.create(
        tmp_path / "g", codes=none, ids=[], labels=[], bits=BITS, model_id="m",
        model=model(tmp_path / "m", unknown=FACTS),
    )  # fmt: skip
    assert made.level is not None
    assert made.search(pack(codes_of(2, 0)), 1)[1].unknown is None


def test_a_gallery_that_is_refreshed_reads_the_level_again(gallery: Gallery, tmp_path: Path) -> None:
    assert gallery.level == Level(LEVEL, 0.04, 450, "validation")
    gallery.level = None
    with open_writer(gallery.path) as writer:
        writer.commit(Changes(remove=["0.jpg"]))
    assert gallery.refresh()
    assert gallery.level is not None
