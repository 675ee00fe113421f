from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from anglehash.learn.classifier import STRENGTHS, PosteriorClassifier

Problem = tuple[NDArray[np.float32], NDArray[np.int64]]


@pytest.fixture
def blobs() -> Problem:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(3, 6))
    classes = rng.integers(0, 3, 240)
    return (centres[classes] + rng.normal(size=(240, 6))).astype(np.float32), classes


def test_one_label_equals_scikit_learn(blobs: Problem) -> None:
    features, classes = blobs
    ours = PosteriorClassifier(6, 3, multi_label=False).fit(
        features, np.eye(3, dtype=bool)[classes], strengths=[0.01]
    )
    scaled = (features - features.mean(axis=0)) / features.std(axis=0)
    theirs = LogisticRegression(C=0.01, max_iter=1000, tol=1e-8).fit(scaled, classes)
    np.testing.assert_allclose(ours.posterior(features), theirs.predict_proba(scaled), atol=2e-4)


def test_several_labels_equal_scikit_learn_one_by_one(blobs: Problem) -> None:
    features, classes = blobs
    labels = np.stack([classes == 0, classes > 0, features[:, 0] > 0], axis=1)
    ours = PosteriorClassifier(6, 3, multi_label=True).fit(features, labels, strengths=[0.03])
    scaled = (features - features.mean(axis=0)) / features.std(axis=0)
    for c in range(3):
        theirs = LogisticRegression(C=0.03, max_iter=1000, tol=1e-8).fit(scaled, labels[:, c])
        np.testing.assert_allclose(
            ours.posterior(features)[:, c], theirs.predict_proba(scaled)[:, 1], atol=2e-4
        )


def test_cross_validated_losses_equal_scikit_learns(blobs: Problem) -> None:
    features, classes = blobs
    scaled = (features - features.mean(axis=0)) / features.std(axis=0)
    order = np.random.default_rng(5).permutation(len(scaled))
    expected = []
    for strength in STRENGTHS:
        total = 0.0
        for fold in range(5):
            held = np.isin(np.arange(len(scaled)), order[fold::5])
            theirs = LogisticRegression(C=strength, max_iter=1000, tol=1e-8).fit(
                scaled[~held], classes[~held]
            )
            total += float(log_loss(classes[held], theirs.predict_proba(scaled[held]), normalize=False))
        expected.append(total)
    x, y = torch.from_numpy(scaled), torch.from_numpy(np.eye(3, dtype=np.float32)[classes])
    ours = PosteriorClassifier(6, 3, multi_label=False)
    losses = ours.cross_validate(x, y, seed=5, strengths=STRENGTHS)
    np.testing.assert_allclose(losses, expected[: len(losses)], rtol=1e-3)
    assert len(losses) in (len(expected), int(np.argmin(expected)) + 2)

    chosen = ours.fit(features, np.eye(3, dtype=bool)[classes], seed=5).posterior(features)
    best = STRENGTHS[int(np.argmin(expected))]
    alone = PosteriorClassifier(6, 3, multi_label=False)
    alone.fit(features, np.eye(3, dtype=bool)[classes], strengths=[best])
    np.testing.assert_array_equal(chosen, alone.posterior(features))


def test_posteriors_are_probabilities(blobs: Problem) -> None:
    features, classes = blobs
    fitted = PosteriorClassifier(6, 3, multi_label=False).fit(features, np.eye(3, dtype=bool)[classes])
    posterior = fitted.posterior(features)
    np.testing.assert_allclose(posterior.sum(axis=1), 1, atol=1e-5)
    assert posterior.min() >= 0
    assert (posterior.argmax(axis=1) == classes).mean() > 0.6
