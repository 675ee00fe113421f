"""The order of a gallery's answers, against a loop over all items, where many are equally distant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from anglehash.asymmetric import asymmetric_distances, bit_weights
from anglehash.codes import hamming, pack
from anglehash.data.image_hash import Picture
from anglehash.errors import ConfigError, DataError
from anglehash.gallery.filters import Filter
from anglehash.gallery.gallery import Gallery
from anglehash.gallery.query import Hits
from anglehash.gallery.store import writer as writing
from anglehash.gallery.store.items import Item
from anglehash.gallery.store.opening import open_writer
from anglehash.gallery.store.writer import Changes
from anglehash.index import ENGINES

BITS = 6
KEYS = (
    b"",
    b"a" * 32,
    b"a" * 8 + b"b" * 24,
    b"c" * 32,
)  # two begin alike: the index in the truth holds 8 bytes


def some_items(rng: np.random.Generator, names: list[str]) -> list[Item]:
    codes = pack(rng.normal(size=(len(names), BITS)))
    keys = rng.choice(len(KEYS), (len(names), 2), p=[0.91, 0.03, 0.03, 0.03])
    return [
        Item(name, code.tobytes(), (str(i % 3),), {}, KEYS[content], pixels=KEYS[pixels])
        for i, (name, code, (content, pixels)) in enumerate(zip(names, codes, keys, strict=True))
    ]


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Gallery:
    """300 items in segments and after them, some of which were removed or replaced."""
    path, rng = tmp_path_factory.mktemp("ranking") / "g", np.random.default_rng(0)
    none = np.zeros((0, 1), np.uint8)
    Gallery.create(path, codes=none, ids=[], labels=[], bits=BITS, model_id="m").close()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writing, "TAIL", 50)
        for part in range(4):
            with open_writer(path) as writer:
                gone = rng.choice(writer.ids(), 10, replace=False).tolist() if part else []
                fresh = some_items(rng, [f"{part}/{i}" for i in range(90)])
                again = (
                    some_items(rng, rng.choice(sorted({*writer.ids()} - {*gone}), 8).tolist()) if part else []
                )
                writer.commit(Changes([*fresh, *{item.id: item for item in again}.values()], gone))
    return Gallery.open(path)


def definition(
    gallery: Gallery, query: np.ndarray[Any, Any], ask: dict[str, Any]
) -> list[tuple[str, float, bool]]:
    """All answers to one query, in order: id, distance, and whether it is the same picture."""
    real = query.dtype != np.uint8
    code = pack(query[None]) if real else query[None]
    distances = hamming(code, gallery.codes)[0]
    unlikeness = np.zeros(len(gallery), int)
    if real:
        unlikeness = asymmetric_distances(bit_weights(query[None]), gallery.codes)[0]
    if ask.get("asymmetric"):
        distances, unlikeness = unlikeness, np.zeros(len(gallery), int)
    parts = 255 if ask.get("asymmetric") else 1
    picture, where = ask.get("picture") or Picture(), ask.get("where") or Filter()
    found = []
    for place, stored in enumerate(gallery):
        item = stored.item
        same = any(own and own == key for own, key in zip((item.content, item.pixels), picture, strict=True))
        if where.labels and not {*where.labels} & {*item.labels}:
            continue
        if ask.get("radius") is not None and distances[place] > ask["radius"] * parts:
            continue
        if item.id != ask.get("without"):
            found.append((not same, int(distances[place]), int(unlikeness[place]), place, item.id))
    return [(name, distance / parts, not other) for other, distance, _, _, name in sorted(found)]


def tied(whole: list[tuple[str, float, bool]], shown: int) -> int:
    """How many are as far away as the last of those shown; of the same picture, how many of that."""
    if not shown:
        return 0
    _, last, same = whole[min(shown, len(whole)) - 1]
    return sum(distance == last and (own or not same) for _, distance, own in whole)


def named(gallery: Gallery, ask: dict[str, Any]) -> dict[str, Any]:
    """What is asked, with the name of an item to leave out, which is most often some picture's."""
    if "without" not in ask:
        return ask
    known = [stored.item.id for stored in gallery if stored.item.content or stored.item.pixels]
    return ask | {"without": [*known * 5, *gallery.ids][ask["without"]]}


def shown_of(hits: Hits) -> list[tuple[str, float, bool]]:
    return [(hit.id, hit.distance, hit.same_picture) for hit in hits]


