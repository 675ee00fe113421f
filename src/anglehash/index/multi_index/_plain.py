"""A scan in numpy, with nothing to compile and nothing built: for codes that few queries were asked of so far.

A block of codes stays in the cache while all queries pass over it; a code is looked at again only where it is
nearer than the ``k``-th so far. So one query of ten million codes takes about as long as in a compiled scan.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anglehash.index._sort_keys import SHIFT, Keys, least

BLOCK = 1 << 16  # codes of a block, and fewer of the first, which has no k-th yet
Words = NDArray[np.uint64]


class Chunk(NamedTuple):
    """Some codes in the order of their rows.

    Attributes:
        codes: ``(w, n)`` words.
        rows: ``(n,)`` their rows, ascending, or the row of the first where the others follow it.
    """

    codes: Words
    rows: NDArray[np.int32] | int

    def __len__(self) -> int:
        return int(self.codes.shape[1])

    def rows_of(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """The rows of some places.

        >>> Chunk(np.zeros((1, 9), np.uint64), 100).rows_of(np.array([2, 5])).tolist()
        [102, 105]
        """
        if isinstance(self.rows, int):
            return places + self.rows
        return self.rows[places].astype(np.int64)


def merged(chunks: Sequence[Chunk]) -> tuple[Chunk, ...]:
    """Chunks of consecutive rows with small ones joined, so that each is more than twice the next.

    >>> sizes = [6, 2, 1, 1]
    >>> chunks = [Chunk(np.zeros((1, n), np.uint64), first) for n, first in zip(sizes, [0, 6, 8, 9])]
    >>> [(len(chunk), chunk.rows) for chunk in merged(chunks)]
    [(9, 0), (1, 9)]
    """
    whole: list[list[Chunk]] = []
    for chunk in chunks:
        group = [chunk]
        while whole and _size(whole[-1]) <= 2 * _size(group):
            group = whole.pop() + group
        whole.append(group)
    return tuple(_joined(group) for group in whole)


def _size(chunks: Sequence[Chunk]) -> int:
    return sum(map(len, chunks))


def _joined(chunks: Sequence[Chunk]) -> Chunk:
    if len(chunks) == 1:
        return chunks[0]
    return Chunk(np.concatenate([chunk.codes for chunk in chunks], axis=1), chunks[0].rows)


def picked(chunks: Sequence[Chunk], rows: NDArray[np.int64]) -> Words:
    """The codes of some rows, ``(w, n)``, out of chunks of consecutive rows; ``rows`` ascend."""
    parts = [chunks[0].codes[:, :0]]
    for chunk in chunks:
        first = int(chunk.rows_of(np.zeros(1, np.int64))[0])
        start, end = np.searchsorted(rows, [first, first + len(chunk)])
        parts.append(chunk.codes[:, rows[start:end] - first])
    return np.concatenate(parts, axis=1)


class _Room(NamedTuple):
    """Buffers allocated once: allocating them for each search would take as long as the search."""

    unequal: Words
    counts: NDArray[np.uint8]
    distances: NDArray[np.uint16]
    close: NDArray[np.bool_]


def _room() -> _Room:
    return _Room(
        np.empty(BLOCK, np.uint64),
        np.empty(BLOCK, np.uint8),
        np.empty(BLOCK, np.uint16),
        np.empty(BLOCK, np.bool_),
    )


def nearest(queries: Words, chunks: Sequence[Chunk], allowed: NDArray[np.bool_], heaps: Keys) -> None:
    """Fill the heaps of queries ``(q, w)``, in ascending order.

    Args:
        queries: ``(q, w)``.
        chunks: all codes; rows ascend.
        allowed: which rows may come; all, where it is empty.
        heaps: ``(q, k)`` keys, filled with one that no answer reaches.
    """
    k, room = heaps.shape[1], _room()
    for chunk in chunks:
        for start, end in _blocks(len(chunk), 4 * k):
            for number, query in enumerate(queries):
                heap = heaps[number]
                reach = (
                    int(heap[-1] >> SHIFT) - 1
                )  # rows ascend: a later one as far away as the k-th is too late
                if reach < 0:
                    continue
                found = _keys(query, chunk, start, end, reach, allowed, room)
                if len(found):
                    heaps[number] = least(np.concatenate([heap, found]), k)


def within_radius(
    queries: Words, chunks: Sequence[Chunk], allowed: NDArray[np.bool_], radius: int
) -> tuple[NDArray[np.int64], Keys]:
    """All rows within a radius, query after query: where they begin, and their keys in ascending order."""
    found: list[list[Keys]] = [[np.empty(0, np.int64)] for _ in range(max(len(queries), 1))]
    room = _room()
    for chunk in chunks:
        for start, end in _blocks(len(chunk), BLOCK):
            for number, query in enumerate(queries):
                found[number].append(_keys(query, chunk, start, end, radius, allowed, room))
    keys = [np.sort(np.concatenate(parts)) for parts in found]
    lims = np.concatenate([[0], np.cumsum([len(own) for own in keys[: len(queries)]])]).astype(np.int64)
    return lims, np.concatenate(keys)


def _blocks(size: int, first: int) -> list[tuple[int, int]]:
    """Where blocks begin and end; the first is short, since all of it is sorted."""
    ends = [*range(min(max(first, 1024), BLOCK, size), size, BLOCK), size]
    return list(zip([0, *ends[:-1]], ends, strict=True))


def _keys(
    query: NDArray[np.uint64],
    chunk: Chunk,
    start: int,
    end: int,
    reach: int,
    allowed: NDArray[np.bool_],
    room: _Room,
) -> Keys:
    """The keys of a block's codes that are within reach."""
    distances = _distances(query, chunk.codes[:, start:end], room)
    close = np.flatnonzero(np.less_equal(distances, reach, out=room.close[: end - start]))
    rows = chunk.rows_of(close + start)
    if len(allowed):
        here = allowed[rows]
        close, rows = close[here], rows[here]
    return (distances[close].astype(np.int64) << SHIFT) | rows


def _distances(query: NDArray[np.uint64], codes: Words, room: _Room) -> NDArray[np.unsignedinteger]:
    """Distances of a block's codes, until the room is used again."""
    unequal, counts, sums = (array[: codes.shape[1]] for array in (room.unequal, room.counts, room.distances))
    np.bitwise_count(np.bitwise_xor(codes[0], query[0], out=unequal), out=counts)
    if len(query) == 1:
        return counts
    sums[:] = counts  # of 256 bits and more a byte does not hold the sum
    for word in range(1, len(query)):
        np.bitwise_count(np.bitwise_xor(codes[word], query[word], out=unequal), out=counts)
        np.add(sums, counts, out=sums)
    return sums
