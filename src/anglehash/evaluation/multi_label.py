"""Metrics of multi-label retrieval, where an answer can be more or less right.

The grade of an item is the number of labels that it shares with the query. Rank tables
``(q, levels, distances)`` are those of :mod:`anglehash.evaluation.metrics`, and so are the rules: one
value per query, every query counts. In ACG and NDCG a tied item counts the mean gain of its group, which
is the exact expectation, because both are sums over ranks.
"""

from __future__ import annotations

from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anglehash.evaluation.ties import (
    Counts,
    Floats,
    check_cut,
    check_ranking,
    check_ranks,
    expected_sum,
    ratio,
    tie_orders,
)

SHUFFLES = 10
"""Tie orders that :func:`weighted_average_precision` averages over."""


def average_cumulative_gain(table: Counts, n: int) -> Floats:
    """ACG@N per query: mean number of shared labels among the ``n`` nearest, in labels.

    Raises:
        ConfigError: ``n`` is not in 1..database size.

    Two tied items share 2 and 0 labels: the first is expected to share 1.

    >>> average_cumulative_gain(np.array([[[1], [0], [1]]]), 1).tolist()
    [1.0]
    """
    gain = np.arange(table.shape[1])
    return _expected_gain(table, gain, np.ones(_ranks(table, n))) / n


def ndcg(table: Counts, n: int) -> Floats:
    r"""NDCG@N per query: discounted gain of the ``n`` nearest over that of the best possible order.

    .. math:: DCG@N = \sum_{i \le N} \frac{2^{r_i} - 1}{\log_2(1 + i)}

    with r_i the labels shared by the item at rank i. The ideal DCG orders the *whole database* by shared
    labels and is cut at N too. 0 where nothing is relevant.

    Raises:
        ConfigError: ``n`` is not in 1..database size.

    Shared labels 0, 1 in this order: (1 / log2 3) / (1 / log2 2).

    >>> ndcg(np.array([[[1, 0], [0, 1]]]), 2).round(4).tolist()
    [0.6309]
    """
    gain = np.exp2(np.arange(table.shape[1])) - 1
    discount = 1 / np.log2(np.arange(2, _ranks(table, n) + 2))
    best_first = table.sum(axis=2)[:, ::-1]  # one "distance" per grade, the highest grade nearest
    ideal = expected_sum(best_first, best_first * gain[::-1], discount)
    return ratio(_expected_gain(table, gain, discount), ideal)


def _expected_gain(table: Counts, gain: NDArray[Any], weights: Floats) -> Floats:
    return expected_sum(table.sum(axis=1), np.einsum("qld,l->qd", table, gain), weights)


def _ranks(table: Counts, n: int) -> int:
    return check_ranks(n, int(table[0].sum()))


def weighted_average_precision(
    distances: NDArray[Any],
    shared: NDArray[np.integer[Any]],
    *,
    k: int | None = None,
    shuffles: int = SHUFFLES,
    seed: int = 0,
) -> Floats:
    r"""WAP per query: average precision in which every hit weighs the labels it shares.

    .. math:: WAP@k = \frac{1}{\#hits_k} \sum_{i \le k} rel(i)\,ACG@i

    The hits in the first k are the denominator, as the papers have it, so no closed form exists at a cut:
    this is the mean over seeded shuffles of the database that break the ties. With one label per image
    and one shuffle its mean is :func:`anglehash.evaluation.metrics.mean_average_precision_convention`.

    Args:
        distances: ``(q, n)``, smaller is nearer.
        shared: ``(q, n)`` labels that query and item share.
        k: count the first ``k`` ranks only; ``None`` ranks the whole database.
        shuffles: how many to average over.
        seed: of the shuffles, which are the same for every query.

    Returns:
        ``(q,)``, in labels; 0 without a hit.

    Raises:
        DataError: the shapes differ, there is nothing to rank, or a distance is NaN.
        ConfigError: ``k`` is not a positive integer.

    Shared labels 2, 0, 1: the hits are at rank 1 (ACG 2) and rank 3 (ACG 1).

    >>> weighted_average_precision(np.array([[0, 1, 2]]), np.array([[2, 0, 1]])).tolist()
    [1.5]
    """
    distances, shared = check_ranking(distances, shared)
    cut = check_cut(k, distances.shape[1])
    total = np.zeros(len(distances))
    for order in islice(tie_orders(distances.shape[1], seed=seed), shuffles):
        nearest = np.argsort(distances[:, order], axis=1, kind="stable")[:, :cut]
        gain = np.take_along_axis(shared[:, order], nearest, axis=1)
        gain_at = np.cumsum(gain, axis=1) / np.arange(1, cut + 1)
        total += ratio((gain_at * (gain > 0)).sum(axis=1), (gain > 0).sum(axis=1))
    return total / shuffles