asks = st.fixed_dictionaries(
    {},
    optional={
        "radius": st.integers(0, BITS),
        "where": st.sampled_from([Filter(labels=("0",)), Filter(labels=("1", "2")), Filter(labels=("no",))]),
        "picture": st.builds(Picture, st.sampled_from(KEYS), st.sampled_from(KEYS)),
        "without": st.integers(0, 400),
        "engine": st.sampled_from(list(ENGINES)),
    },
)


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    mode=st.sampled_from(["code", "logits", "asymmetric"]),
    k=st.integers(1, 40),
    ask=asks,
)
@example(seed=0, mode="logits", k=1000, ask={})
def test_answers_are_in_the_order_that_is_promised(
    gallery: Gallery, seed: int, mode: str, k: int, ask: dict[str, Any]
) -> None:
    logits = np.random.default_rng(seed).normal(size=(3, BITS))
    queries = pack(logits) if mode == "code" else logits
    ask = named(gallery, ask) | ({"asymmetric": True} if mode == "asymmetric" else {})
    several = {key: value for key, value in ask.items() if key not in ("picture", "without")}
    if "picture" in ask:
        several["pictures"] = [ask["picture"]] * 3
    if "without" in ask:
        several["without"] = [ask["without"], None, ask["without"]]
    for place, hits in enumerate(gallery.search(queries, k, **several)):
        own = ask | ({"without": None} if place == 1 else {})
        whole = definition(gallery, queries[place], own)
        assert shown_of(hits) == whole[:k]
        assert [hit.rank for hit in hits] == list(range(1, len(hits) + 1))
        assert hits.tied_at_last == tied(whole, len(hits))
    if "radius" in ask:
        hits = gallery.search(queries, **several)[0]
        whole = definition(gallery, queries[0], ask)
        assert shown_of(hits) == whole
        assert hits.tied_at_last == tied(whole, len(whole))


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    mode=st.sampled_from(["code", "logits", "asymmetric"]),
    size=st.integers(1, 40),
    ask=asks,
)
def test_pages_are_one_list(gallery: Gallery, seed: int, mode: str, size: int, ask: dict[str, Any]) -> None:
    logits = np.random.default_rng(seed).normal(size=(1, BITS))
    query: Any = pack(logits) if mode == "code" else logits
    ask = named(gallery, ask) | ({"asymmetric": True} if mode == "asymmetric" else {})
    whole, shown, cursor = definition(gallery, query[0], ask), list[Any](), None
    while True:
        page = gallery.page(query, size, cursor=cursor, **ask)
        shown += shown_of(page.hits)
        assert page.hits.tied_at_last == tied(whole, len(shown))
        if page.cursor is None:
            break
        assert len(page.hits) == size
        cursor = page.cursor
    assert shown == whole


def test_worked_by_hand(tmp_path: Path) -> None:
    """Query 1100 with logits 2, 1, -1, -0.1: of the codes one bit away the last bit's is the nearest, then the first
    that differs where the logit is 1, and the first bit's is the farthest."""
    codes = np.array([[0b01000000], [0b10000000], [0b11100000], [0b11010000], [0b11000000]], np.uint8)
    names = ["first bit", "second", "third", "fourth", "equal"]
    gallery = Gallery.create(tmp_path / "g", codes=codes, ids=names, labels=[[]] * 5, bits=4, model_id="m")
    logits = np.array([[2, 1, -1, -0.1]])
    hits = gallery.search(logits, 3)[0]
    assert [(hit.id, hit.distance) for hit in hits] == [("equal", 0), ("fourth", 1), ("second", 1)]
    assert hits.tied_at_last == 4
    by_code = gallery.search(pack(logits), 3)[0]
    assert [hit.id for hit in by_code] == ["equal", "first bit", "second"]
    assert by_code.tied_at_last == 4


def test_items_that_come_and_go_between_pages(tmp_path: Path) -> None:
    """What stays comes once, whatever its place; an item that is replaced is no longer the same picture."""
    picture = Picture(b"x" * 32, b"y" * 32)
    codes = [b"\x00", b"\x80", b"\x80", b"\x40", b"\xc0"]
    items = [
        Item(str(i), code, pixels=picture.pixels if i in (2, 4) else b"") for i, code in enumerate(codes)
    ]
    gallery = Gallery.create(
        tmp_path / "g", codes=np.zeros((0, 1), np.uint8), ids=[], labels=[], bits=8, model_id="m"
    )
    with open_writer(gallery.path) as writer:
        writer.commit(Changes(items))
    assert gallery.refresh()
    logits = np.array([[-1.0, -2, -3, -3, -3, -3, -3, -3]])
    first = gallery.page(logits, 1, picture=picture)
    assert shown_of(first.hits) == [("2", 1, True)]
    with open_writer(gallery.path) as writer:
        writer.commit(Changes([Item("4", b"\xc0"), Item("5", b"\x00", content=picture.content)], ["3"]))
    assert gallery.refresh()
    rest = gallery.page(logits, 9, picture=picture, cursor=first.cursor)
    assert shown_of(rest.hits) == [("0", 0, False), ("1", 1, False), ("4", 2, False)]
    assert shown_of(gallery.page(logits, 2, picture=picture).hits) == [("5", 0, True), ("2", 1, True)]
    with open_writer(gallery.path) as writer:
        writer.commit(Changes(remove=["5", "2"]))
    assert gallery.refresh()
    assert shown_of(gallery.page(logits, 2, picture=picture).hits) == [("0", 0, False), ("1", 1, False)]


def test_a_gallery_made_from_codes_knows_no_pictures(tmp_path: Path) -> None:
    gallery = Gallery.create(
        tmp_path / "g",
        codes=np.zeros((2, 1), np.uint8),
        ids=["a", "b"],
        labels=[[], []],
        bits=8,
        model_id="m",
    )
    hits = gallery.search(np.zeros((1, 1), np.uint8), 2, pictures=[Picture(b"x" * 32, b"y" * 32)])[0]
    assert shown_of(hits) == [("a", 0, False), ("b", 0, False)]
    assert hits.tied_at_last == 2
    assert gallery.search(np.zeros((1, 1), np.uint8), 2, where=Filter(labels=("c",)))[0].tied_at_last == 0


def test_refuses(gallery: Gallery) -> None:
    code = np.zeros((2, 1), np.uint8)
    with pytest.raises(ConfigError, match="wants float logits as queries, not codes"):
        gallery.search(code, 3, asymmetric=True)
    with pytest.raises(DataError, match="none or as many pictures as queries: 2 queries, got 1"):
        gallery.search(code, 3, pictures=[Picture()])
    with pytest.raises(DataError, match="none or as many items to leave out as queries"):
        gallery.search(code, 3, without=["0/1"])
    with pytest.raises(DataError, match="no item 'x'"):
        gallery.page(code[:1], 3, without="x")
    cursor = gallery.page(code[:1], 3).cursor
    with pytest.raises(ConfigError, match="another search"):
        gallery.page(code[:1], 3, picture=Picture(b"a"), cursor=cursor)
