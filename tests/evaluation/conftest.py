"""The definition that exact metrics are held to: the mean over every order of tied items."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import permutations

import pytest

Expectation = Callable[[Sequence[float], Sequence[int], Callable[[list[int]], float]], float]


@pytest.fixture(scope="session")
def expectation() -> Expectation:
    """Mean of a metric of the ranked values over all orders of the items, each sorted by distance."""

    def mean(
        distances: Sequence[float], values: Sequence[int], metric: Callable[[list[int]], float]
    ) -> float:
        orders = list(permutations(range(len(distances))))
        ranked = [sorted(order, key=lambda item: distances[item]) for order in orders]  # sorted() is stable
        return sum(metric([values[item] for item in order]) for order in ranked) / len(orders)

    return mean
