from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import ndcg_score

from anglehash.errors import ConfigError, DataError
from anglehash.evaluation.metrics import average_precision, mean_average_precision_convention, tabulate
from anglehash.evaluation.multi_label import average_cumulative_gain, ndcg, weighted_average_precision

Items = list[tuple[int, int]]  # distance and shared labels of each database item
lists = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=6)


def table_of(items: Items) -> NDArray[np.int64]:
    distances, shared = zip(*items, strict=True)
    return tabulate(np.array([distances]), np.array([shared]))


def dcg(shared: list[int], n: int) -> float:
    return float(sum((2**r - 1) / np.log2(rank + 2) for rank, r in enumerate(shared[:n])))


def wap(shared: list[int]) -> float:
    hits = [sum(shared[: rank + 1]) / (rank + 1) for rank, r in enumerate(shared) if r]
    return sum(hits) / len(hits) if hits else 0.0


def random_ranking(seed: int, width: int) -> tuple[NDArray[Any], NDArray[Any]]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, width, (4, 50)), rng.integers(0, 4, (4, 50))


@given(lists, st.integers(1, 6))
@settings(max_examples=60, deadline=None)
def test_acg_and_ndcg_are_means_over_all_tie_orders(
    expectation: Callable[..., float], items: Items, n: int
) -> None:
    n = min(n, len(items))
    table = table_of(items)
    expected_acg = expectation(*zip(*items, strict=True), lambda shared: sum(shared[:n]) / n)
    assert average_cumulative_gain(table, n).tolist() == pytest.approx([expected_acg])
    ideal = dcg(sorted((shared for _, shared in items), reverse=True), n)
    expected_dcg = expectation(*zip(*items, strict=True), lambda shared: dcg(shared, n))
    assert ndcg(table, n).tolist() == pytest.approx([expected_dcg / ideal if ideal else 0.0])


@pytest.mark.parametrize("width", [5, 10**6], ids=["ties", "hardly a tie"])
@pytest.mark.parametrize("n", [1, 10, 50])
def test_ndcg_is_scikit_learns(width: int, n: int) -> None:
    distances, shared = random_ranking(0, width)
    ranks = np.unique(distances, return_inverse=True)[1].reshape(distances.shape)  # small numbers, same order
    theirs = ndcg_score(2.0**shared - 1, -distances, k=n)
    assert ndcg(tabulate(ranks, shared), n).mean() == pytest.approx(theirs)


def test_the_best_order_has_ndcg_1() -> None:
    shared = np.array([[3, 2, 2, 1, 0, 0]])
    assert ndcg(tabulate(3 - shared, shared), 4).tolist() == pytest.approx([1])
    assert ndcg(tabulate(3 - shared, np.zeros_like(shared)), 4).tolist() == [0]


@given(lists, st.integers(0, 3))
@settings(max_examples=20, deadline=None)
def test_wap_scatters_around_the_mean_over_all_tie_orders(
    expectation: Callable[..., float], items: Items, seed: int
) -> None:
    distances, shared = zip(*items, strict=True)
    single = [
        weighted_average_precision(np.array([distances]), np.array([shared]), shuffles=1, seed=seed + 10 * i)[
            0
        ]
        for i in range(100)
    ]
    allowed = 5 * np.std(single) / np.sqrt(len(single)) + 1e-12
    assert abs(np.mean(single) - expectation(distances, shared, wap)) <= allowed


def test_wap_averages_ten_shuffles_and_repeats_itself() -> None:
    distances, shared = random_ranking(1, 3)
    values = weighted_average_precision(distances, shared, k=20)
    assert values.tolist() == weighted_average_precision(distances, shared, k=20, shuffles=10).tolist()
    one = weighted_average_precision(distances, shared, k=20, shuffles=1)
    assert not np.allclose(values, one)
    assert not np.allclose(one, weighted_average_precision(distances, shared, k=20, shuffles=1, seed=1))


def test_wap_of_single_labels_is_the_papers_map() -> None:
    distances, shared = random_ranking(2, 6)
    relevant = shared > 1
    one_order = weighted_average_precision(distances, relevant.astype(int), k=15, shuffles=1, seed=3)
    assert one_order.mean() == pytest.approx(
        mean_average_precision_convention(distances, relevant, k=15, seed=3)
    )


def test_wap_without_ties_scales_with_the_gain() -> None:
    distances = np.arange(20)[None, ::-1]
    relevant = np.random.default_rng(0).random((1, 20)) < 0.4
    assert weighted_average_precision(distances, 3 * relevant).tolist() == pytest.approx(
        (3 * average_precision(distances, relevant)).tolist()
    )


def test_ranks_past_the_database_are_refused() -> None:
    table = tabulate(np.array([[0, 1]]), np.array([[1, 2]]))
    for metric in (average_cumulative_gain, ndcg):
        with pytest.raises(ConfigError, match="2 items"):
            metric(table, 3)


def test_what_cannot_be_ranked_is_refused() -> None:
    with pytest.raises(DataError):
        weighted_average_precision(np.zeros((1, 2)), np.zeros((1, 3), dtype=int))
