from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from anglehash.errors import ConfigError, DataError
from anglehash.evaluation import scores
from anglehash.evaluation.metrics import average_precision, mean_average_precision
from anglehash.evaluation.scores import (
    Similarity,
    average_precision_of_blocks,
    average_precision_of_scores,
    cosine,
    mean_average_precision_of_scores,
    posterior_agreement,
    shared_label_agreement,
)

Expectation = Callable[[Sequence[float], Sequence[int], Callable[[list[int]], float]], float]

RNG = np.random.default_rng(0)
QUERY, DATABASE = RNG.normal(size=(7, 5)).astype(np.float32), RNG.normal(size=(40, 5)).astype(np.float32)
QUERY_LABELS, DATABASE_LABELS = RNG.random((7, 3)) < 0.5, RNG.random((40, 3)) < 0.5
RELEVANT = QUERY_LABELS.astype(int) @ DATABASE_LABELS.T.astype(int) > 0


def map_of(
    query: NDArray[Any],
    database: NDArray[Any],
    similarity: Similarity = cosine,
    k: int | None = None,
) -> float:
    return mean_average_precision_of_scores(
        query, database, QUERY_LABELS, DATABASE_LABELS, similarity=similarity, k=k
    )


def test_cosine_ranks_by_angle() -> None:
    angle = [[float(q @ d / np.linalg.norm(q) / np.linalg.norm(d)) for d in DATABASE] for q in QUERY]
    theirs = [
        average_precision_score(relevant, row) if relevant.any() else 0.0
        for relevant, row in zip(RELEVANT, angle, strict=True)
    ]
    assert map_of(QUERY, DATABASE) == pytest.approx(np.mean(theirs))


def test_cosine_ignores_the_length_of_every_vector() -> None:
    stretch = RNG.uniform(0.1, 10, (40, 1)).astype(np.float32)
    assert map_of(3 * QUERY, stretch * DATABASE) == pytest.approx(map_of(QUERY, DATABASE))


def test_a_zero_vector_is_at_right_angles_to_everything() -> None:
    assert cosine(QUERY, np.zeros((1, 5), dtype=np.float32)).tolist() == [[0]] * 7


def test_agreements_are_probabilities_by_their_definition() -> None:
    q, d = RNG.dirichlet(np.ones(4), 3), RNG.dirichlet(np.ones(4), 6)
    same, shared = posterior_agreement(q, d), 1 + shared_label_agreement(q, d)
    for i in range(3):
        for j in range(6):
            assert same[i, j] == pytest.approx(sum(q[i, c] * d[j, c] for c in range(4)))
            assert shared[i, j] == pytest.approx(1 - np.prod([1 - q[i, c] * d[j, c] for c in range(4)]))


def test_near_certainty_is_still_ranked() -> None:
    sure, surer = np.full(3, 1 - 1e-7), np.full(3, 1 - 1e-8)
    agreement = shared_label_agreement(surer[None], np.array([sure, surer]))
    assert agreement[0, 0] < agreement[0, 1]


@pytest.mark.parametrize("similarity", [cosine, posterior_agreement, shared_label_agreement])
def test_blocks_change_nothing(similarity: Similarity, monkeypatch: pytest.MonkeyPatch) -> None:
    query, database = abs(QUERY) / 10, abs(DATABASE) / 10
    whole = map_of(query, database, similarity, k=10)
    assert whole == pytest.approx(
        mean_average_precision(-similarity(query, database), RELEVANT, k=10), rel=1e-6
    )
    monkeypatch.setattr(scores, "CELLS", 100)
    assert map_of(query, database, similarity, k=10) == pytest.approx(whole, rel=1e-6)


def test_equal_scores_count_their_expectation() -> None:
    ones = np.ones((2, 1))
    labels = np.array([[True], [False]])
    assert mean_average_precision_of_scores(
        ones[:1], ones, labels[:1], labels, similarity=posterior_agreement
    ) == pytest.approx(3 / 4)


def test_features_need_their_labels() -> None:
    with pytest.raises(DataError, match="database part has 39"):
        map_of(QUERY, DATABASE[:39])
    with pytest.raises(DataError, match="NaN"):
        map_of(QUERY, np.full_like(DATABASE, np.nan))


