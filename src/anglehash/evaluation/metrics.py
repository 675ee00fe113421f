"""What a Hamming ranking is worth: pure functions on arrays, exact under ties.

Codes of ``K`` bits have only ``K + 1`` distances, so most of a ranking is tied, and a sort would let the
order of the database decide the score. No function here sorts tied items: each returns the *expected*
value over all orders of them, except :func:`mean_average_precision_convention`, which follows the
papers. An expectation needs no more than a count of items per distance:

- a **rank table** ``(q, levels, distances)`` counts the database items at each distance that share 0, 1,
  2 ... labels with the query (:func:`tabulate`, or from codes: :mod:`anglehash.evaluation.ranking`);
- its two **histograms** ``items`` and ``relevant``, ``(q, distances)`` each: all items, and the right ones.

*Relevant* means that two images share at least one label. Functions return one value per query unless
their name says ``mean``; every query counts, and one without a relevant item counts 0.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from anglehash.errors import DataError
from anglehash.evaluation.ties import (
    Counts,
    Floats,
    Ties,
    check_cut,
    check_ranking,
    check_ranks,
    expected_sum,
    ratio,
    tie_orders,
)


def tabulate(distances: Counts, shared: NDArray[Any]) -> NDArray[np.int64]:
    """The rank table of rankings that are given item by item.

    Args:
        distances: ``(q, n)`` integers >= 0, query to database, smaller is nearer.
        shared: ``(q, n)``, labels that query and item share; a bool array says relevant or not.

    Returns:
        ``(q, levels, distances)``: the items of each query at each distance that share ``level`` labels.

    Raises:
        DataError: the shapes differ, or there is nothing to rank.

    >>> tabulate(np.array([[0, 2, 2]]), np.array([[True, False, True]])).tolist()
    [[[0, 0, 1], [1, 0, 1]]]
    """
    distances, shared = check_ranking(distances, shared)
    levels, width = max(int(shared.max()), 1) + 1, int(distances.max()) + 1
    query = np.arange(len(distances))[:, None]
    cell = (query * levels + shared) * width + distances
    counts = np.bincount(cell.ravel(), minlength=len(distances) * levels * width)
    return counts.reshape(len(distances), levels, width)


def histograms_of(table: Counts) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The histograms ``items`` and ``relevant`` of a rank table, ``(q, distances)`` each."""
    return table.sum(axis=1, dtype=np.int64), table[:, 1:].sum(axis=1, dtype=np.int64)


def average_precision_from_histograms(items: Counts, relevant: Counts, k: int | None = None) -> Floats:
    r"""Average precision (AP) per query: expected over all orders of tied items, in closed form.

    .. math:: AP@k = \frac{1}{\min(T, k)} \sum_{i \le k} P(i)\,rel(i)

    with T all relevant items, found or not. Without ties it is the textbook AP. The expectation is
    :meth:`anglehash.evaluation.ties.Ties.precision_at_hits`.

    Args:
        items: ``(q, distances)`` database items per distance, nearest first.
        relevant: the same, of the relevant items only.
        k: count the first ``k`` ranks only; ``None`` ranks the whole database.

    Returns:
        ``(q,)`` in ``[0, 1]``; 0 where nothing is relevant.

    Raises:
        DataError: the shapes differ, or no query is given.
        ConfigError: ``k`` is not a positive integer.

    Two tied items, one relevant: the orders give 1/1 and 1/2.

    >>> average_precision_from_histograms(np.array([[0, 2]]), np.array([[0, 1]])).tolist()
    [0.75]
    """
    items, relevant = check_ranking(items, relevant)
    reached, hits = np.cumsum(items, axis=1), np.cumsum(relevant, axis=1)
    cut = check_cut(k, int(reached.max()))
    ties = Ties(items, relevant, reached - items, hits - relevant)
    return ratio(ties.precision_at_hits(cut).sum(axis=1), np.minimum(hits[:, -1], cut))


def average_precision(
    distances: NDArray[Any], relevant: NDArray[np.bool_], *, k: int | None = None
) -> Floats:
    """AP per query of rankings that are given item by item; see :func:`mean_average_precision`."""
    distances, relevant = check_ranking(distances, relevant)
    cut = check_cut(k, distances.shape[1])
    result = np.zeros(len(distances))
    for query, (row, hit) in enumerate(zip(distances, relevant, strict=True)):
        total = int(hit.sum())
        if total:
            result[query] = _ties_with_relevant(row, hit).precision_at_hits(cut).sum() / min(total, cut)
    return result


def _ties_with_relevant(row: NDArray[Any], hit: NDArray[np.bool_]) -> Ties:
    """The ties of one ranking that hold a relevant item: the others add nothing to AP."""
    values, relevant = np.unique(row[hit], return_counts=True)
    ordered = np.sort(row)
    before = np.searchsorted(ordered, values, side="left")
    items = np.searchsorted(ordered, values, side="right") - before
    return Ties(items, relevant, before, np.cumsum(relevant) - relevant)


def mean_average_precision(
    distances: NDArray[Any], relevant: NDArray[np.bool_], *, k: int | None = None
) -> float:
    """Mean average precision (mAP) of a ranking, exact under ties.

    The mean over queries of the AP that :func:`average_precision_from_histograms` defines: expected over
    all orders of equally distant items, divided by all relevant items (``min(T, k)`` at a cut).

    Args:
        distances: ``(q, n)`` of any real dtype, smaller is nearer; equal values are tied.
        relevant: ``(q, n)`` bool, ``True`` where the database item is a correct answer.
        k: count the first ``k`` ranks only; ``None`` ranks the whole database.

    Returns:
        In ``[0, 1]``, higher is better. A query without a relevant item counts 0.

    Raises:
        DataError: the shapes differ, there is nothing to rank, or a distance is NaN.
        ConfigError: ``k`` is not a positive integer.

    >>> mean_average_precision(np.array([[5, 5], [0, 1]]), np.array([[True, False], [False, True]]))
    0.625
    """
    return float(average_precision(distances, relevant, k=k).mean())


