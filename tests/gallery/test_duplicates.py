"""Duplicates against a loop over all pairs; groups of near copies are complete, and no two of them could be one."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from anglehash.data.perceptual_hash import SIGNATURE
from anglehash.gallery import duplicates as module
from anglehash.gallery.duplicates import NEAR, SAME_BYTES, SAME_PIXELS, duplicates
from anglehash.gallery.gallery import Gallery
from anglehash.gallery.store.items import Item
from anglehash.gallery.store.opening import open_writer
from anglehash.gallery.store.writer import Changes

STEP = 24
"""Bits between pictures that follow each other: two steps are near (48 bits), three are not (72)."""

Drawn = tuple[int, int, int, int]  # content and picture, 0 for unknown; pixels; bytes


def signature(place: int, pixels: int, size: int) -> bytes:
    """Of a picture in a chain, each of which is near the next two and no other."""
    one = np.zeros((), SIGNATURE)
    one["width"], one["height"], one["bytes"] = pixels, 1, size
    one["hash"] = np.packbits(np.arange(256) < STEP * place)
    one["thumbnail"] = np.arange(192).reshape(8, 8, 3)
    return one.tobytes()


def item_of(row: int, drawn: Drawn) -> Item:
    content, place, pixels, size = drawn
    keys = (bytes([place]) * 32, signature(place, pixels, size)) if place else (b"", b"")
    return Item(
        f"{row:02d}", b"\0", content=bytes([content]) * 32 * (content > 0), pixels=keys[0], signature=keys[1]
    )


def opened(path: Path, drawn: list[Drawn]) -> Gallery:
    Gallery.create(path, codes=np.zeros((0, 1), np.uint8), ids=[], labels=[], bits=8, model_id="m").close()
    with open_writer(path) as writer:
        writer.commit(Changes([item_of(row, one) for row, one in enumerate(drawn)]))
    return Gallery.open(path)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    places=st.lists(st.integers(0, 9), max_size=14),
    contents=st.lists(st.integers(0, 2), min_size=14, max_size=14),
    sizes=st.lists(st.tuples(st.integers(1, 2), st.integers(1, 2)), min_size=14, max_size=14),
    engine=st.sampled_from(["multi-index", "exact"]),
)
def test_groups_are_complete_and_could_not_be_larger(
    tmp_path_factory: pytest.TempPathFactory,
    places: list[int],
    contents: list[int],
    sizes: list[tuple[int, int]],
    engine: str,
) -> None:
    # Equal bytes are equal pixels: a content is known for pictures 1 and 2 only, and for items without a picture.
    drawn = [
        (place if contents[row] and place < 3 else contents[row] * (place == 0), place, *sizes[row])
        for row, place in enumerate(places)
    ]
    with opened(tmp_path_factory.mktemp("duplicates") / "g", drawn) as gallery:
        found = duplicates(gallery, engine=engine)
    assert (found.items, found.without_pixels) == (len(drawn), places.count(0))

    def picture(one: Drawn) -> int:
        """An item without a picture has that of an item with its bytes."""
        there = [other[1] for other in drawn if other[0] == one[0] != 0 and other[1]]
        return one[1] or (there[0] if there else 0)

    def same(a: Drawn, b: Drawn) -> bool:
        return a[0] == b[0] != 0 or picture(a) == picture(b) != 0

    def near(a: Drawn, b: Drawn) -> bool:
        return picture(a) > 0 and picture(b) > 0 and abs(picture(a) - picture(b)) <= 2

    groups = [[int(name) for name in group.ids] for group in found.groups]
    assert sorted(groups) == groups
    listed = [row for group in groups for row in group]
    assert len(set(listed)) == len(listed)
    for rows, group in zip(groups, found.groups, strict=True):
        members = [drawn[row] for row in rows]
        assert rows == sorted(rows)
        assert all(near(a, b) or same(a, b) for a, b in combinations(members, 2))
        kind = SAME_PIXELS if all(same(a, b) for a, b in combinations(members, 2)) else NEAR
        kind = SAME_BYTES if len({one[0] for one in members}) == 1 and members[0][0] else kind
        assert group.kind == kind
        known = [(one[2], one[3]) if one[1] else (0, 0) for one in members]
        best = max(range(len(rows)), key=lambda place: (*known[place], -place))
        assert group.keep == group.ids[best]
        assert group.sizes == tuple((pixels, int(pixels > 0), size) for pixels, size in known)
    alone = [[row] for row in range(len(drawn)) if row not in listed]
    for one, other in combinations(groups + alone, 2):
        assert not all(near(drawn[a], drawn[b]) or same(drawn[a], drawn[b]) for a in one for b in other)


def test_a_chain_is_not_group(tmp_path: Path) -> None:
    with opened(tmp_path / "g", [(0, place, 1, 1) for place in range(1, 8)]) as gallery:
        found = duplicates(gallery)
    assert [group.ids for group in found.groups] == [("00", "01", "02"), ("03", "04", "05")]


def test_the_closest_pairs_come_first(tmp_path: Path) -> None:
    pictures = (1, 3, 4)  # 3 is as near to 4 as can be, and 48 bits from 1
    with opened(tmp_path / "g", [(0, place, 1, 1) for place in pictures]) as gallery:
        (group,) = duplicates(gallery).groups
    assert (group.ids, group.kind) == (("01", "02"), NEAR)


def test_many_near_copies_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_NEAREST", 2)
    monkeypatch.setattr(module, "_QUERIES", 3)
    monkeypatch.setattr(module, "_CONFIRMED", 2)
    drawn = [(0, place, 1, 1) for place in range(1, 4)] * 3
    with opened(tmp_path / "g", drawn) as gallery:
        (group,) = duplicates(gallery).groups
    assert len(group.ids) == 9
