"""Duplicates: items with equal bytes, equal pixels, or near copies of each other, in groups; nothing is deleted.

Learned codes have no say in this: they put a whole class close together. Near copies are found by what was kept of
the pixels when an item was added (:mod:`anglehash.data.perceptual_hash`): candidates by the distance of their
perceptual hashes, confirmed by their thumbnails. A group is complete, never a chain: any two of it are near copies.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import chain, pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from anglehash.data.perceptual_hash import HASH_BITS, HASH_DISTANCE, SIGNATURE, Signatures, are_near
from anglehash.gallery.store.items import Item
from anglehash.index import DEFAULT, make_index

if TYPE_CHECKING:
    from anglehash.gallery.interface import AnyGallery

SAME_BYTES, SAME_PIXELS, NEAR = "same bytes", "same pixels", "near copies"

_QUERIES = 256  # hashes that are searched at once
_CONFIRMED = 50_000  # candidates whose thumbnails are compared at once
_NEAREST = 64  # near copies of an item that may join groups by it: what bounds the memory


class Group(NamedTuple):
    """Items that are the same, or near copies.

    Attributes:
        ids: two or more, in the gallery's order.
        kind: ``same bytes``, ``same pixels`` or ``near copies``, of which some may be the same.
        keep: the one that is suggested to be kept.
        reason: why that one: ``most pixels``, ``least compressed`` of those with most pixels, or ``added first``.
        sizes: width, height and bytes of each, 0 where they are not known.
    """

    ids: tuple[str, ...]
    kind: str
    keep: str
    reason: str
    sizes: tuple[tuple[int, int, int], ...]


class Duplicates(NamedTuple):
    """What was found.

    Attributes:
        groups: in the order of their first items.
        items: how many there are in the gallery.
        without_pixels: items of whose pixels nothing is known, as of codes that came without images: of those only
            equal bytes are found, where even these are known.
    """

    groups: list[Group]
    items: int
    without_pixels: int


def duplicates(gallery: AnyGallery, *, engine: str = DEFAULT) -> Duplicates:
    """Groups of duplicates.

    Takes 0.5 kB of memory an item, and 64 near copies at most of each: of more, the farther ones may be left in
    groups of their own.

    Args:
        gallery: where to look.
        engine: who searches the hashes.
    """
    items = [stored.item._replace(labels=(), metadata={}) for stored in gallery]
    nodes = _same(items)
    blank = bytes(SIGNATURE.itemsize)
    signatures = np.frombuffer(b"".join(item.signature or blank for item in items), SIGNATURE)
    signed = [node for node in nodes if items[node[0]].signature]
    firsts: NDArray[np.int64] = np.array([node[0] for node in signed], dtype=np.int64)
    groups = [[signed[place] for place in group] for group in _linked(signatures[firsts], engine)]
    near = {node[0] for group in groups for node in group}
    found = [(sorted(chain.from_iterable(group)), NEAR) for group in groups]
    found += [(sorted(node), _kind(items, node)) for node in nodes if len(node) > 1 and node[0] not in near]
    return Duplicates(
        [_group(items, signatures, rows, kind) for rows, kind in sorted(found)],
        len(items),
        sum(not item.signature for item in items),
    )


def _same(items: Sequence[Item]) -> list[list[int]]:
    """The rows of each picture: equal bytes or equal pixels; one that has a signature comes first."""
    pixels_of = {item.content: item.pixels for item in items if item.content and item.pixels}
    nodes = defaultdict[bytes, list[int]](list)
    for row, item in enumerate(items):
        key = item.pixels or pixels_of.get(item.content, item.content)
        nodes[key or b"row %d" % row].append(row)
    return [sorted(node, key=lambda row: (not items[row].signature, row)) for node in nodes.values()]


def _kind(items: Sequence[Item], rows: Sequence[int]) -> str:
    first = items[rows[0]].content
    return SAME_BYTES if first and all(items[row].content == first for row in rows) else SAME_PIXELS


def _group(items: Sequence[Item], signatures: Signatures, rows: Sequence[int], kind: str) -> Group:
    rows = sorted(rows)
    sizes = tuple(tuple(int(signatures[name][row]) for name in ("width", "height", "bytes")) for row in rows)
    keep, reason = _best(sizes)
    ids = tuple(items[row].id for row in rows)
    return Group(ids, kind, ids[keep], reason, sizes)  # type: ignore[arg-type]  # three numbers each


def _best(sizes: Sequence[tuple[int, ...]]) -> tuple[int, str]:
    """Which of these to keep, and why.

    >>> _best([(8, 8, 90), (9, 8, 70)]), _best([(9, 8, 70), (8, 9, 90)]), _best([(8, 8, 90), (8, 8, 90)])
    ((1, 'most pixels'), (1, 'least compressed'), (0, 'added first'))
    """
    left = list(range(len(sizes)))
    pixels, lengths = [width * height for width, height, _ in sizes], [size for *_, size in sizes]
    for reason, values in (("most pixels", pixels), ("least compressed", lengths)):
        most = max(values[place] for place in left)
        left = [place for place in left if values[place] == most]
        if len(left) == 1:
            return left[0], reason
    return left[0], "added first"


def _linked(signatures: Signatures, engine: str) -> list[list[int]]:
    """Groups of two or more rows, any two of which are near copies: complete linkage, the closest pairs first.

    No two of the groups could be one, but where a row has more than 64 near copies.
    """
    members = {row: [row] for row in range(len(signatures))}
    group_of = list(range(len(signatures)))
    for one, other in sorted_pairs(signatures, engine):
        small, large = sorted((group_of[one], group_of[other]), key=lambda group: len(members[group]))
        if small == large:
            continue
        there = signatures[members[large]]
        if all(are_near(signatures[row : row + 1], there).all() for row in members[small]):
            for row in members[small]:
                group_of[row] = large
            members[large] += members.pop(small)
    return [group for group in members.values() if len(group) > 1]


def sorted_pairs(signatures: Signatures, engine: str = DEFAULT) -> list[tuple[int, int]]:
    """Pairs of rows that are near copies, those with the closest hashes first, then by row."""
    if len(signatures) < 2:
        return []
    parts = list(_near_pairs(signatures, engine))
    distances, ones, others = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.lexsort((others, ones, distances))
    return list(zip(ones[order].tolist(), others[order].tolist(), strict=True))


def _near_pairs(
    signatures: Signatures, engine: str
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]]:
    """Distances, rows and later rows of near copies, some at a time; of each row the nearest 64."""
    hashes = np.ascontiguousarray(signatures["hash"])
    index = make_index(engine, hashes, HASH_BITS)
    for start in range(0, len(hashes), _QUERIES):
        lims, distances, found = index.search_radius(hashes[start : start + _QUERIES], HASH_DISTANCE)
        for row, (first, last) in enumerate(pairwise(lims.tolist()), start):
            others = found[first:last]
            later = np.flatnonzero(others > row)
            near = later[_confirmed(signatures, row, others[later])][:_NEAREST]
            yield distances[first:last][near].astype(np.int64), np.full(len(near), row), others[near]


def _confirmed(signatures: Signatures, row: int, others: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which of these rows are near copies of a row."""
    one = signatures[row : row + 1]
    parts = [others[at : at + _CONFIRMED] for at in range(0, len(others), _CONFIRMED)]
    return np.concatenate([np.zeros(0, np.bool_), *(are_near(one, signatures[part]) for part in parts)])
