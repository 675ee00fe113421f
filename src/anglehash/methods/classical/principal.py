"""Principal components, for the methods that start from them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.linalg import eigh

from anglehash.errors import ConfigError
from anglehash.methods.classical.checks import Features
from anglehash.methods.classical.scaling import Matrix, Scaling, squares

NOTHING = 1e-6  # a component with less than this share of the first one's variance is rounding


class Principal(NamedTuple):
    """Directions of most variance, the largest first."""

    axes: Matrix  # (count, width), orthonormal rows
    variances: Matrix  # (count,)


def principal_axes(features: Features, scaling: Scaling, count: int) -> Principal:
    """The first principal axes of the rows: at most ``count``, fewer where there are no more.

    The sign of an axis is fixed: its entry of largest size is positive.

    Args:
        features: ``(n, width)``; not all rows equal.
        scaling: must centre them.
        count: how many are wanted.
    """
    width = features.shape[1]
    count = min(count, width)
    moments = squares(scaling.precise(features)) / len(features)
    variances, axes = eigh(moments, subset_by_index=(width - count, width - 1))
    variances, axes = variances[::-1], axes.T[::-1]
    real = variances > NOTHING * variances[0]
    variances, axes = variances[real], axes[real]
    largest = axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)]
    return Principal(axes * np.sign(largest)[:, None], variances)


def enough_axes(method: str, features: Features, scaling: Scaling, bits: int) -> Principal:
    """Principal axes, one a bit.

    Raises:
        ConfigError: the rows vary in fewer directions than there are bits.
    """
    found = principal_axes(features, scaling, bits)
    if len(found.axes) < bits:
        raise ConfigError(
            f"{method} takes one principal component a bit, {bits}, but {features.shape[0]} rows of "
            f"{features.shape[1]} features have {len(found.axes)}: ask for fewer bits, or take lsh or sh"
        )
    return found
