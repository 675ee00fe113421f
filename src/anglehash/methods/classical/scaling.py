"""Centring and scaling of features, the second moments of the result, and ridge regression on them.

All in blocks of rows. Second moments are float64 throughout: the rounding of float32 is as large as the
small moments of features or kernel values that are all but collinear, and a weak ridge divides by those.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anglehash.methods.classical.checks import Features

BLOCK = 8192  # rows at once: 40 MB of 1,280 features
Matrix = NDArray[np.float64]


class Scaling(NamedTuple):
    """What is done to a feature vector first: ``(x - mean) * scale``."""

    mean: NDArray[np.float32]  # (width,)
    scale: NDArray[np.float32]  # (width,)

    def blocks(self, features: Features) -> Iterator[Features]:
        """Centred and scaled rows, a block at a time."""
        for start in range(0, len(features), BLOCK):
            yield self.apply(features[start : start + BLOCK])

    def precise(self, features: Features) -> Iterator[Matrix]:
        """The same in float64."""
        return (block.astype(np.float64) for block in self.blocks(features))

    def apply(self, features: Features) -> Features:
        """Centred and scaled rows, all at once: for few of them."""
        return (features - self.mean) * self.scale

    def project(self, features: Features, weight: Matrix) -> Features:
        """X W^T of the centred and scaled rows, ``(n, len(weight))``."""
        narrow = weight.T.astype(np.float32)
        return np.concatenate([block @ narrow for block in self.blocks(features)])


def scaling_of(features: Features, *, standardise: bool, centre: bool = True) -> Scaling:
    """The scaling that centres the training rows.

    Args:
        features: ``(n, width)``.
        standardise: divide by the deviation of each feature too; a constant one is left alone.
        centre: subtract the mean; without it, only divide.
    """
    width = features.shape[1]
    mean = features.mean(axis=0, dtype=np.float64).astype(np.float32)
    scale = np.ones(width, dtype=np.float32)
    if standardise:
        variance = np.zeros(width)
        for start in range(0, len(features), BLOCK):
            variance += np.square(features[start : start + BLOCK] - mean, dtype=np.float64).sum(axis=0)
        deviation = np.sqrt(variance / len(features))
        scale = np.where(deviation > 1e-6, 1 / np.maximum(deviation, 1e-6), 1).astype(np.float32)
    return Scaling(mean if centre else np.zeros_like(mean), scale)


def blocks_of(values: NDArray[np.floating]) -> Iterator[Matrix]:
    """Rows in float64, a block at a time."""
    for start in range(0, len(values), BLOCK):
        yield values[start : start + BLOCK].astype(np.float64)


def squares(blocks: Iterable[Matrix]) -> Matrix:
    """X^T X of rows that come in blocks."""
    return np.asarray(sum(block.T @ block for block in blocks))


def cross(blocks: Iterable[Matrix], targets: Matrix) -> Matrix:
    """X^T T of rows that come in blocks, and targets ``(n, k)``."""
    total, done = np.zeros(()), 0
    for block in blocks:
        total = total + block.T @ targets[done : done + len(block)]
        done += len(block)
    return total


def ridge(moments: Matrix, aims: Matrix, strength: float) -> Matrix:
    r"""W that minimises :math:`|X W - T|^2 + \lambda |W|^2`.

    Args:
        moments: X^T X, ``(width, width)``.
        aims: X^T T, ``(width, targets)``.
        strength: lambda, > 0.

    Returns:
        ``(width, targets)``.

    X = (1, 2)^T, T = (3, 4)^T: W = 11 / (5 + 6).

    >>> ridge(np.array([[5.0]]), np.array([[11.0]]), 6).tolist()
    [[1.0]]
    """
    return np.asarray(np.linalg.solve(moments + strength * np.eye(len(moments)), aims), dtype=np.float64)


def signs(
    values: NDArray[np.floating], otherwise: NDArray[np.floating] | float = -1.0
) -> NDArray[np.float32]:
    """+1 and -1; where a value is exactly 0, ``otherwise``: bit 0 by default, as in every code.

    >>> signs(np.array([2.0, 0.0, -3.0])).tolist()
    [1.0, -1.0, -1.0]
    """
    return np.where(values == 0, otherwise, np.where(values > 0, 1.0, -1.0)).astype(np.float32)
