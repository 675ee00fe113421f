"""Sorting codes, so that each distinct one is kept once.

Many codes are sorted a slice of all values after the other: sorting needs several times the memory of what it
sorts, and a slice is a small part of all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anglehash.index.multi_index._groups import Groups, places
from anglehash.index.multi_index._plain import Chunk

SLICE = 1 << 19
"""Codes of a slice, about; but there are no more slices than these:"""
MOST_SLICES = 16
SAMPLE = 4096  # codes that tell where slices are to end

Words = NDArray[np.uint64]


class _Slice(NamedTuple):
    """Words from ``first`` to ``last``, both among them."""

    first: np.uint64
    last: np.uint64

    def of(self, words: Words) -> NDArray[np.int64]:
        """Where such words are."""
        return np.flatnonzero((words >= self.first) & (words <= self.last))


def grouped(codes: Words, rows: NDArray[np.int32]) -> Groups:
    """Each distinct code once, in ascending order.

    Args:
        codes: ``(w, n)`` words.
        rows: ``(n,)``; those of equal codes must ascend.

    >>> codes = np.array([[5, 3, 5]], dtype=np.uint64)
    >>> groups = grouped(codes, np.array([0, 1, 2], dtype=np.int32))
    >>> groups.codes.tolist(), groups.starts.tolist(), groups.rows.tolist()
    ([[3, 5]], [0, 1, 3], [1, 0, 2])
    """
    order = np.lexsort(codes[::-1])  # stable; the first word decides first
    ordered = codes[:, order]
    first = np.ones(len(rows), dtype=np.bool_)
    first[1:] = (ordered[:, 1:] != ordered[:, :-1]).any(axis=0)
    starts = np.append(np.flatnonzero(first), len(rows)).astype(np.int32)
    return Groups(np.ascontiguousarray(ordered[:, first]), starts, rows[order])


def grouped_chunks(chunks: Sequence[Chunk], there: NDArray[np.bool_]) -> Groups:
    """The codes of chunks of consecutive rows, each distinct one once.

    Args:
        chunks: one or more.
        there: a mask over all rows; empty when none is gone.
    """

    def some(part: _Slice) -> Groups:
        codes, rows = [], []
        for chunk in chunks:
            inside = part.of(chunk.codes[0])
            codes.append(chunk.codes[:, inside])
            rows.append(chunk.rows_of(inside).astype(np.int32))
        return _grouped_if(np.concatenate(codes, axis=1), np.concatenate(rows), there)

    total = sum(map(len, chunks))
    return _in_one(map(some, _slices([chunk.codes[0] for chunk in chunks])), len(chunks[0].codes), total)


def joined(first: Groups, second: Groups, there: NDArray[np.bool_]) -> Groups:
    """Both in one, without the rows that are gone. Every row of the second must be greater than all of the first.

    Args:
        first: some groups, their codes in ascending order.
        second: others, in any order, a row for each.
        there: a mask over all rows; empty when none is gone.
    """

    def some(part: _Slice) -> Groups:
        start = int(np.searchsorted(first.codes[0], part.first))
        end = int(np.searchsorted(first.codes[0], part.last, side="right"))
        own = Groups(first.codes[:, start:end], first.starts[start : end + 1], first.rows)
        new = part.of(second.codes[0])
        codes = np.concatenate([own.codes[:, places(own)], second.codes[:, new]], axis=1)
        rows = np.concatenate([first.rows[own.starts[0] : own.starts[-1]], second.rows[new]])
        return _grouped_if(codes, rows, there)

    total = len(first.rows) + len(second.rows)
    return _in_one(map(some, _slices([first.codes[0], second.codes[0]])), len(first.codes), total)


def _grouped_if(codes: Words, rows: NDArray[np.int32], there: NDArray[np.bool_]) -> Groups:
    """The codes whose rows are there."""
    if len(there):
        kept = there[rows]
        codes, rows = codes[:, kept], rows[kept]
    return grouped(codes, rows)


def _slices(words: Sequence[Words]) -> Iterator[_Slice]:
    """Slices of all values that have about equally many of these words; a word that comes often makes one large."""
    total = sum(map(len, words))
    number = min(-(-total // SLICE), MOST_SLICES)
    sample = np.sort(np.concatenate([some[:: max(total // SAMPLE, 1)] for some in words]))
    first, last = np.uint64(0), np.uint64(2**64 - 1)
    for cut in np.unique(sample[np.arange(1, number) * len(sample) // max(number, 1)]):
        if cut > first:
            yield _Slice(first, cut - np.uint64(1))
            first = cut
    yield _Slice(first, last)


def _in_one(parts: Iterable[Groups], words: int, most: int) -> Groups:
    """Groups whose codes ascend from one to the next, one after the other; ``most`` rows, at most.

    There is room for all at first, and what is not needed is given back: nothing is there twice.
    """
    codes, starts = np.empty(words * most, np.uint64), np.empty(most + 1, np.int32)
    rows, count, used = np.empty(most, np.int32), 0, 0
    for part in parts:
        new = part.codes.shape[1]
        for word in range(words):
            codes[word * most + count : word * most + count + new] = part.codes[word]
        starts[count : count + new] = part.starts[:-1] + used
        rows[used : used + len(part.rows)] = part.rows
        count, used = count + new, used + len(part.rows)
    starts[count] = used
    for word in range(1, words):
        codes[word * count : (word + 1) * count] = codes[word * most : word * most + count]
    codes.resize(words * count, refcheck=False)
    starts.resize(count + 1, refcheck=False)
    rows.resize(used, refcheck=False)
    return Groups(codes.reshape(words, count), starts, rows)
