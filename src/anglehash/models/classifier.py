"""The calibrated linear classifier that every result is held against (design: codes and posteriors).

scikit-learn's logistic regression on standardised features: multinomial where every image has one label, one for
each label where images have several. Its strength has the least log loss on a held-out fifth, which is what makes
its probabilities calibrated. Two numbers come from it: the *ceiling*, mAP of ranking by posterior agreement, and
the *class-id code*, which stores nothing but the likeliest class. It is fitted where results are measured, and
never in a training: 6 fits, 13 CPU seconds for 18,000 images of 1,280 features in 200 classes.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from anglehash.progress import Progress, silent

STRENGTHS = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
"""Candidates of C, scikit-learn's inverse regularisation: ``|w|^2 / 2 + C * sum of losses``."""

_LEAST = 1e-7  # probability: one that is 0 would make a log loss infinite


class PosteriorClassifier:
    """Class probabilities of images from their features.

    Args:
        multi_label: a probability for each class by itself; otherwise those of an image sum to 1.
    """

    def __init__(self, *, multi_label: bool) -> None:
        self.multi_label = multi_label

    def fit(
        self,
        features: NDArray[np.float32],
        labels: NDArray[np.bool_],
        *,
        seed: int = 0,
        strengths: Sequence[float] = STRENGTHS,
        progress: Progress = silent,
    ) -> PosteriorClassifier:
        """Fit to labelled features, on one thread; the strength with the least log loss on a held-out fifth wins.

        Args:
            features: ``(n, width)``.
            labels: ``(n, classes)`` multi-hot; exactly one a row unless ``multi_label``.
            seed: of the held-out fifth.
            strengths: candidates of C, ascending; a single one is taken as it is.
            progress: callback of the progress.
        """
        self._mean = features.mean(axis=0)
        self._scale = 1 / np.maximum(features.std(axis=0), 1e-6)
        x = (features - self._mean) * self._scale
        with threadpool_limits(1):
            self.strength = strengths[0]
            if len(strengths) > 1 and len(x) > 1:
                losses = self.held_out_losses(x, labels, seed=seed, strengths=strengths, progress=progress)
                self.strength = strengths[int(np.argmin(losses))]
            self._parts = self._solve(x, labels, self.strength)
        return self

    def posterior(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Probabilities of the classes, ``(n, classes)``; rows sum to 1 unless ``multi_label``."""
        return self._probabilities(self._parts, (features - self._mean) * self._scale)

    def held_out_losses(
        self,
        x: NDArray[np.float32],
        labels: NDArray[np.bool_],
        *,
        seed: int,
        strengths: Sequence[float] = STRENGTHS,
        progress: Progress = silent,
    ) -> list[float]:
        """Log loss on a fifth of the images that the others have not seen, of each strength until it rises."""
        order = np.random.default_rng(seed).permutation(len(x))
        held, known = np.split(order, [max(1, len(x) // 5)])
        losses: list[float] = []
        for strength in strengths:
            p = self._probabilities(self._solve(x[known], labels[known], strength), x[held])
            p = np.clip(p, _LEAST, 1 - _LEAST)
            yes, no = np.log(p)[labels[held]].sum(), np.log1p(-p)[~labels[held]].sum()
            losses.append(-float(yes + no if self.multi_label else yes))
            progress("calibrating", len(losses), len(strengths), "")
            if losses[-1] > min(losses):  # past the least: more trust in the training images only hurts
                progress("calibrating", len(strengths), len(strengths), "")
                break
        return losses

    def _solve(self, x: NDArray[np.float32], labels: NDArray[np.bool_], strength: float) -> list[_Part]:
        if not self.multi_label:
            return [_Part(x, labels.argmax(axis=1), strength, labels.shape[1])]
        return [_Part(x, own.astype(np.int64), strength, 2) for own in labels.T]

    def _probabilities(self, parts: Sequence[_Part], x: NDArray[np.float32]) -> NDArray[np.float32]:
        if not self.multi_label:
            return parts[0].probabilities(x)
        return np.stack([part.probabilities(x)[:, 1] for part in parts], axis=1)


class _Part:
    """One logistic regression, also where not every class has an image."""

    def __init__(self, x: NDArray[np.float32], y: NDArray[np.int64], strength: float, classes: int) -> None:
        self._present, self._classes = np.unique(y), classes
        self._model: Any = None
        if len(self._present) > 1:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)  # near enough for a reference
                self._model = LogisticRegression(C=strength, max_iter=200).fit(x, y)

    def probabilities(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        out = np.zeros((len(x), self._classes), dtype=np.float32)
        out[:, self._present] = 1 if self._model is None else self._model.predict_proba(x)
        return out
