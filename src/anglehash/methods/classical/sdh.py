"""Supervised discrete hashing: codes that a linear classifier reads and a kernel regression reaches."""

from __future__ import annotations

import numpy as np
from torch import nn

from anglehash.methods.checks import check_positive, check_whole
from anglehash.methods.classical import CLASSICAL
from anglehash.methods.classical.checks import Features, Labels, check_inputs
from anglehash.methods.classical.kernel import kernel_to_anchors
from anglehash.methods.classical.scaling import (
    Matrix,
    blocks_of,
    cross,
    ridge,
    scaling_of,
    signs,
    squares,
)
from anglehash.progress import Progress, silent

SWEEPS = 5  # over all bits, within one iteration; they stop when no bit changes


@CLASSICAL.register("sdh")
def sdh(
    features: Features,
    labels: Labels,
    bits: int,
    *,
    seed: int = 0,
    progress: Progress = silent,
    anchors: int = 1000,
    iterations: int = 5,
    class_ridge: float = 1.0,
    nu: float = 1e-5,
    kernel_ridge: float = 1e-2,
    spread: float = 1.0,
    standardise: bool = False,
) -> nn.Module:
    r"""SDH: the codes are variables of their own, found bit by bit without relaxing them.

    .. math:: \min_{B, W, P} |Y - B W|_F^2 + \lambda |W|_F^2 + \nu |B - \Phi P|_F^2,
              \quad B \in \{-1, 1\}^{n \times K}

    with Y the labels as 0 and 1 and Phi the kernel between rows and anchors. In turn: P, W (both ridge
    regressions) and B (:func:`descend`). The logits of an image are its kernel values times P.

    Args:
        features: ``(n, width)``.
        labels: ``(n, classes)`` multi-hot, at least one a row.
        bits: length of a code.
        seed: of anchors and first codes.
        progress: callback.
        anchors: training rows that the kernel is taken to.
        iterations: how often all three are updated.
        class_ridge: lambda, which keeps the classifier small.
        nu: how much the codes give way to what the kernel can reach.
        kernel_ridge: keeps P small, absolute: the kernel's second moments are sums over rows.
        spread: width of the kernel over the mean distance between rows and anchors.
        standardise: divide each feature by its deviation first.

    Raises:
        ConfigError: an option or ``bits`` is out of range.
        DataError: the features cannot be learned from, or a row has no label.

    Source:
        Shen, Shen, Liu and Shen, "Supervised Discrete Hashing", CVPR 2015 (the l2 loss). Differs from it:
        P is a ridge regression too, since moments of many anchors are all but singular; the width of the
        kernel follows the data.
    """
    check_inputs(features, labels, bits)
    check_whole("anchors", anchors)
    check_whole("iterations", iterations)
    for name, value in (
        ("class_ridge", class_ridge),
        ("nu", nu),
        ("kernel_ridge", kernel_ridge),
        ("spread", spread),
    ):
        check_positive(name, value)
    rng = np.random.default_rng(seed)
    scaling = scaling_of(features, standardise=standardise)
    kernel = kernel_to_anchors(features, scaling, anchors, spread=spread, rng=rng)
    values, targets = kernel.values(features), labels.astype(np.float64)
    moments = squares(blocks_of(values))
    codes: Matrix = signs(rng.standard_normal((len(features), bits))).astype(np.float64)
    for done in range(iterations):
        reached = ridge(moments, cross(blocks_of(values), codes), kernel_ridge)
        weights = ridge(codes.T @ codes, codes.T @ targets, class_ridge)
        wanted = targets @ weights.T + nu * (values @ reached.astype(np.float32))
        for _ in range(SWEEPS):
            before = codes
            codes = descend(codes, wanted, weights)
            if np.array_equal(codes, before):
                break
        progress("sdh", done + 1, iterations, "")
    reached = ridge(moments, cross(blocks_of(values), codes), kernel_ridge)
    return kernel.head(reached.T, np.zeros(values.shape[1]))


def descend(codes: Matrix, wanted: Matrix, weights: Matrix) -> Matrix:
    r"""One sweep of discrete cyclic coordinate descent: the best value of each bit, the others fixed.

    It minimises :math:`|B W|_F^2 - 2\,\mathrm{tr}(B^T Q)`, which is SDH's objective as a function of B, over one
    column z at a time: :math:`z = \mathrm{sgn}(q - B' W' v)`, with q its column of Q, v its row of W, and
    B', W' the rest. The objective never grows.

    Args:
        codes: B, ``(n, bits)`` of +1 and -1.
        wanted: Q, ``(n, bits)``: Y W^T + nu Phi P.
        weights: W, ``(bits, classes)``.

    Returns:
        The new codes; a bit that does not matter stays.

    W = (1, 1)^T, so that a row wants its sum to be right: Q = (1.5, .5) asks for (1, -1), whose sum is 0.

    >>> descend(np.array([[-1.0, 1.0]]), np.array([[1.5, 0.5]]), np.ones((2, 1))).tolist()
    [[1.0, -1.0]]
    """
    codes = codes.copy()
    between = weights @ weights.T
    np.fill_diagonal(between, 0)  # the rest of the bits only
    for bit in range(codes.shape[1]):
        codes[:, bit] = signs(wanted[:, bit] - codes @ between[:, bit], otherwise=codes[:, bit])
    return codes
