"""Duplicates: items with equal bytes, and items whose codes are equal or nearly so, in groups.

Learned codes put the images of a class close together, so equal codes are a hint and no proof; equal bytes are
a proof. Nothing is ever deleted here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anglehash.codes import Codes
from anglehash.search.engines import DEFAULT, check_radius, make_index
from anglehash.search.gallery import Gallery

_QUERIES = 1024  # codes that are searched at once


class Group(NamedTuple):
    """Items that are the same, or look it.

    Attributes:
        ids: two or more, in the gallery's order.
        same_bytes: whether all of them have the same bytes.
        keep: the one that is suggested to be kept: the largest file, of equally large ones the first.
    """

    ids: tuple[str, ...]
    same_bytes: bool
    keep: str


def duplicates(gallery: Gallery, *, max_distance: int | None = None, engine: str = DEFAULT) -> list[Group]:
    """Groups of duplicates, in the order of their first items.

    Two items are in one group where a chain of duplicates leads from one to the other.

    Args:
        gallery: where to look.
        max_distance: codes so many bits apart count too; without it only equal bytes do.
        engine: who searches.

    Raises:
        ConfigError: ``max_distance`` is not a whole number in 0..bits.
    """
    ids, contents = [], []
    for stored in gallery:
        ids.append(stored.item.id)
        contents.append(stored.item.content)
    sets = _Sets(len(ids))
    by_content = defaultdict[bytes, list[int]](list)
    for row, content in enumerate(contents):
        if content:
            by_content[content].append(row)
    for rows in by_content.values():
        sets.join(rows)
    if max_distance is not None:
        radius = check_radius(max_distance, gallery.bits)
        for near in _near(gallery.codes, gallery.bits, radius, engine):
            sets.join(near)
    sizes = {seen.id: seen.size for seen in gallery.files}
    groups = []
    for rows in sets.groups():
        names = tuple(ids[row] for row in rows)
        same = contents[rows[0]] != b"" and len({contents[row] for row in rows}) == 1
        groups.append(Group(names, same, max(names, key=lambda name: sizes.get(name, 0))))
    return groups


def _near(codes: Codes, bits: int, radius: int, engine: str) -> Iterator[Iterable[int]]:
    """Rows that belong together: those of each code, and the first ones of codes within the radius."""
    if not len(codes):
        return
    unique, first, group = np.unique(codes, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(group.ravel(), kind="stable")
    ends = np.cumsum(np.bincount(group.ravel()))[:-1]
    for rows in np.split(order, ends):
        yield rows.tolist()
    if radius == 0:
        return
    index = make_index(engine, unique, bits)
    for start in range(0, len(unique), _QUERIES):
        lims, _, found = index.search_radius(unique[start : start + _QUERIES], radius)
        for a, b in pairwise(lims):
            yield first[found[a:b]].tolist()


class _Sets:
    """Which rows belong together: disjoint sets, each known by its smallest row."""

    def __init__(self, size: int) -> None:
        self._parent: NDArray[np.int64] = np.arange(size)

    def join(self, rows: Iterable[int]) -> None:
        """Put the sets of these rows together."""
        tops = [self._top(row) for row in rows]
        for top in tops:
            self._parent[top] = min(tops)

    def groups(self) -> Iterator[list[int]]:
        """The sets of two or more rows, in the order of their first rows."""
        members = defaultdict[int, list[int]](list)
        for row in range(len(self._parent)):
            members[self._top(row)].append(row)
        yield from (rows for _, rows in sorted(members.items()) if len(rows) > 1)

    def _top(self, row: int) -> int:
        while self._parent[row] != row:
            self._parent[row] = self._parent[self._parent[row]]  # halve the way for the next
            row = int(self._parent[row])
        return row
