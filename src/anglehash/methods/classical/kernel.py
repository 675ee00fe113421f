"""The kernel to anchors that KSH and SDH are linear in."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from anglehash.methods.classical.checks import Features
from anglehash.methods.classical.scaling import Matrix, Scaling
from anglehash.models.heads.buffers import tensors
from anglehash.models.heads.classical import KernelHead, rbf

ROWS_FOR_WIDTH = 2000  # rows whose distances to the anchors give the width of the kernel


class Kernel(NamedTuple):
    """A Gaussian kernel to training rows drawn at random."""

    scaling: Scaling
    anchors: Features  # (anchors, width), centred and scaled
    sigma: float

    def values(self, features: Features) -> Features:
        """The kernel between rows and anchors, ``(n, anchors)``."""
        anchors, sigma = torch.from_numpy(self.anchors), torch.tensor(self.sigma, dtype=torch.float32)
        with torch.inference_mode():
            return np.concatenate(
                [rbf(torch.from_numpy(x), anchors, sigma).numpy() for x in self.scaling.blocks(features)]
            )

    def head(self, weight: Matrix, centre: NDArray[np.floating]) -> KernelHead:
        """The head of a projection ``(bits, anchors)`` of the kernel minus ``centre``."""
        return KernelHead(
            **tensors(
                mean=self.scaling.mean,
                scale=self.scaling.scale,
                anchors=self.anchors,
                sigma=np.array(self.sigma),
                centre=centre,
                weight=weight,
                bias=np.zeros(len(weight)),
            )
        )


def kernel_to_anchors(
    features: Features, scaling: Scaling, count: int, *, spread: float, rng: np.random.Generator
) -> Kernel:
    """Draw anchors and set the width of the kernel.

    Args:
        features: ``(n, width)``; not all rows equal.
        scaling: of the features.
        count: how many anchors; all rows where there are fewer.
        spread: sigma over the mean distance between training rows and anchors.
        rng: draws the anchors, and the rows that the mean distance is taken over (2,000 at most).
    """
    drawn = np.sort(rng.choice(len(features), min(count, len(features)), replace=False))
    some = np.sort(rng.choice(len(features), min(ROWS_FOR_WIDTH, len(features)), replace=False))
    anchors, rows = scaling.apply(features[drawn]), scaling.apply(features[some])
    squared = np.square(rows).sum(axis=1)[:, None] + np.square(anchors).sum(axis=1) - 2 * rows @ anchors.T
    distance = float(np.sqrt(np.maximum(squared, 0), dtype=np.float64).mean())
    return Kernel(
        scaling, anchors, spread * distance if distance > 0 else 1.0
    )  # 0: the anchors are one point