def ap_of(block: NDArray[Any], relevant: NDArray[np.bool_], *ks: int | None) -> NDArray[np.float64]:
    """Each item is a label set of its own, so that any pattern of right answers can be given."""
    return average_precision_of_blocks([block], relevant, np.eye(relevant.shape[1], dtype=bool), ks)


@given(
    st.lists(st.tuples(st.integers(-2, 2), st.booleans()), min_size=1, max_size=6),
    st.integers(1, 7),
    st.sampled_from([np.float32, np.float64, np.int8, np.int64]),
)
def test_ties_equal_the_mean_over_all_orders(
    expectation: Expectation, items: list[tuple[int, bool]], k: int, dtype: type
) -> None:
    values, hits = [value for value, _ in items], [hit for _, hit in items]

    def textbook(ranked: list[int]) -> float:
        found = [sum(ranked[: i + 1]) / (i + 1) for i in range(min(k, len(ranked))) if ranked[i]]
        return sum(found) / max(min(sum(hits), k), 1)

    got = ap_of(np.array([values], dtype=dtype), np.array([hits]), k)
    assert got[0, 0] == pytest.approx(expectation([-v for v in values], hits, textbook))


@pytest.mark.parametrize("levels", [1, 3, 40, 10_000])
@pytest.mark.parametrize("share", [0.01, 0.5, 1.0])
def test_large_rankings_equal_the_metric_item_by_item(levels: int, share: float) -> None:
    rng = np.random.default_rng(levels)
    block = (rng.integers(0, levels, (5, 3000)) / levels).astype(np.float32)
    relevant = rng.random((5, 3000)) < share
    relevant[3] = False
    ks = (None, 1, 77, 5000)
    expected = np.stack([average_precision(-block, relevant, k=k) for k in ks], axis=1)
    np.testing.assert_allclose(ap_of(block, relevant, *ks), expected, rtol=1e-11)


def test_infinite_and_negative_zero_scores_have_their_places() -> None:
    block = np.array([[-np.inf, -0.0, np.inf, 0.0]])
    assert ap_of(block, np.array([[False, True, False, False]]), None)[0, 0] == pytest.approx(
        (1 / 2 + 1 / 3) / 2
    )


def test_scores_are_compared_in_their_own_precision() -> None:
    near = np.array([[1.0, 1.0 - 1e-12]])
    first = np.array([[True, False]])
    assert ap_of(near, first, None)[0, 0] == 1.0
    assert ap_of(near.astype(np.float32), first, None)[0, 0] == 0.75  # one float32, so a tie
    wide = np.array([[2**24 + 1, 2**24]])
    assert ap_of(wide, first, None)[0, 0] == 1.0


def test_average_precision_per_query_has_the_mean_for_its_mean() -> None:
    per_query = average_precision_of_scores(QUERY, DATABASE, QUERY_LABELS, DATABASE_LABELS, k=9)
    assert per_query.shape == (7,)
    np.testing.assert_allclose(per_query, average_precision(-cosine(QUERY, DATABASE), RELEVANT, k=9))
    assert per_query.mean() == map_of(QUERY, DATABASE, k=9)


def test_scores_must_fit_their_labels() -> None:
    block = cosine(QUERY, DATABASE)
    for blocks in ([block[:6]], [block, block[:1]], [block[:, :39]], []):
        with pytest.raises(DataError, match="7 rows of 40"):
            average_precision_of_blocks(blocks, QUERY_LABELS, DATABASE_LABELS)
    with pytest.raises(DataError, match="same classes"):
        average_precision_of_blocks([block], QUERY_LABELS[:, :2], DATABASE_LABELS)
    with pytest.raises(ConfigError, match="rank cut"):
        average_precision_of_blocks([block], QUERY_LABELS, DATABASE_LABELS, (0,))


def test_the_scores_given_are_left_as_they_are() -> None:
    block = cosine(QUERY, DATABASE)
    before = block.copy()
    average_precision_of_blocks([block], QUERY_LABELS, DATABASE_LABELS)
    assert np.array_equal(block, before)