def mean_average_precision_convention(
    distances: NDArray[Any], relevant: NDArray[np.bool_], *, k: int | None = None, seed: int = 0
) -> float:
    """The mAP of most papers, to compare with their tables and for nothing else.

    Differs from :func:`mean_average_precision` twice: tied items stand in one order, that of a seeded shuffle
    of the database; and AP@k is divided by the relevant items *found in the first k*, so a query
    with one early hit and many missed items scores 1.

    Args:
        distances: ``(q, n)``, smaller is nearer.
        relevant: ``(q, n)`` bool.
        k: count the first ``k`` ranks only; ``None`` ranks the whole database.
        seed: of the shuffle, which is the same for every query.

    Returns:
        In ``[0, 1]``. A query without a hit in the first ``k`` counts 0.

    Raises:
        DataError: the shapes differ, there is nothing to rank, or a distance is NaN.
        ConfigError: ``k`` is not a positive integer.

    Relevant, other, relevant; cut at 1: one hit found, at once.

    >>> mean_average_precision_convention(np.array([[0, 1, 2]]), np.array([[True, False, True]]), k=1)
    1.0
    """
    distances, relevant = check_ranking(distances, relevant)
    cut = check_cut(k, distances.shape[1])
    order = next(tie_orders(distances.shape[1], seed=seed))
    nearest = np.argsort(distances[:, order], axis=1, kind="stable")[:, :cut]
    hit = np.take_along_axis(relevant[:, order], nearest, axis=1)
    precision = np.cumsum(hit, axis=1) / np.arange(1, cut + 1)
    return float(ratio((precision * hit).sum(axis=1), hit.sum(axis=1)).mean())


def precision_at(items: Counts, relevant: Counts, n: int) -> Floats:
    """P@N per query: the expected share of relevant items among the ``n`` nearest.

    Raises:
        DataError: the shapes differ, or no query is given.
        ConfigError: ``n`` is not in 1..database size.

    The nearest is relevant, and so is one of the three that tie for the second place.

    >>> precision_at(np.array([[1, 3]]), np.array([[1, 1]]), 2).round(4).tolist()
    [0.6667]
    """
    return _hits(items, relevant, n) / n


def recall_at(items: Counts, relevant: Counts, n: int) -> Floats:
    """R@N per query: the expected share of all its relevant items that are among the ``n`` nearest.

    Not the "any hit" recall of metric learning. 0 where nothing is relevant.

    Raises:
        DataError: the shapes differ, or no query is given.
        ConfigError: ``n`` is not in 1..database size.
    """
    return ratio(_hits(items, relevant, n), np.asarray(relevant).sum(axis=1))


def _hits(items: Counts, relevant: Counts, n: int) -> Floats:
    items, relevant = check_ranking(items, relevant)
    return expected_sum(items, relevant, np.ones(check_ranks(n, int(items[0].sum()))))


class Balls(NamedTuple):
    """What the Hamming ball of each radius holds; ``(q, radii)`` each, radius 0 first.

    Attributes:
        precision: share of its items that are relevant; an empty ball counts 0.
        recall: share of the query's relevant items that it holds; 0 where nothing is relevant.
        empty: whether it holds no item at all.
    """

    precision: Floats
    recall: Floats
    empty: NDArray[np.bool_]


def precision_recall_by_radius(items: Counts, relevant: Counts) -> Balls:
    """Precision and recall of hash lookup: all items within a radius, no order among them.

    The curve of a figure is the mean over *all* queries at each radius (macro average). Ties play no part.

    >>> balls = precision_recall_by_radius(np.array([[0, 2, 2]]), np.array([[0, 2, 0]]))
    >>> balls.precision.tolist(), balls.recall.tolist(), balls.empty.tolist()
    ([[0.0, 1.0, 0.5]], [[0.0, 1.0, 1.0]], [[True, False, False]])
    """
    items, relevant = check_ranking(items, relevant)
    inside, hits = np.cumsum(items, axis=1), np.cumsum(relevant, axis=1)
    return Balls(ratio(hits, inside), ratio(hits, np.broadcast_to(hits[:, -1:], hits.shape)), inside == 0)


def average_precision_within_radius(items: Counts, relevant: Counts, radius: int = 2) -> Floats:
    """AP per query of a database that ends at the radius: "mAP within Hamming radius 2".

    Exact under ties. The denominator is the relevant items *inside the ball*, as in the papers that report
    it; a ball without one counts 0. Mind that a small pure ball scores 1, whatever it leaves out.
    """
    items, relevant = check_ranking(items, relevant)
    return average_precision_from_histograms(items[:, : radius + 1], relevant[:, : radius + 1])


def mean_per_class(values: Floats, labels: NDArray[np.bool_]) -> Floats:
    """Mean of per-query values over the queries that hold each class; a query with two labels counts in both.

    Args:
        values: ``(q,)``, for instance AP.
        labels: ``(q, classes)`` bool, multi-hot.

    Returns:
        ``(classes,)``, NaN for a class without a query.

    Raises:
        DataError: there is not one row of labels per value.
    """
    labels = np.asarray(labels)
    if labels.ndim != 2 or len(labels) != len(values):
        raise DataError(f"{len(values)} values need as many rows of labels, got the shape {labels.shape}")
    queries = labels.sum(axis=0)
    return np.where(queries > 0, ratio(values @ labels, queries), np.nan)
