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
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from anglehash.evaluation.kernels import kernel
from anglehash.index.multi_index._kernels import Words, bits_between, inlined

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
        folds: ``(m - 1, n)`` a fold of each code, in the order of its list; ``(m - 1, 0)`` where there are none.
        masks: ``(m, ...)`` what to flip in a value: 0 bits, then 1 bit, then 2 ...
        rings: ``(m, rings + 1)`` where the masks of each number of bits begin and end.
    """

    first: NDArray[np.int64]
    width: NDArray[np.int64]
    bases: NDArray[np.int64]
    offsets: NDArray[np.int32]
    lists: NDArray[np.int32]
    folds: NDArray[np.uint16]
    masks: NDArray[np.uint32]
    rings: NDArray[np.int64]

    @property
    def nbytes(self) -> int:
        """Memory in bytes."""
        return sum(array.nbytes for array in self)


_NO_FOLDS = np.empty((0, 0), np.uint16)
NO_TABLES = Tables(
    np.empty(0, np.int64),
    np.empty(0, np.int64),
    np.empty(0, np.int64),
    np.empty(0, np.int32),
    np.empty((0, 0), np.int32),
    _NO_FOLDS,
    np.empty((0, 0), np.uint32),
    np.empty((0, 1), np.int64),
)


@inlined
def folded(code: Words) -> Any:
    """Sixteen bits, each the parity of some bits of a code.

    A bit that differs changes one of them, so the folds of two codes differ in no more bits than the codes do.
    """
    fold = code[0]
    for word in range(1, len(code)):
        fold ^= code[word]
    fold ^= fold >> np.uint64(32)
    fold ^= fold >> np.uint64(16)
    return fold & np.uint64(0xFFFF)


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


def tables_of(codes: Words, bits: int, *, room: int = 0) -> Tables:
    """Tables over distinct codes, ``(w, n)``, in ascending order; with folds where they fit into ``room`` bytes."""
    count = codes.shape[1]
    parts = parts_of(bits, count)
    first, width = np.array(parts, dtype=np.int64).T.copy()
    bases = np.concatenate([[0], np.cumsum((1 << width) + 1)])
    offsets = np.zeros(bases[-1], dtype=np.int32)
    lists = np.empty((len(parts) - 1, count), dtype=np.int32)
    nothing = np.empty(0, dtype=np.int32)
    for part in range(len(parts)):
        order = lists[part - 1] if part else nothing
        _sort(codes, first[part], width[part], offsets[bases[part] : bases[part + 1]], order)
    made = Tables(first, width, bases[:-1], offsets, lists, _NO_FOLDS, *_masks(width.tolist()))
    folds = np.empty((len(lists), count if made.nbytes + 2 * lists.size <= room else 0), dtype=np.uint16)
    _fold(codes, lists, folds)
    return made._replace(folds=folds)


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
def _sort(codes: Words, first: int, width: int, offsets: NDArray[np.int32], order: NDArray[np.int32]) -> None:
    """Sort codes by a part, by counting: ``offsets`` all 0, one longer than there are values.

    Where ``order`` is empty, codes are in that order as they are.
    """
    for code in range(codes.shape[1]):
        offsets[np.int64(bits_between(codes, code, first, width)) + 1] += 1
    for value in range(1, len(offsets)):
        offsets[value] += offsets[value - 1]
    if len(order) == 0:
        return
    for code in range(codes.shape[1]):  # each value's place moves on to where the next one begins ...
        own = np.int64(bits_between(codes, code, first, width))
        order[offsets[own]] = code
        offsets[own] += 1
    for value in range(len(offsets) - 1, 0, -1):  # ... so all have to go back
        offsets[value] = offsets[value - 1]
    offsets[0] = 0


@kernel
def _fold(codes: Words, lists: NDArray[np.int32], folds: NDArray[np.uint16]) -> None:
    """The folds of the codes in lists, as far as there is room for them."""
    every = np.empty(codes.shape[1] if folds.size else 0, np.uint16)
    for code in range(len(every)):
        every[code] = folded(codes[:, code])
    for part in range(len(folds)):
        for place in range(folds.shape[1]):
            folds[part, place] = every[lists[part, place]]
