from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from anglehash.errors import ConfigError, DataError
from anglehash.evaluation.metrics import (
    average_precision,
    average_precision_from_histograms,
    average_precision_within_radius,
    histograms_of,
    mean_average_precision,
    mean_average_precision_convention,
    mean_per_class,
    precision_at,
    precision_recall_by_radius,
    recall_at,
    tabulate,
)

Items = list[tuple[int, bool]]  # distance and relevance of each database item
lists = st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=1, max_size=6)


def arrays(items: Items) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    distances, relevant = zip(*items, strict=True)
    return np.array([distances]), np.array([relevant])


def random_ranking(queries: int, n: int, width: int, seed: int = 0) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, width, (queries, n)), rng.random((queries, n)) < 0.3


def textbook_ap(hits: list[int], k: int) -> float:
    total = 0.0
    for rank in range(1, min(k, len(hits)) + 1):
        total += hits[rank - 1] * sum(hits[:rank]) / rank
    return total / min(sum(hits), k) if any(hits) else 0.0


def item_by_item_ap(distances: NDArray[Any], relevant: NDArray[np.bool_], k: int) -> float:
    """The same expectation, added up place by place and without harmonic numbers."""
    group = np.unique(distances, return_inverse=True)[1]
    size, hits = np.bincount(group), np.bincount(group, weights=relevant)
    before, hits_before = np.cumsum(size) - size, np.cumsum(hits) - hits
    rank, total = 0, 0.0
    for n, r, N, Q in zip(size, hits, before, hits_before, strict=True):
        for place in range(n):
            rank += 1
            if rank <= k:
                ahead = place * (r - 1) / (n - 1) if n > 1 else 0.0
                total += r / n * (Q + 1 + ahead) / (N + place + 1)
    return float(total / min(relevant.sum(), k))


def test_two_tied_items_average_both_orders() -> None:
    # orders: (hit, miss) -> 1/1, (miss, hit) -> 1/2
    assert mean_average_precision(np.array([[5, 5]]), np.array([[True, False]])) == pytest.approx(3 / 4)


def test_a_cut_inside_a_tie() -> None:
    # rank 1 is a miss; two of the three tied for ranks 2..4 are hits and k = 2, so rank 2 is a hit in 2 of 3
    # orders, and then P(2) = 1/2: 2/3 * 1/2, divided by min(T, k) = 2
    distances, relevant = np.array([[0, 1, 1, 1]]), np.array([[False, True, True, False]])
    assert mean_average_precision(distances, relevant, k=2) == pytest.approx(1 / 6)


@given(lists, st.integers(1, 7))
@settings(max_examples=60, deadline=None)
def test_ap_is_the_mean_over_all_tie_orders(expectation: Callable[..., float], items: Items, k: int) -> None:
    distances, relevant = arrays(items)
    expected = expectation(*zip(*items, strict=True), lambda hits: textbook_ap(hits, k))
    assert mean_average_precision(distances, relevant, k=k) == pytest.approx(expected)
    histograms = histograms_of(tabulate(distances, relevant))
    assert average_precision_from_histograms(*histograms, k).tolist() == pytest.approx([expected])


@given(lists, st.integers(1, 6))
@settings(max_examples=40, deadline=None)
def test_precision_and_recall_are_means_over_all_tie_orders(
    expectation: Callable[..., float], items: Items, n: int
) -> None:
    n = min(n, len(items))
    hits = expectation(*zip(*items, strict=True), lambda hits: sum(hits[:n]))
    total = sum(relevant for _, relevant in items)
    histograms = histograms_of(tabulate(*arrays(items)))
    assert precision_at(*histograms, n).tolist() == pytest.approx([hits / n])
    assert recall_at(*histograms, n).tolist() == pytest.approx([hits / total if total else 0.0])


