r"""The hash constraint, which keeps the class vectors apart, and the angle lost by binarising.

Class vectors and codes lie on one sphere, of radius :math:`\sqrt K`, so the Hamming distance between the
codes of two classes is, smoothly, the angle between their vectors. These functions take unit vectors,
one a row.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def cos(unit: Tensor) -> Tensor:
    """D = (1 - w_i . w_j) / 2: 0 for the same direction, 1 for opposite ones."""
    return (1 - unit @ unit.T) / 2


def tanh_unit(unit: Tensor) -> Tensor:
    """D = (K - p_i . p_j) / 2 with p = tanh(w), not normalised: the public re-implementation's.

    An entry of w is about 1 / sqrt(K), where tanh is all but linear, so p.p <= 1 and D hardly leaves K / 2.
    """
    p = torch.tanh(unit)
    return (unit.shape[1] - p @ p.T) / 2


def tanh_scaled(unit: Tensor) -> Tensor:
    """D = (1 - p_i . p_j / K) / 2 with p = tanh(sqrt(K) w): its entries do reach towards -1 and 1."""
    p = torch.tanh(math.sqrt(unit.shape[1]) * unit)
    return (1 - p @ p.T / unit.shape[1]) / 2


def sign_ste(unit: Tensor) -> Tensor:
    """D = (1 - p_i . p_j / K) / 2 with p = sign(w): the true Hamming distance of the class codes, over K.

    The gradient passes straight through the sign, as if p were w.
    """
    sign = torch.where(unit > 0, 1.0, -1.0).to(unit.dtype)  # 0 gives bit 0, as in every code
    p = unit + (sign - unit).detach()
    return (1 - p @ p.T / unit.shape[1]) / 2


DISTANCES = {"cos": cos, "tanh_unit": tanh_unit, "tanh_scaled": tanh_scaled, "sign_ste": sign_ste}


def hash_constraint(distances: Tensor, *, alpha: float, beta: float) -> Tensor:
    r"""Far apart on average, and all pairs alike: no weak pair.

    .. math:: L_{hash} = -\alpha\,\mathrm{mean}_{i<j} D_{ij} + \beta\,\mathrm{var}_{i<j} D_{ij}

    The variance is the unbiased one, and 0 for two classes, which are one pair. For ``cos`` the mean is at
    most C / (2 (C - 1)), reached exactly where the unit vectors sum to 0; all pairs alike besides (a regular
    simplex) takes at least C - 1 bits.

    Args:
        distances: ``(classes, classes)``, symmetric, classes >= 2.
        alpha: weight of the mean.
        beta: weight of the variance.

    Distances 1, .5 and 0: mean .5, variance .25.

    >>> d = torch.tensor([[0.0, 1.0, 0.5], [1.0, 0.0, 0.0], [0.5, 0.0, 0.0]])
    >>> float(hash_constraint(d, alpha=1, beta=1))
    -0.25
    """
    classes = len(distances)
    i, j = torch.triu_indices(classes, classes, offset=1, device=distances.device)
    pairs = distances[i, j]
    variance = pairs.var() if len(pairs) > 1 else pairs.new_zeros(())
    return -alpha * pairs.mean() + beta * variance


def quantization(unit: Tensor) -> Tensor:
    r"""What the angle between a logit vector and its code loses, for each image.

    .. math:: q = 1 - |z|_1 / (\sqrt K |z|_2)

    It is 1 - cos of that angle, in [0, 1 - 1/sqrt(K)]; on the sphere of the codes, |h - b|^2 = 2 K q.
    A row of zeros, which has no direction, counts 1.

    Args:
        unit: ``(batch, bits)``, rows of length 1 (or 0).

    Returns:
        ``(batch,)``.

    >>> quantization(torch.tensor([[0.5, -0.5, 0.5, 0.5], [1.0, 0.0, 0.0, 0.0]])).tolist()
    [0.0, 0.5]
    """
    return 1 - unit.abs().sum(dim=1) / math.sqrt(unit.shape[1])
