"""Rankings straight from packed codes, without a sort and without a distance matrix.

XOR and popcount give the distances of one query at a time, and what the metrics need is counted on the
way: :func:`rank_tables` and :func:`histograms` for everything that is exact under ties,
:func:`shuffled_average_precision` for the papers' convention. Memory is bounded by the blocks of queries, not
by queries x database. One thread.

Labels are packed like codes, so the number of shared labels is a popcount too. Images with equal labels
are one *label set*: a query meets each set once and not each image.

This is the only module that imports numba. Its kernels compile at their first call, a second in all, and
stay compiled on disk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
from numba import njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from anglehash.codes import Codes, as_words, check_codes, pack
from anglehash.errors import CodeMismatchError, DataError
from anglehash.evaluation.metrics import average_precision_from_histograms, histograms_of
from anglehash.evaluation.ties import check_cut, tie_orders

F = TypeVar("F", bound=Callable[..., Any])
Words = NDArray[np.uint64]
Labels = NDArray[np.bool_]

CELLS = 2**21  # cells of the rank tables that are in memory at once


def rank_tables(
    query_codes: Codes, database_codes: Codes, query_labels: Labels, database_labels: Labels, *, bits: int
) -> Iterator[NDArray[np.int32]]:
    """The rank tables of all queries, in blocks of consecutive queries.

    Args:
        query_codes: ``(q, w)`` packed codes.
        database_codes: ``(n, w)`` packed codes of the same length.
        query_labels: ``(q, classes)`` bool, multi-hot.
        database_labels: ``(n, classes)`` bool, multi-hot.
        bits: length of a code.

    Yields:
        ``(rows, levels, bits + 1)``: for each query the database items at each distance that share ``level``
        labels with it. ``levels`` is at least 2 and the same in every block.

    Raises:
        CodeMismatchError: the codes are not ``bits`` long.
        DataError: codes and labels do not fit together, or there is nothing to rank.
    """
    for codes in (query_codes, database_codes):
        check_codes(codes, bits)  # the kernels check no index: no distance may be above bits
    words = _as_words(query_codes, database_codes, query_labels, database_labels)
    by_set = np.argsort(words.set_of, kind="stable")
    ends = np.cumsum(np.bincount(words.set_of))
    database = np.ascontiguousarray(words.database[:, by_set])
    levels = 1 + max(1, min(int(query_labels.sum(axis=1).max()), int(database_labels.sum(axis=1).max())))
    step = max(1, CELLS // (levels * (bits + 1)))
    for start in range(0, len(words.queries), step):
        block = slice(start, start + step)
        table = np.zeros((len(words.queries[block]), levels, bits + 1), dtype=np.int32)
        _tabulate(words.queries[block], database, words.query_labels[block], words.label_sets, ends, table)
        yield table


def histograms(
    query_codes: Codes, database_codes: Codes, query_labels: Labels, database_labels: Labels, *, bits: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The histograms ``items`` and ``relevant``, ``(q, bits + 1)`` each; arguments of :func:`rank_tables`.

    >>> codes, labels = pack(np.array([[1, 1, 0, 0], [1, 0, 0, 0]])), np.eye(2, dtype=bool)
    >>> [counts.tolist() for counts in histograms(codes[:1], codes, labels[:1], labels, bits=4)]
    [[[1, 1, 0, 0, 0]], [[1, 0, 0, 0, 0]]]
    """
    tables = rank_tables(query_codes, database_codes, query_labels, database_labels, bits=bits)
    items, relevant = zip(*map(histograms_of, tables), strict=True)
    return np.concatenate(items), np.concatenate(relevant)


def average_precision_of_codes(
    query_codes: Codes,
    database_codes: Codes,
    query_labels: Labels,
    database_labels: Labels,
    *,
    bits: int,
    k: int | None = None,
) -> NDArray[np.float64]:
    """AP per query, exact under ties: what a validation run needs; arguments of :func:`rank_tables`.

    The definition is :func:`anglehash.evaluation.metrics.average_precision_from_histograms`.
    """
    tables = rank_tables(query_codes, database_codes, query_labels, database_labels, bits=bits)
    return np.concatenate([average_precision_from_histograms(*histograms_of(table), k) for table in tables])


class ShuffledPrecision(NamedTuple):
    """Per query, with tied items in one random order and the hits in the first k as denominator.

    Attributes:
        average_precision: its mean is
            :func:`~anglehash.evaluation.metrics.mean_average_precision_convention`.
        weighted: every hit weighs its shared labels, as in
            :func:`~anglehash.evaluation.graded.weighted_average_precision`.
    """

    average_precision: NDArray[np.float64]
    weighted: NDArray[np.float64]