@pytest.mark.parametrize("k", [1, 7, 100, 3000])
def test_the_closed_form_keeps_its_digits_in_a_large_database(k: int) -> None:
    distances, relevant = random_ranking(2, 3000, 13)
    expected = [item_by_item_ap(d, r, k) for d, r in zip(distances, relevant, strict=True)]
    assert average_precision(distances, relevant, k=k).tolist() == pytest.approx(expected, rel=1e-10)
    histograms = histograms_of(tabulate(distances, relevant))
    assert average_precision_from_histograms(*histograms, k).tolist() == pytest.approx(expected, rel=1e-10)


def test_without_ties_it_is_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    distances = np.array([rng.permutation(200) for _ in range(5)])
    relevant = rng.random(distances.shape) < 0.2
    theirs = [average_precision_score(r, -d) for d, r in zip(distances, relevant, strict=True)]
    assert average_precision(distances, relevant).tolist() == pytest.approx(theirs)


def test_the_order_of_the_database_does_not_matter() -> None:
    distances, relevant = random_ranking(4, 60, 6)
    order = np.random.default_rng(1).permutation(60)
    assert mean_average_precision(distances[:, order], relevant[:, order], k=20) == pytest.approx(
        mean_average_precision(distances, relevant, k=20), rel=1e-12
    )


@pytest.mark.parametrize(
    "move", [lambda d: d - 100, lambda d: 3 * d + 1, lambda d: d / 7, lambda d: -1.0 / (d + 1)]
)
def test_only_the_order_of_distances_counts(move: Callable[[NDArray[Any]], NDArray[Any]]) -> None:
    # the trap of metrics that drop every target whose score is <= 0
    distances, relevant = random_ranking(4, 60, 6)
    assert mean_average_precision(move(distances), relevant) == mean_average_precision(distances, relevant)


def test_perfect_codes_score_1_and_the_worst_come_last() -> None:
    relevant = np.array([[True] * 3 + [False] * 5])
    best = np.where(relevant, 0, 64)
    assert mean_average_precision(best, relevant) == pytest.approx(1)
    assert mean_average_precision(best, relevant, k=2) == pytest.approx(1)
    # ranks 6, 7, 8: (1/6 + 2/7 + 3/8) / 3
    assert mean_average_precision(64 - best, relevant) == pytest.approx((1 / 6 + 2 / 7 + 3 / 8) / 3)


def test_a_query_without_a_relevant_item_counts_0() -> None:
    distances, relevant = np.array([[0, 1], [0, 1]]), np.array([[True, False], [False, False]])
    assert mean_average_precision(distances, relevant) == pytest.approx(0.5)
    assert mean_average_precision_convention(distances, relevant) == pytest.approx(0.5)
    histograms = histograms_of(tabulate(distances, relevant))
    assert average_precision_from_histograms(*histograms).tolist() == [1, 0]
    assert recall_at(*histograms, 1).tolist() == [1, 0]


def test_a_cut_past_the_database_is_all_ranks() -> None:
    distances, relevant = random_ranking(3, 20, 5)
    assert mean_average_precision(distances, relevant, k=99) == mean_average_precision(distances, relevant)


def test_the_convention_divides_by_the_hits_in_the_first_k() -> None:
    # hits at ranks 1 and 3 of 4; of the four relevant items, two lie past the cut
    distances = np.array([[0, 1, 2, 3, 4, 5]])
    relevant = np.array([[True, False, True, False, True, True]])
    assert mean_average_precision_convention(distances, relevant, k=4) == pytest.approx((1 + 2 / 3) / 2)
    assert mean_average_precision(distances, relevant, k=4) == pytest.approx((1 + 2 / 3) / 4)


def test_the_convention_shuffles_ties_by_its_seed() -> None:
    distances, relevant = random_ranking(1, 12, 2)
    scores = [mean_average_precision_convention(distances, relevant, seed=seed) for seed in range(400)]
    assert len(set(scores)) > 20
    assert scores[0] == mean_average_precision_convention(distances, relevant, seed=0)
    # over all ranks both denominators are the same, so the shuffles scatter around the expectation
    spread = np.std(scores) / np.sqrt(len(scores))
    assert abs(np.mean(scores) - mean_average_precision(distances, relevant)) < 4 * spread


