"""Tables for multi-index hashing: which codes have a given value in one part of their bits.

Bits are cut into parts, each with a table of its own. Two codes that differ in no more than ``d`` bits
differ in few bits in some part: if every part ``j`` has been searched out to ``r_j`` bits (``-1``: not at
all), all codes within ``sum(r_j + 1) - 1`` bits have been met, since one that was missed differs in at least
``r_j + 1`` bits in each part. This holds too for parts that leave out some bits.

Source:
    Norouzi, Punjani and Fleet, "Fast Search in Hamming Space with Multi-Index Hashing", CVPR 2012,
    arXiv:1307.2982. Differs from it: the next part to be widened is the one that is cheapest to widen, so radii
    differ; a code that is met twice is recognised by its bits, without a record of what was met; the
    first part needs no list, since codes lie in its order.
"""

from __future__ import annotations

from itertools import combinations, pairwise
from math import ceil, comb, log2
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anglehash.evaluation.kernels import kernel
from anglehash.search.engines._kernels import bits_between

WIDEST = 22
"""Bits of a part at most: its table has an entry for each value."""
MOST_PARTS = 16
"""Long codes leave the rest of their bits out: a table more costs memory and saves little."""
MOST_MASKS = 1 << 15
"""Values looked up in one part at most, all rings together."""


class Tables(NamedTuple):
    """The tables of ``m`` parts over ``n`` codes. ``m`` is 0 where there are too few codes to need any.

    Attributes:
        first: ``(m,)`` the first bit of each part; it is bit 0 for the first part.
        width: ``(m,)`` bits of each part.
        bases: ``(m,)`` where a part's entries begin in ``offsets``.
        offsets: where the codes with a value begin in the part's list, value after value; the last entry ends it.
        lists: ``(m - 1, n)`` numbers of codes by value, for each part but the first.
        masks: ``(m, ...)`` what to flip in a value: 0 bits, then 1 bit, then 2 ...
        rings: ``(m, rings + 1)`` where the masks of each number of bits begin and end.
    """

    first: NDArray[np.int64]
    width: NDArray[np.int64]
    bases: NDArray[np.int64]
    offsets: NDArray[np.int32]
    lists: NDArray[np.int32]
    masks: NDArray[np.uint32]
    rings: NDArray[np.int64]

    @property
    def nbytes(self) -> int:
        """Memory in bytes."""
        return sum(array.nbytes for array in self)


NO_TABLES = Tables(
    np.empty(0, np.int64),
    np.empty(0, np.int64),
    np.empty(0, np.int64),
    np.empty(0, np.int32),
    np.empty((0, 0), np.int32),
    np.empty((0, 0), np.uint32),
    np.empty((0, 1), np.int64),
)


def parts_of(bits: int, count: int) -> list[tuple[int, int]]:
    """First bit and width of each part: about as wide as ``count`` has bits, so that a value has a code or two.

    >>> parts_of(64, 1_000_000)
    [(0, 16), (16, 16), (32, 16), (48, 16)]
    >>> [width for _, width in parts_of(64, 10_000_000)]
    [21, 22, 21]
    >>> len(parts_of(128, 1_000_000)), len(parts_of(1024, 1_000_000))
    (7, 16)
    """
    widest = min(WIDEST, max(4, ceil(log2(max(count, 2)))))
    number = ceil(bits / widest)
    covered = bits if number <= MOST_PARTS else widest * MOST_PARTS
    cuts = np.linspace(0, covered, min(number, MOST_PARTS) + 1).round().astype(int).tolist()
    return [(a, b - a) for a, b in pairwise(cuts)]


def rings_of(width: int) -> list[list[int]]:
    """What to flip in a value of ``width`` bits: the masks of 0 bits, of 1, of 2, as far as their number allows.

    >>> rings_of(3)
    [[0], [1, 2, 4], [3, 5, 6], [7]]
    """
    rings: list[list[int]] = []
    for size in range(width + 1):
        if sum(map(len, rings)) + comb(width, size) > MOST_MASKS:
            break
        rings.append([sum(1 << bit for bit in flipped) for flipped in combinations(range(width), size)])
    return rings


def tables_of(codes: NDArray[np.uint64], bits: int) -> Tables:
    """Tables over distinct codes, ``(w, n)``, in ascending order."""
    count = codes.shape[1]
    parts = parts_of(bits, count)
    first, width = np.array(parts, dtype=np.int64).T.copy()
    bases = np.concatenate([[0], np.cumsum((1 << width) + 1)])
    offsets = np.zeros(bases[-1], dtype=np.int32)
    lists = np.empty((len(parts), count), dtype=np.int32)
    for part in range(len(parts)):
        _sort(codes, first[part], width[part], offsets[bases[part] : bases[part + 1]], lists[part])
    return Tables(first, width, bases[:-1], offsets, lists[1:].copy(), *_masks(width.tolist()))


def _masks(widths: list[int]) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    every = {width: rings_of(width) for width in set(widths)}
    most = max(map(len, every.values()))
    masks = np.zeros((len(widths), max(sum(map(len, rings)) for rings in every.values())), dtype=np.uint32)
    ends = np.zeros((len(widths), most + 1), dtype=np.int64)
    for part, width in enumerate(widths):
        flat = [mask for ring in every[width] for mask in ring]
        masks[part, : len(flat)] = flat
        sizes = [len(ring) for ring in every[width]]
        ends[part, 1:] = np.cumsum(sizes + [0] * (most - len(sizes)))
    return masks, ends


@kernel
def _sort(
    codes: NDArray[np.uint64], first: int, width: int, offsets: NDArray[np.int32], order: NDArray[np.int32]
) -> None:
    """Sort codes by a part, by counting: ``offsets`` all 0, one longer than there are values."""
    count = codes.shape[1]
    for code in range(count):
        offsets[np.int64(bits_between(codes, code, first, width)) + 1] += 1
    for value in range(1, len(offsets)):
        offsets[value] += offsets[value - 1]
    place = offsets.copy()
    for code in range(count):
        own = np.int64(bits_between(codes, code, first, width))
        order[place[own]] = code
        place[own] += 1
