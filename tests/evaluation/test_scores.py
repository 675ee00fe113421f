from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from anglehash.errors import DataError
from anglehash.evaluation import scores
from anglehash.evaluation.metrics import mean_average_precision
from anglehash.evaluation.scores import (
    Similarity,
    cosine,
    mean_average_precision_of_scores,
    posterior_agreement,
    shared_label_agreement,
)

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