def shuffled_average_precision(
    query_codes: Codes,
    database_codes: Codes,
    query_labels: Labels,
    database_labels: Labels,
    *,
    k: int | None = None,
    seed: int = 0,
) -> Iterator[ShuffledPrecision]:
    """Average precision under seeded orders of tied items, one after the other, without end.

    The orders are those of :func:`anglehash.evaluation.ties.tie_orders`: the first one gives the papers'
    convention, the mean of ``weighted`` over ten of them WAP. A counting sort by distance replaces the sort.

    Args:
        query_codes: ``(q, w)`` packed codes.
        database_codes: ``(n, w)`` packed codes of the same length.
        query_labels: ``(q, classes)`` bool, multi-hot.
        database_labels: ``(n, classes)`` bool, multi-hot.
        k: count the first ``k`` ranks only; ``None`` ranks the whole database.
        seed: of the orders.

    Raises:
        CodeMismatchError: the codes differ in length.
        DataError: codes and labels do not fit together, or there is nothing to rank.
        ConfigError: ``k`` is not a positive integer.
    """
    words = _as_words(query_codes, database_codes, query_labels, database_labels)
    cut = check_cut(k, len(database_codes))
    for order in tie_orders(len(database_codes), seed=seed):
        database = np.ascontiguousarray(words.database[:, order])
        precision = np.zeros((2, len(words.queries)))
        _rank(
            words.queries, database, words.query_labels, words.label_sets, words.set_of[order], cut, precision
        )
        yield ShuffledPrecision(*precision)


class _Words(NamedTuple):
    """Codes and labels as the kernels take them."""

    queries: Words  # (q, words)
    database: Words  # (words, n): the innermost loop runs over items
    query_labels: Words  # (q, label words)
    label_sets: Words  # (sets, label words): the distinct labels of the database
    set_of: NDArray[np.int64]  # (n,) the set of each item


def _as_words(
    query_codes: Codes, database_codes: Codes, query_labels: Labels, database_labels: Labels
) -> _Words:
    if query_codes.shape[1:] != database_codes.shape[1:] or query_codes.shape[1:] == (0,):
        raise CodeMismatchError(
            f"queries have the shape {query_codes.shape} but the database has {database_codes.shape}: "
            "encode both with the same Hasher"
        )
    classes = query_labels.shape[-1]
    for name, codes, labels in (
        ("query", query_codes, query_labels),
        ("database", database_codes, database_labels),
    ):
        if labels.dtype != np.bool_ or labels.shape != (len(codes), classes) or labels.size == 0:
            raise DataError(
                f"the {name} part has {len(codes)} codes and labels {labels.dtype} {labels.shape}: both parts "
                "need an image, a bool row of labels per code, and the same classes"
            )
    label_sets, set_of = np.unique(as_words(pack(database_labels)), axis=0, return_inverse=True)
    return _Words(
        as_words(query_codes),
        np.ascontiguousarray(as_words(database_codes).T),
        as_words(pack(query_labels)),
        np.ascontiguousarray(label_sets),
        set_of.reshape(-1),
    )


def _kernel(function: F) -> F:
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


_popcount: Any = intrinsic(_lower_popcount)


@_kernel
def _distances(query: Words, database: Words, out: NDArray[np.uint16]) -> None:
    for item in range(database.shape[1]):
        out[item] = _popcount(query[0] ^ database[0, item])
    for word in range(1, len(database)):  # word by word: the inner loop is a vector loop
        for item in range(database.shape[1]):
            out[item] += _popcount(query[word] ^ database[word, item])


@_kernel
def _shared(labels: Words, others: Words) -> int:
    count = 0
    for word in range(len(labels)):
        count += _popcount(labels[word] & others[word])
    return count


@_kernel
def _tabulate(
    queries: Words,
    database: Words,  # in the order of the label sets
    query_labels: Words,
    label_sets: Words,
    ends: NDArray[np.int64],  # where each set ends in the database
    table: NDArray[np.int32],
) -> None:
    # Equal neighbours hit one counter again and again, and each hit waits for the last: four lanes of
    # counters, taken in turn, are three times faster on codes that have learned their classes.
    lanes = np.zeros((4, table.shape[1], table.shape[2]), np.int32)
    distances = np.empty(database.shape[1], np.uint16)
    for query in range(len(queries)):
        _distances(queries[query], database, distances)
        start = 0
        for member in range(len(label_sets)):
            level = _shared(query_labels[query], label_sets[member])
            for item in range(start, ends[member]):
                lanes[item & 3, level, distances[item]] += 1
            start = ends[member]
        for lane in range(4):
            for level in range(table.shape[1]):
                for distance in range(table.shape[2]):
                    table[query, level, distance] += lanes[lane, level, distance]
                    lanes[lane, level, distance] = 0


@_kernel
def _rank(
    queries: Words,
    database: Words,  # in the order that ties are to have
    query_labels: Words,
    label_sets: Words,
    set_of: NDArray[np.int64],
    k: int,
    precision: NDArray[np.float64],  # (2, q): average precision, weighted
) -> None:
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
