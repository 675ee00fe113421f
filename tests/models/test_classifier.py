from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from anglehash.models.classifier import STRENGTHS, PosteriorClassifier

Problem = tuple[NDArray[np.float32], NDArray[np.int64]]


@pytest.fixture
def blobs() -> Problem:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(3, 6))
    classes = rng.integers(0, 3, 240)
    return (centres[classes] + rng.normal(size=(240, 6))).astype(np.float32), classes


def test_one_label_equals_scikit_learn(blobs: Problem) -> None:
    features, classes = blobs
    ours = PosteriorClassifier(multi_label=False).fit(
        features, np.eye(3, dtype=bool)[classes], strengths=[0.01]
    )
    scaled = (features - features.mean(axis=0)) / features.std(axis=0)
    theirs = LogisticRegression(C=0.01, max_iter=1000, tol=1e-8).fit(scaled, classes)
    np.testing.assert_allclose(ours.posterior(features), theirs.predict_proba(scaled), atol=1e-3)


def test_several_labels_equal_scikit_learn_one_by_one(blobs: Problem) -> None:
    features, classes = blobs
    labels = np.stack([classes == 0, classes > 0, features[:, 0] > 0], axis=1)
    ours = PosteriorClassifier(multi_label=True).fit(features, labels, strengths=[0.03])
    scaled = (features - features.mean(axis=0)) / features.std(axis=0)
    for c in range(3):
        theirs = LogisticRegression(C=0.03, max_iter=1000, tol=1e-8).fit(scaled, labels[:, c])
        np.testing.assert_allclose(
            ours.posterior(features)[:, c], theirs.predict_proba(scaled)[:, 1], atol=1e-3
        )


def test_the_strength_has_the_least_loss_on_a_held_out_fifth(blobs: Problem) -> None:
    features, classes = blobs
    labels = np.eye(3, dtype=bool)[classes]
    scaled = (features - features.mean(axis=0)) / features.std(axis=0)
    held, known = np.split(np.random.default_rng(5).permutation(240), [48])
    expected = [
        log_loss(
            classes[held],
            LogisticRegression(C=strength, max_iter=200)
            .fit(scaled[known], classes[known])
            .predict_proba(scaled[held]),
            normalize=False,
        )
        for strength in STRENGTHS
    ]
    ours = PosteriorClassifier(multi_label=False)
    losses = ours.held_out_losses(scaled, labels, seed=5)
    np.testing.assert_allclose(losses, expected[: len(losses)], rtol=1e-3)
    assert len(losses) in (len(expected), int(np.argmin(expected)) + 2)
    assert ours.fit(features, labels, seed=5).strength == STRENGTHS[int(np.argmin(expected))]


@pytest.mark.parametrize("multi_label", [False, True])
def test_classes_of_one_image_or_of_all(multi_label: bool) -> None:
    features = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)
    labels = np.zeros((12, 4), dtype=bool)
    labels[:, 0] = True
    if multi_label:
        labels[3, 1] = True
    else:
        labels[3] = [False, True, False, False]
    posterior = PosteriorClassifier(multi_label=multi_label).fit(features, labels).posterior(features)
    assert posterior.shape == (12, 4)
    assert np.isfinite(posterior).all()
    assert (posterior[:, 2:] == 0).all()
    one = PosteriorClassifier(multi_label=multi_label).fit(features[:1], labels[:1]).posterior(features)
    assert np.array_equal(one, np.tile([1.0, 0, 0, 0], (12, 1)))


def test_posteriors_are_probabilities(blobs: Problem) -> None:
    features, classes = blobs
    fitted = PosteriorClassifier(multi_label=False).fit(features, np.eye(3, dtype=bool)[classes])
    posterior = fitted.posterior(features)
    np.testing.assert_allclose(posterior.sum(axis=1), 1, atol=1e-5)
    assert posterior.min() >= 0
    assert (posterior.argmax(axis=1) == classes).mean() > 0.6
