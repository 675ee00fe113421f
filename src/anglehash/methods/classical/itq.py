"""Iterative quantization: principal components, rotated towards the corners of the cube."""

from __future__ import annotations

import numpy as np
from torch import nn

from anglehash.methods.checks import check_whole
from anglehash.methods.classical import CLASSICAL
from anglehash.methods.classical.checks import Features, Labels, check_inputs
from anglehash.methods.classical.principal import enough_axes
from anglehash.methods.classical.scaling import Matrix, scaling_of, signs
from anglehash.models.heads.buffers import tensors
from anglehash.models.heads.classical import LinearHead
from anglehash.progress import Progress, silent


@CLASSICAL.register("itq")
def itq(
    features: Features,
    labels: Labels,
    bits: int,
    *,
    seed: int = 0,
    progress: Progress = silent,
    iterations: int = 50,
    standardise: bool = False,
) -> nn.Module:
    r"""ITQ: rotate the principal components so that binarising loses least.

    .. math:: \min_{B, R} |B - V R|_F^2, \quad B \in \{-1, 1\}^{n \times K},\ R^T R = I

    with V the first K principal components: B = sign(V R), then the best R for that B, in turn
    (:func:`rotation_step`).

    Args:
        features: ``(n, width)``.
        labels: ignored.
        bits: length of a code; at most the rank of the centred features.
        seed: of the rotation that it starts from.
        progress: callback.
        iterations: how often both are updated.
        standardise: divide each feature by its deviation before the components are found.

    Raises:
        ConfigError: an option or ``bits`` is out of range, or there are fewer components than bits.
        DataError: the features cannot be learned from.

    Source:
        Gong and Lazebnik, "Iterative Quantization: A Procrustean Approach to Learning Binary Codes", CVPR 2011.
        Differs from it: a value of exactly 0 counts as -1.
    """
    check_inputs(features, None, bits)
    check_whole("iterations", iterations)
    scaling = scaling_of(features, standardise=standardise)
    axes = enough_axes("itq", features, scaling, bits).axes
    projected = scaling.project(features, axes)
    rotation = np.linalg.qr(np.random.default_rng(seed).standard_normal((bits, bits)))[0]
    for done in range(iterations):
        rotation = rotation_step(projected, rotation)
        progress("itq", done + 1, iterations, "")
    weight = rotation.T @ axes
    return LinearHead(**tensors(mean=scaling.mean, scale=scaling.scale, weight=weight, bias=np.zeros(bits)))


def rotation_step(projected: Features, rotation: Matrix) -> Matrix:
    r"""The rotation that fits the signs of the rotated components best (orthogonal Procrustes).

    R maximises tr(B^T V R), so it is U W^T of the singular value decomposition V^T B = U S W^T. The error
    :math:`|sign(VR) - VR|^2` never grows.

    The points (1, 1) and (-1, -1) lie on a corner already: the identity stays.

    >>> rotation_step(np.array([[1, 1], [-1, -1], [2, -2], [-2, 2]], dtype=np.float32), np.eye(2)).round(6) + 0
    array([[1., 0.],
           [0., 1.]])
    """
    codes = signs(projected @ rotation.astype(np.float32))
    left, _, right = np.linalg.svd((projected.T @ codes).astype(np.float64))
    return np.asarray(left @ right)
