"""Expected values over the orders of tied items: the mathematics under every exact metric.

A *tie* is a group of ``n`` items at one distance, ``r`` of them relevant, that stands behind ``N`` items
with ``Q`` relevant ones. All n! orders of it are equally likely.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from anglehash.errors import ConfigError, DataError

Counts = NDArray[np.integer[Any]]
Floats = NDArray[np.float64]


class Ties(NamedTuple):
    """Tie groups, each array of one shape.

    Attributes:
        items: n, the items of a group.
        relevant: r, the relevant ones.
        items_before: N, all items of the groups before it.
        relevant_before: Q, the relevant ones of them.
    """

    items: Counts
    relevant: Counts
    items_before: Counts
    relevant_before: Counts

    def precision_at_hits(self, k: int) -> Floats:
        r"""What each group is expected to add to the sum of P(i) rel(i) over the ranks i <= k.

        Place j of a group is relevant with probability r/n, and then Q + 1 + (j - 1)(r - 1)/(n - 1)
        relevant items are expected down to it. Summed over the J = min(n, k - N) places that count, with H
        the harmonic numbers and d = H(N + J) - H(N):

        .. math:: \frac{r}{n} \Big[(Q + 1)\,d + \frac{r - 1}{n - 1}\,\big(J - (N + 1)\,d\big)\Big]

        where the inner fraction is 0 for n = 1.
        """
        n, r, N, Q = self
        J = np.clip(k - N, 0, n)
        harmonic = harmonic_numbers(1 << int((N + J).max(initial=0)).bit_length())  # few sizes, so cached
        d = harmonic[N + J] - harmonic[N]
        others = np.where(n > 1, (r - 1) / np.maximum(n - 1, 1), 0.0)
        added: Floats = r / np.maximum(n, 1) * ((Q + 1) * d + others * (J - (N + 1) * d))
        return added


@lru_cache(maxsize=32)
def harmonic_numbers(n: int) -> Floats:
    """H(0) .. H(n), the sums of 1/i: ``(n + 1,)``, shared by all callers, so never written to."""
    return np.concatenate([[0.0], np.cumsum(1.0 / np.arange(1, n + 1))])


def expected_sum(items: Counts, values: NDArray[Any], weights: Floats) -> Floats:
    """Expected sum of weight(i) value(i) over the first ranks: a tied item counts the mean of its group.

    Args:
        items: ``(q, groups)`` items per tie, nearest first.
        values: ``(q, groups)`` summed value of the items of each tie.
        weights: ``(k,)`` weight of each rank; later ranks count nothing.

    Returns:
        ``(q,)``.

    >>> expected_sum(np.array([[1, 3]]), np.array([[1, 2]]), np.ones(2)).round(3).tolist()
    [1.667]
    """
    weight_through = np.concatenate([[0.0], np.cumsum(weights)])
    through = np.minimum(np.cumsum(items, axis=1), len(weights))
    before = np.concatenate([np.zeros((len(items), 1), dtype=through.dtype), through[:, :-1]], axis=1)
    mean = values / np.maximum(items, 1)
    total: Floats = (mean * (weight_through[through] - weight_through[before])).sum(axis=1)
    return total


def tie_orders(n: int, *, seed: int = 0) -> Iterator[NDArray[np.int64]]:
    """Seeded shuffles of a database of ``n``, without end: the tie orders of the sampled metrics."""
    rng = np.random.default_rng(seed)
    while True:
        yield rng.permutation(n)


def ratio(part: NDArray[Any], whole: NDArray[Any]) -> Floats:
    """``part / whole``, and 0 where the whole is 0."""
    share: Floats = np.divide(part, whole, out=np.zeros(np.shape(part)), where=np.asarray(whole) > 0)
    return share


def check_ranking(distances: NDArray[Any], relevant: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return both as arrays, if they can be a ranking.

    Raises:
        DataError: the shapes differ, there is nothing to rank, or a distance is NaN.
    """
    distances, relevant = np.asarray(distances), np.asarray(relevant)
    if distances.ndim != 2 or distances.shape != relevant.shape or distances.size == 0:
        raise DataError(
            "a ranking needs two arrays of the same shape (queries, items), neither 0: "
            f"got {distances.shape} and {relevant.shape}"
        )
    if np.issubdtype(distances.dtype, np.floating) and np.isnan(distances).any():
        raise DataError(
            f"{int(np.isnan(distances).sum())} distances are NaN: they have no place in a ranking"
        )
    return distances, relevant


def check_cut(k: int | None, n: int) -> int:
    """The ranks that count: ``k``, at most all ``n``.

    Raises:
        ConfigError: ``k`` is not a positive integer.
    """
    if k is None:
        return n
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
        raise ConfigError(f"a rank cut is a whole number from 1, or None for all ranks: got {k!r}")
    return min(int(k), n)


def check_ranks(n: int, database: int) -> int:
    """Return ``n``, if a database of this size has that many ranks.

    Raises:
        ConfigError: ``n`` is not in 1..``database``.
    """
    if check_cut(n, database) != n:
        raise ConfigError(f"N counts the ranks of a database of {database} items: got {n}")
    return n
