"""Spectral hashing: the smoothest functions on a box around the data, thresholded."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from torch import nn

from anglehash.methods.checks import check_whole
from anglehash.methods.classical import CLASSICAL
from anglehash.methods.classical.checks import Features, Labels, check_inputs
from anglehash.methods.classical.principal import principal_axes
from anglehash.methods.classical.scaling import Matrix, scaling_of
from anglehash.models.heads.buffers import tensors
from anglehash.models.heads.classical import SpectralHead
from anglehash.progress import Progress, silent


@CLASSICAL.register("sh")
def sh(
    features: Features,
    labels: Labels,
    bits: int,
    *,
    seed: int = 0,
    progress: Progress = silent,
    components: int | None = None,
    standardise: bool = False,
) -> nn.Module:
    r"""Spectral hashing: the eigenfunctions of the Laplacian on a box, one a bit.

    The data are taken to fill the box [a_j, b_j] along their principal components evenly. There the
    eigenfunctions along one component are known,

    .. math:: \Phi_{jk}(x) = \sin\Big(\frac{\pi}{2} + \frac{k \pi}{b_j - a_j} (x_j - a_j)\Big), \quad
              \lambda_{jk} = 1 - e^{-\frac{\epsilon^2}{2} |k \pi / (b_j - a_j)|^2}

    and the bits are the signs of those with the smallest eigenvalues, k >= 1: the lowest frequencies
    k / (b_j - a_j) (:func:`smoothest`). A wide component may serve several bits.

    Args:
        features: ``(n, width)``.
        labels: ignored.
        bits: length of a code; may exceed the number of components.
        seed: unused: nothing here is random.
        progress: callback.
        components: how many principal components span the box; as many as bits by default.
        standardise: divide each feature by its deviation before the components are found.

    Raises:
        ConfigError: ``bits`` or ``components`` is out of range.
        DataError: the features cannot be learned from.

    Source:
        Weiss, Torralba and Fergus, "Spectral Hashing", NIPS 2008. Differs from it: epsilon, which does not
        change the order, is gone.
    """
    check_inputs(features, None, bits)
    wanted = bits if components is None else check_whole("components", components)
    scaling = scaling_of(features, standardise=standardise)
    axes = principal_axes(features, scaling, wanted).axes
    projected = scaling.project(features, axes)
    low, high = projected.min(axis=0), projected.max(axis=0)
    axis, mode = smoothest(high - low, bits)
    frequency = mode * math.pi / (high - low)[axis]
    progress("sh", 1, 1, "")
    return SpectralHead(
        **tensors(
            mean=scaling.mean, scale=scaling.scale, weight=axes[axis], low=low[axis], frequency=frequency
        )
    )


def smoothest(sides: Matrix | NDArray[np.float32], count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The eigenfunctions of lowest frequency on a box.

    Args:
        sides: ``(components,)`` lengths of the box, > 0.
        count: how many are wanted.

    Returns:
        The component and the mode k >= 1 of each, by ascending k / side; of equal ones the component that
        comes first.

    Sides 4 and 2: frequencies 1/4, 2/4 = 1/2, 3/4.

    >>> [a.tolist() for a in smoothest(np.array([4.0, 2.0]), 4)]
    [[0, 0, 1, 0], [1, 2, 1, 3]]
    """
    modes = np.arange(1, count + 1)
    frequency = (modes / np.asarray(sides, dtype=np.float64)[:, None]).reshape(-1)
    chosen = np.argsort(frequency, kind="stable")[:count]
    return chosen // count, modes[chosen % count]
