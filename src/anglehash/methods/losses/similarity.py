"""What losses over pairs and triplets share: the batch, who is similar to whom, and signs.

Two images are similar when they share a label. An image without a label is similar to none.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from anglehash.methods.losses.labels import multi_hot, precise


def read_batch(logits: Tensor, labels: Tensor, bits: int, classes: int) -> tuple[Tensor, Tensor]:
    """Logits in full precision and labels as multi-hot.

    Args:
        logits: ``(batch, bits)``, any float dtype.
        labels: ``(batch,)`` class numbers, or ``(batch, classes)`` multi-hot.
        bits: length of a code.
        classes: number of classes.

    Returns:
        ``(batch, bits)`` float32 (float64 stays), and ``(batch, classes)`` bool.

    Raises:
        DataError: a shape or dtype does not fit.
    """
    return precise(logits, bits), multi_hot(labels, len(logits), classes)


def similarity(labels: Tensor, others: Tensor | None = None) -> Tensor:
    """True where two images share a label.

    Args:
        labels: ``(n, classes)`` bool, multi-hot.
        others: ``(m, classes)`` bool; ``None`` compares the images with each other.

    Returns:
        ``(n, m)`` bool.

    >>> similarity(torch.tensor([[1, 0], [1, 1], [0, 1], [0, 0]]).bool()).int().tolist()
    [[1, 1, 0, 0], [1, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]]
    """
    rows = labels.float()  # a matrix product of floats is the fastest way, and counts to 2^24 exactly
    return rows @ (rows if others is None else others.float()).T > 0


def sgn(logits: Tensor) -> Tensor:
    """The code as -1 and +1; exactly 0 gives -1, since it gives bit 0 in every code.

    >>> sgn(torch.tensor([2.0, -0.5, 0.0])).tolist()
    [1.0, -1.0, -1.0]
    """
    return torch.where(logits > 0, 1.0, -1.0).to(logits.dtype)


def sign_gap(logits: Tensor) -> Tensor:
    """Mean of (h - sgn h)^2 over images and bits: what binarising loses.

    (0.5^2 + 1^2) / 2:

    >>> sign_gap(torch.tensor([[0.5, -2.0]])).item()
    0.625
    """
    return (logits - sgn(logits)).square().mean()


def log_cosh(x: Tensor) -> Tensor:
    """The logarithm of cosh x, without overflow: about x^2 / 2 near 0, and |x| - log 2 far from it.

    >>> log_cosh(torch.tensor([0.0, 1.0, -1000.0])).tolist()
    [0.0, 0.433780..., 999.306...]
    """
    size = x.abs()
    return size + F.softplus(-2 * size) - math.log(2)


def likelihood(theta: Tensor, similar: Tensor) -> Tensor:
    """Negative log-likelihood of each pair, softplus(theta) - s theta; finite for any finite theta.

    log 2 where theta is 0; else log(1 + exp(-theta)) for a similar pair.

    >>> [round(x, 4) for x in likelihood(torch.tensor([0.0, 1.0]), torch.tensor([False, True])).tolist()]
    [0.6931, 0.3133]
    """
    return softplus(theta * (1 - 2 * similar.to(theta.dtype)))  # a product is far faster than torch.where


class _Softplus(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return F.softplus(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return gradient * torch.sigmoid(x)


def softplus(x: Tensor) -> Tensor:
    """log(1 + exp x), whose gradient is a plain sigmoid: half the time of torch's own on a CPU."""
    out: Tensor = _Softplus.apply(x)  # type: ignore[no-untyped-call]
    return out


def distinct_pairs(images: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """The pairs i < j of a batch; none for one image."""
    i, j = torch.triu_indices(images, images, offset=1, device=device)
    return i, j


def balanced(values: Tensor, similar: Tensor) -> Tensor:
    """Mean over pairs, each weighted S/S1 if similar and S/S0 if not: both kinds weigh the same.

    So it is the mean of the similar pairs plus that of the dissimilar ones; a kind that is absent adds 0.

    (1 + 3) / 2 + 6:

    >>> balanced(torch.tensor([1.0, 3.0, 6.0]), torch.tensor([True, True, False])).item()
    8.0
    """
    ones = int(similar.sum())
    weight = torch.where(similar, 1 / max(ones, 1), 1 / max(len(similar) - ones, 1))
    return (values * weight).sum()