def test_balls_are_counted_radius_by_radius() -> None:
    distances, relevant = random_ranking(5, 30, 9)
    distances += 1  # nothing at distance 0
    balls = precision_recall_by_radius(*histograms_of(tabulate(distances, relevant)))
    for query in range(5):
        for radius in range(10):
            inside = distances[query] <= radius
            hits = int(relevant[query][inside].sum())
            assert balls.precision[query, radius] == pytest.approx(hits / max(inside.sum(), 1))
            assert balls.recall[query, radius] == pytest.approx(hits / relevant[query].sum())
            assert balls.empty[query, radius] == (not inside.any())
    assert balls.empty[:, 0].all()
    assert balls.recall[:, -1].tolist() == pytest.approx([1] * 5)


def test_ap_within_a_radius_is_that_of_a_database_which_ends_there() -> None:
    distances, relevant = random_ranking(5, 30, 9)
    values = average_precision_within_radius(*histograms_of(tabulate(distances, relevant)), radius=2)
    for query, value in enumerate(values):
        inside = distances[query] <= 2
        expected = average_precision(
            distances[query : query + 1, inside], relevant[query : query + 1, inside]
        )
        assert value == pytest.approx(expected[0])
    empty = histograms_of(tabulate(np.array([[3, 4]]), np.array([[True, True]])))
    assert average_precision_within_radius(*empty, radius=2).tolist() == [0]


def test_the_mean_per_class_is_over_the_queries_that_hold_it() -> None:
    labels = np.array([[1, 0, 0], [1, 1, 0]], dtype=bool)
    means = mean_per_class(np.array([0.2, 0.6]), labels)
    assert means[:2].tolist() == pytest.approx([0.4, 0.6])
    assert np.isnan(means[2])


def test_levels_of_the_table_are_shared_labels() -> None:
    table = tabulate(np.array([[0, 1, 1, 1]]), np.array([[2, 0, 2, 1]]))
    assert table.tolist() == [[[0, 1], [0, 1], [1, 1]]]
    items, relevant = histograms_of(table)
    assert (items.tolist(), relevant.tolist()) == ([[1, 3]], [[1, 2]])


@pytest.mark.parametrize("k", [0, -1, 1.5, True, "10"])
def test_a_cut_is_a_positive_whole_number(k: Any) -> None:
    with pytest.raises(ConfigError, match="rank cut"):
        mean_average_precision(np.zeros((1, 3)), np.ones((1, 3), dtype=bool), k=k)


def test_precision_past_the_database_is_refused() -> None:
    with pytest.raises(ConfigError, match="database of 3 items"):
        precision_at(np.array([[3]]), np.array([[1]]), 4)


@pytest.mark.parametrize(
    ("distances", "relevant"),
    [
        (np.zeros((2, 3)), np.ones((2, 4), dtype=bool)),
        (np.zeros(3), np.ones(3, dtype=bool)),
        (np.zeros((0, 3)), np.ones((0, 3), dtype=bool)),
        (np.array([[0, np.nan]]), np.ones((1, 2), dtype=bool)),
    ],
)
def test_what_cannot_be_ranked_is_refused(distances: NDArray[Any], relevant: NDArray[np.bool_]) -> None:
    with pytest.raises(DataError):
        mean_average_precision(distances, relevant)
    with pytest.raises(DataError):
        mean_average_precision_convention(distances, relevant)


def test_labels_of_another_length_are_refused() -> None:
    with pytest.raises(DataError, match="2 values"):
        mean_per_class(np.zeros(2), np.ones((3, 1), dtype=bool))


def test_the_pure_functions_load_neither_numba_nor_torch() -> None:
    code = (
        "import sys, anglehash.evaluation.metrics, anglehash.evaluation.multi_label, anglehash.evaluation.scores;"
        "sys.exit(bool({'numba', 'torch'} & sys.modules.keys()))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
