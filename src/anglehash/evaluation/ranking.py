"""Rankings straight from packed codes, without a sort and without a distance matrix.

XOR and popcount give the distances of one query at a time, and what the metrics need is counted on the
way: :func:`rank_tables` and :func:`histograms` for everything that is exact under ties,
:func:`shuffled_average_precision` for the papers' convention. Memory is bounded by the blocks of queries, not
by queries x database. One thread.

Labels are packed like codes, so the number of shared labels is a popcount too. Images with equal labels
are one *label set*: a query meets each set once and not each image.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anglehash.codes import Codes, as_words, check_codes, hamming, pack
from anglehash.errors import CodeMismatchError, DataError
from anglehash.evaluation import kernels
from anglehash.evaluation.code_statistics import distinct
from anglehash.evaluation.metrics import average_precision_from_histograms, histograms_of
from anglehash.evaluation.ties import check_cut, tie_orders

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
        check_codes(codes, bits)  # a distance above bits would leave the table
    words = _as_words(query_codes, database_codes, query_labels, database_labels)
    by_set = np.argsort(words.set_of, kind="stable")
    ends = np.cumsum(np.bincount(words.set_of))
    database = np.ascontiguousarray(words.database[:, by_set])
    levels = 1 + max(1, min(int(query_labels.sum(axis=1).max()), int(database_labels.sum(axis=1).max())))
    step = max(1, CELLS // (levels * (bits + 1)))
    for start in range(0, len(words.queries), step):
        block = slice(start, start + step)
        table = np.zeros((len(words.queries[block]), levels, bits + 1), dtype=np.int32)
        kernels.tabulate(
            words.queries[block], database, words.query_labels[block], words.label_sets, ends, table
        )
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


class SomeAnswers(NamedTuple):
    """What some queries find: rows of the queries ``(q,)``, of their answers ``(q, k)``, and distances in bits."""

    queries: NDArray[np.int64]
    nearest: NDArray[np.int64]
    distances: NDArray[np.int32]


def some_answers(query: Codes, database: Codes, *, queries: int, answers: int) -> SomeAnswers:
    """The nearest of some queries, evenly spaced, to be looked at; of equally distant ones the first rows.

    Args:
        query: ``(q, w)`` packed codes.
        database: ``(n, w)`` packed codes of the same length.
        queries: how many queries; all where there are fewer.
        answers: how many answers each; all where there are fewer.
    """
    rows = np.linspace(0, len(query) - 1, min(queries, len(query))).astype(np.int64)
    distances = hamming(query[rows], database)
    nearest = np.argsort(distances, axis=1, kind="stable")[:, :answers]
    return SomeAnswers(rows, nearest, np.take_along_axis(distances, nearest, axis=1))


class ShuffledPrecision(NamedTuple):
    """Per query, with tied items in one random order and the hits in the first k as denominator.

    Attributes:
        average_precision: its mean is
            :func:`~anglehash.evaluation.metrics.mean_average_precision_convention`.
        weighted: every hit weighs its shared labels, as in
            :func:`~anglehash.evaluation.multi_label.weighted_average_precision`.
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
        kernels.rank(
            words.queries, database, words.query_labels, words.label_sets, words.set_of[order], cut, precision
        )
        yield ShuffledPrecision(*precision)


class _Words(NamedTuple):
    """Codes and labels as the kernels take them."""

    queries: kernels.Words  # (q, words)
    database: kernels.Words  # (words, n): the innermost loop runs over items
    query_labels: kernels.Words  # (q, label words)
    label_sets: kernels.Words  # (sets, label words): the distinct labels of the database
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
        if labels.dtype != np.bool_ or labels.shape != (len(codes), classes) or not labels.size:
            raise DataError(
                f"the {name} part has {len(codes)} codes and labels {labels.dtype} {labels.shape}: both "
                "parts need an image, a bool row of labels per code, and the same classes"
            )
    packed = pack(database_labels)
    first, set_of = distinct(packed)
    return _Words(
        as_words(query_codes),
        np.ascontiguousarray(as_words(database_codes).T),
        as_words(pack(query_labels)),
        as_words(packed[first]),
        set_of,
    )
