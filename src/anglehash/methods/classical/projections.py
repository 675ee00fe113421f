"""Signs of projections: random ones, and the principal components."""

from __future__ import annotations

import numpy as np
from torch import nn

from anglehash.methods.classical import CLASSICAL
from anglehash.methods.classical.checks import Features, Labels, check_inputs
from anglehash.methods.classical.principal import enough_axes
from anglehash.methods.classical.scaling import scaling_of
from anglehash.models.heads.buffers import tensors
from anglehash.models.heads.classical import LinearHead
from anglehash.progress import Progress, silent


@CLASSICAL.register("lsh")
def lsh(
    features: Features,
    labels: Labels,
    bits: int,
    *,
    seed: int = 0,
    progress: Progress = silent,
    centre: bool = True,
    standardise: bool = False,
) -> nn.Module:
    r"""Locality-sensitive hashing for the cosine: the signs of random projections.

    .. math:: b_k = [w_k^T x > 0], \quad w_k \sim N(0, I)

    Two vectors at the angle theta differ in a bit with probability theta / pi.

    Args:
        features: ``(n, width)``.
        labels: ignored.
        bits: length of a code.
        seed: of the projections.
        progress: callback.
        centre: measure angles around the mean of the training rows, not around the origin, where features that
            are never negative all lie in one orthant.
        standardise: divide each feature by its deviation.

    Raises:
        ConfigError: ``bits`` is out of range.
        DataError: the features cannot be learned from.

    Source:
        Charikar, "Similarity Estimation Techniques from Rounding Algorithms", STOC 2002. Differs from it:
        centring and standardising, which use the data.
    """
    check_inputs(features, None, bits)
    scaling = scaling_of(features, standardise=standardise, centre=centre)
    weight = np.random.default_rng(seed).standard_normal((bits, features.shape[1]))
    progress("lsh", 1, 1, "")
    return LinearHead(**tensors(mean=scaling.mean, scale=scaling.scale, weight=weight, bias=np.zeros(bits)))


@CLASSICAL.register("pca-sign")
def pca_sign(
    features: Features,
    labels: Labels,
    bits: int,
    *,
    seed: int = 0,
    progress: Progress = silent,
    standardise: bool = False,
) -> nn.Module:
    r"""The signs of the first principal components.

    .. math:: b_k = [p_k^T (x - \mu) > 0], \quad p_k \text{ the k-th eigenvector of the covariance}

    Args:
        features: ``(n, width)``.
        labels: ignored.
        bits: length of a code; at most the rank of the centred features.
        seed: unused: nothing here is random.
        progress: callback.
        standardise: divide each feature by its deviation first (components of the correlations).

    Raises:
        ConfigError: ``bits`` is out of range, or more than there are components.
        DataError: the features cannot be learned from.

    Source:
        The baseline *PCA-Direct* of Gong and Lazebnik, "Iterative Quantization", CVPR 2011.
    """
    check_inputs(features, None, bits)
    scaling = scaling_of(features, standardise=standardise)
    axes = enough_axes("pca-sign", features, scaling, bits).axes
    progress("pca-sign", 1, 1, "")
    return LinearHead(**tensors(mean=scaling.mean, scale=scaling.scale, weight=axes, bias=np.zeros(bits)))
