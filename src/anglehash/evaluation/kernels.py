"""The compiled loops of rankings, by codes and by scores, and what compiles those of searches too.

A kernel compiles at its first call, a second or two in all, and stays compiled on disk. No kernel checks
an index: its caller vouches that codes and labels fit the arrays.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
from numba import njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray

F = TypeVar("F", bound=Callable[..., Any])
Words = NDArray[np.uint64]


def kernel(function: F) -> F:
    """Compile at the first call, and keep the machine code where a cache can be written."""
    try:
        return cast(F, njit(cache=True, nogil=True)(function))
    except RuntimeError:  # neither the package's folder nor the user's cache is writable
        return cast(F, njit(nogil=True)(function))


def _lower_popcount(context: Any, word: Any) -> Any:
    """Set bits of a uint64: one machine instruction, for which numba has no name."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.uint64(types.uint64), code


popcount: Any = intrinsic(_lower_popcount)
"""Set bits of a uint64, in kernels."""


@kernel
def _distances(query: Words, database: Words, out: NDArray[np.uint16]) -> None:
    for item in range(database.shape[1]):
        out[item] = popcount(query[0] ^ database[0, item])
    for word in range(1, len(database)):  # word by word: the inner loop is a vector loop
        for item in range(database.shape[1]):
            out[item] += popcount(query[word] ^ database[word, item])


@kernel
def distances(queries: Words, database: Words, out: NDArray[np.uint16]) -> None:
    """Hamming distances of ``(q, words)`` to ``(words, n)``, in bits."""
    for query in range(len(queries)):
        _distances(queries[query], database, out[query])


@kernel
def _shared(labels: Words, others: Words) -> int:
    count = 0
    for word in range(len(labels)):
        count += popcount(labels[word] & others[word])
    return count


@kernel
def _count(distances: NDArray[np.uint16], lanes: NDArray[np.int32]) -> None:
    """Add to four histograms, ``(4, bits + 1)``, whose sum counts.

    An increment waits for the one before if both hit the same counter, and equal codes hit it all the
    time: four counters for four distant items keep the processor busy.
    """
    quarter = len(distances) // 4
    for item in range(quarter):
        for lane in range(4):
            lanes[lane, distances[lane * quarter + item]] += 1
    for item in range(4 * quarter, len(distances)):
        lanes[0, distances[item]] += 1


@kernel
def tabulate(
    queries: Words,
    database: Words,  # in the order of the label sets
    query_labels: Words,
    label_sets: Words,
    ends: NDArray[np.int64],  # where each set ends in the database
    table: NDArray[np.int32],  # (q, levels, bits + 1), all 0
) -> None:
    """Fill the rank tables of queries."""
    lanes = np.zeros((table.shape[1], 4, table.shape[2]), np.int32)
    distances = np.empty(database.shape[1], np.uint16)
    for query in range(len(queries)):
        _distances(queries[query], database, distances)
        start = 0
        for member in range(len(label_sets)):
            level = _shared(query_labels[query], label_sets[member])
            _count(distances[start : ends[member]], lanes[level])
            start = ends[member]
        for level in range(table.shape[1]):
            for lane in range(4):
                for distance in range(table.shape[2]):
                    table[query, level, distance] += lanes[level, lane, distance]
                    lanes[level, lane, distance] = 0


@kernel
def rank(
    queries: Words,
    database: Words,  # in the order that ties are to have
    query_labels: Words,
    label_sets: Words,
    set_of: NDArray[np.int64],
    k: int,
    precision: NDArray[np.float64],  # (2, q), all 0: average precision, weighted
) -> None:
    """Sort every ranking by counting, and add up precision at the hits among the first ``k``."""
    n = database.shape[1]
    distances = np.empty(n, np.uint16)
    levels = np.empty(len(label_sets), np.uint16)
    ranked = np.empty(n, np.uint16)  # shared labels, nearest item first
    for query in range(len(queries)):
        _distances(queries[query], database, distances)
        for member in range(len(label_sets)):
            levels[member] = _shared(query_labels[query], label_sets[member])
        place = np.zeros(64 * len(database) + 2, np.int64)  # of the next item at each distance
        for item in range(n):
            place[distances[item] + 1] += 1
        for distance in range(1, len(place)):
            place[distance] += place[distance - 1]
        for item in range(n):
            ranked[place[distances[item]]] = levels[set_of[item]]
            place[distances[item]] += 1
        hits = gain = 0
        for rank in range(k):
            if ranked[rank] > 0:
                hits += 1
                gain += ranked[rank]
                precision[0, query] += hits / (rank + 1)
                precision[1, query] += gain / (rank + 1)
        precision[0, query] /= max(hits, 1)
        precision[1, query] /= max(hits, 1)


@kernel
def first(scores: NDArray[Any], rows: NDArray[np.int64]) -> None:
    """Fill in the rows of the highest scores of one query, best first; of equal scores those that come first."""
    last, held = len(rows) - 1, 0
    for item in range(len(scores)):
        if held > last and not scores[item] > scores[rows[last]]:
            continue
        place = min(held, last)
        while place > 0 and scores[item] > scores[rows[place - 1]]:
            rows[place] = rows[place - 1]
            place -= 1
        rows[place] = item
        held += 1


@kernel
def split(
    scores: NDArray[Any],  # (n,) of one query
    relevant: NDArray[np.bool_],  # (sets,) whether the images of each label set are right answers
    set_of: NDArray[np.integer[Any]],  # (n,)
    hits: NDArray[Any],  # (n + 1,) to be filled with the distances of the right answers
    misses: NDArray[Any],  # (n + 1,) and of the others
) -> tuple[int, int]:
    """Part the distances, which are scores with the sign turned: the number of hits, and of NaNs."""
    found = nans = 0
    for item in range(len(scores)):
        distance = -scores[item]
        hits[found] = distance  # both are written, and one is written over: no branch to mispredict
        misses[item - found] = distance
        found += relevant[set_of[item]]
        nans += distance != distance
    return found, nans


@kernel
def average_precision(
    hits: NDArray[Any],  # sorted, one or more
    misses: NDArray[Any],  # sorted
    cuts: NDArray[np.int64],
    harmonic: NDArray[np.float64],  # H(0) .. H(n)
    precision: NDArray[np.float64],  # (cuts,), all 0
) -> None:
    """AP of one ranking at each cut; a tie counts as :meth:`ties.Ties.precision_at_hits` defines."""
    hit = miss = 0  # how many have been passed
    while hit < len(hits):
        value, first = hits[hit], hit
        while hit < len(hits) and hits[hit] == value:
            hit += 1
        while miss < len(misses) and misses[miss] < value:
            miss += 1
        before = miss
        while miss < len(misses) and misses[miss] == value:
            miss += 1
        N, r, n = first + before, hit - first, hit - first + miss - before
        for cut in range(len(cuts)):
            J = min(n, cuts[cut] - N)
            if J > 0:
                d = harmonic[N + J] - harmonic[N] if n > 1 else 1 / (N + 1)
                others = (r - 1) / max(n - 1, 1)
                precision[cut] += r / n * ((first + 1) * d + others * (J - (N + 1) * d))
    for cut in range(len(cuts)):
        precision[cut] /= min(len(hits), cuts[cut])
