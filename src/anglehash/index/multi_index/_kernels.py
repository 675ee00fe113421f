"""The compiled small steps of a search: bits of a code, distances, the heap of the nearest.

A heap is an array of keys (see :mod:`anglehash.index._sort_keys`) with the greatest first; a full one of a number that
no answer reaches is an empty one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
from numba import njit
from numpy.typing import NDArray

from anglehash.evaluation.kernels import kernel, popcount
from anglehash.index._sort_keys import SHIFT, Keys

BLOCK = 2048  # codes that stay in the fastest cache while all queries pass over them
CHUNK = 256  # codes whose least distance is looked at before each one's

F = TypeVar("F", bound=Callable[..., Any])
Words = NDArray[np.uint64]
Number = int | np.integer[Any]


def inlined(function: F) -> F:
    """Compile into its callers. Array arguments cost a count of who holds each: too much for a small step.

    A trap for whoever changes such a function: the machine code kept on disk is that of its callers, and is looked
    up by the date of *their* file. Touch those too, or remove ``__pycache__``.
    """
    return cast(F, njit(inline="always")(function))


@inlined
def bits_between(codes: Words, code: Number, first: Number, width: Number) -> Any:
    """The value of ``width`` bits from bit ``first`` on of one of the ``(w, n)`` codes; at most two words meet."""
    word, skipped = first >> 6, first & 63
    value = codes[word, code] << np.uint64(skipped)
    if skipped + width > 64:
        value |= codes[word + 1, code] >> np.uint64(64 - skipped)
    return value >> np.uint64(64 - width)


@inlined
def near(
    query: Words, codes: Words, candidates: NDArray[np.int32], count: int, reach: int, out: NDArray[np.int32]
) -> Any:
    """Keep those of ``count`` candidates that are within ``reach`` bits; their distances go to ``out``.

    Word by word, so that the processor waits for many codes at once; and all are kept for a moment, what is too far
    away to be written over, to avoid a branch.
    """
    word, part = codes[0], query[0]
    for place in range(count):
        out[place] = popcount(word[candidates[place]] ^ part)
    for number in range(1, len(query)):
        word, part = codes[number], query[number]
        for place in range(count):
            out[place] += np.int32(popcount(word[candidates[place]] ^ part))
    kept: Any = 0
    for place in range(count):
        candidates[kept], out[kept] = candidates[place], out[place]
        kept += out[kept] <= reach
    return kept


@kernel
def distances(query: Words, codes: Words, start: int, end: int, out: NDArray[np.uint16]) -> None:
    """Distances of the codes ``start..end - 1``, word by word: the inner loops are vector loops."""
    word, part = codes[0, start:end], query[0]
    for code in range(len(word)):
        out[code] = popcount(word[code] ^ part)
    for number in range(1, len(query)):
        word, part = codes[number, start:end], query[number]
        for code in range(len(word)):
            out[code] += popcount(word[code] ^ part)


@kernel
def least(values: NDArray[np.uint16]) -> Any:
    """The least of some distances: a vector loop."""
    found = np.uint16(65535)
    for place in range(len(values)):
        found = min(found, values[place])
    return found


@inlined
def reach_of(heap: Keys) -> Any:
    """The greatest distance that can still enter a heap."""
    return (heap[0] - 1) >> SHIFT


@inlined
def _replace_greatest(heap: Keys, key: Number) -> None:
    place, size = 0, len(heap)
    while True:
        child = 2 * place + 1
        if child >= size:
            break
        if child + 1 < size and heap[child + 1] > heap[child]:
            child += 1
        if heap[child] <= key:
            break
        heap[place] = heap[child]
        place = child
    heap[place] = key


@inlined
def offer(
    heap: Keys,
    distance: Number,
    code: Number,
    starts: NDArray[np.int32],
    rows: NDArray[np.int32],
    allowed: NDArray[np.bool_],
) -> None:
    """Put the rows of a code, out of the arrays of its groups, into a heap, as far as ``allowed`` (empty: all)."""
    for place in range(starts[code], starts[code + 1]):
        row = rows[place]
        key = (np.int64(distance) << SHIFT) | np.int64(row)
        if key >= heap[0]:
            break  # the rows of a code ascend
        if len(allowed) == 0 or allowed[row]:
            _replace_greatest(heap, key)
