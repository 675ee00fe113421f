"""The calibrated linear classifier that every result is held against (design: codes and posteriors).

Logistic regression on standardised features: multinomial where every image has one label, one-vs-rest
where images have several. Its regularisation is chosen by the log loss of 5-fold cross-validation, which
is what makes its probabilities calibrated. Two numbers come from it: the *ceiling*, mAP of ranking by
posterior agreement, and the *class-id code*, which stores nothing but the likeliest class.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from anglehash.learn.head import mean_and_scale
from anglehash.progress import Report, silent

STRENGTHS = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
"""Candidates of C, scikit-learn's inverse regularisation: ``|w|^2 / 2 + C * sum of losses``."""


class PosteriorClassifier(nn.Module):
    """Class probabilities of images from their features.

    Args:
        width: features of one image.
        classes: number of classes.
        multi_label: a sigmoid for each class instead of a softmax over all.

    Shape:
        - features: ``(n, width)`` float.
        - output of :meth:`posterior`: ``(n, classes)`` in [0, 1].
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, width: int, classes: int, *, multi_label: bool) -> None:
        super().__init__()
        self.multi_label = multi_label
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))
        self.linear = nn.Linear(width, classes)

    def forward(self, features: Tensor) -> Tensor:
        """Logits of the classes."""
        logits: Tensor = self.linear((features - self.mean) * self.scale)
        return logits

    @torch.inference_mode()
    def posterior(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Probabilities of the classes, ``(n, classes)``; rows sum to 1 unless ``multi_label``."""
        logits = self(torch.from_numpy(features))
        out = torch.sigmoid(logits) if self.multi_label else torch.softmax(logits, dim=1)
        return np.asarray(out.numpy())

    def fit(
        self,
        features: NDArray[np.float32],
        labels: NDArray[np.bool_],
        *,
        seed: int = 0,
        strengths: Sequence[float] = STRENGTHS,
        report: Report = silent,
    ) -> PosteriorClassifier:
        """Fit to labelled features; the strength out of ``strengths`` with the least log loss wins.

        Args:
            features: ``(n, width)``.
            labels: ``(n, classes)`` multi-hot; exactly one a row unless ``multi_label``.
            seed: seed of the folds.
            strengths: candidates of C, ascending; a single one is taken without cross-validation.
            report: told of the progress.
        """
        x, y = torch.from_numpy(features), torch.from_numpy(labels.astype(np.float32))
        mean, scale = mean_and_scale(x)
        self.mean.copy_(mean)
        self.scale.copy_(scale)
        x = (x - self.mean) * self.scale
        best = strengths[0]
        if len(strengths) > 1:
            losses = self.cross_validate(x, y, seed=seed, strengths=strengths, report=report)
            best = strengths[int(np.argmin(losses))]
        weight, bias = _solve(x, y, best, multi_label=self.multi_label)
        with torch.no_grad():
            self.linear.weight.copy_(weight)
            self.linear.bias.copy_(bias)
        return self

    def cross_validate(
        self,
        x: Tensor,
        y: Tensor,
        *,
        seed: int,
        strengths: Sequence[float],
        folds: int = 5,
        report: Report = silent,
    ) -> list[float]:
        """Held-out log loss, summed over images, of each strength; ends with the first that rises."""
        order = torch.from_numpy(np.random.default_rng(seed).permutation(len(x)))
        folds = min(folds, len(x))
        held = [torch.isin(torch.arange(len(x)), order[fold::folds]) for fold in range(folds)]
        solved: list[tuple[Tensor, Tensor] | None] = [None] * folds
        losses: list[float] = []
        for strength in strengths:
            total = 0.0
            for fold, out in enumerate(held):  # each solution starts that of the next strength
                solved[fold] = weight, bias = _solve(
                    x[~out], y[~out], strength, multi_label=self.multi_label, start=solved[fold]
                )
                total += float(_loss(x[out] @ weight.T + bias, y[out], self.multi_label))
                report("calibrating", len(losses) * folds + fold + 1, len(strengths) * folds, "")
            losses.append(total)
            if total > min(losses):  # past the least loss: more trust in the training images only hurts
                report("calibrating", len(strengths) * folds, len(strengths) * folds, "")
                break
        return losses


def _loss(logits: Tensor, y: Tensor, multi_label: bool) -> Tensor:
    """Log loss, summed over images (and over classes when one-vs-rest)."""
    if multi_label:
        return F.binary_cross_entropy_with_logits(logits, y, reduction="sum")
    return -(y * F.log_softmax(logits, dim=1)).sum()


def _solve(
    x: Tensor,
    y: Tensor,
    strength: float,
    *,
    multi_label: bool,
    start: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Weights and biases that minimise ``|w|^2 / (2 C) + sum of losses``, by L-BFGS on all classes at once.

    scikit-learn solves the same problem one label at a time: 2,000 fits for COCO's 80 labels.
    """
    n, width = x.shape
    weight = torch.zeros(y.shape[1], width) if start is None else start[0].clone()
    bias = torch.zeros(y.shape[1]) if start is None else start[1].clone()
    weight.requires_grad_(True)
    bias.requires_grad_(True)
    optimizer = torch.optim.LBFGS(
        [weight, bias],
        max_iter=200,
        tolerance_grad=1e-5,
        tolerance_change=1e-7,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        total = (_loss(x @ weight.T + bias, y, multi_label) + weight.square().sum() / (2 * strength)) / n
        total.backward()  # type: ignore[no-untyped-call]
        return total

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return weight.detach(), bias.detach()
