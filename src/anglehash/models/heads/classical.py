"""The heads of shallow methods: fixed functions from features to logits, all state in float32 buffers.

A head is made of its tensors by name, so that :func:`restore_head` is the constructor. The logits of a row
depend on that row alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from anglehash.errors import ModelError
from anglehash.models.heads.buffers import buffer
from anglehash.models.heads.posterior import PosteriorHead


class LinearHead(nn.Module):
    """Centre, scale, project.

    Args:
        mean: ``(width,)``, subtracted.
        scale: ``(width,)``, multiplied.
        weight: ``(bits, width)``.
        bias: ``(bits,)``.

    Shape:
        - features: ``(batch, width)`` float.
        - output: ``(batch, bits)`` logits.

    Raises:
        ModelError: the tensors do not fit together.
    """

    kind: ClassVar[str] = "linear"

    def __init__(self, *, mean: Tensor, scale: Tensor, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        bits, width = len(bias), len(mean)
        self.mean = buffer(self, "mean", mean, width)
        self.scale = buffer(self, "scale", scale, width)
        self.weight = buffer(self, "weight", weight, bits, width)
        self.bias = buffer(self, "bias", bias, bits)
        self.eval()

    def forward(self, features: Tensor) -> Tensor:
        """Logits of a batch of features."""
        return (features - self.mean) * self.scale @ self.weight.T + self.bias


class KernelHead(nn.Module):
    r"""Similarity to anchors, then a projection.

    .. math:: z = W (k(x) - c) + b, \qquad k_j(x) = \exp\!\big(-|x' - a_j|^2 / (2 \sigma^2)\big)

    with x' the centred and scaled features.

    Args:
        mean: ``(width,)``, subtracted.
        scale: ``(width,)``, multiplied.
        anchors: ``(anchors, width)``, centred and scaled already.
        sigma: ``()``, the width of the kernel, > 0.
        centre: ``(anchors,)``, c.
        weight: ``(bits, anchors)``, W.
        bias: ``(bits,)``, b.

    Shape:
        - features: ``(batch, width)`` float.
        - output: ``(batch, bits)`` logits.

    Raises:
        ModelError: the tensors do not fit together.
    """

    kind: ClassVar[str] = "kernel"

    def __init__(
        self,
        *,
        mean: Tensor,
        scale: Tensor,
        anchors: Tensor,
        sigma: Tensor,
        centre: Tensor,
        weight: Tensor,
        bias: Tensor,
    ) -> None:
        super().__init__()
        bits, width, count = len(bias), len(mean), len(anchors)
        self.mean = buffer(self, "mean", mean, width)
        self.scale = buffer(self, "scale", scale, width)
        self.anchors = buffer(self, "anchors", anchors, count, width)
        self.sigma = buffer(self, "sigma", sigma)
        self.centre = buffer(self, "centre", centre, count)
        self.weight = buffer(self, "weight", weight, bits, count)
        self.bias = buffer(self, "bias", bias, bits)
        self.eval()

    def forward(self, features: Tensor) -> Tensor:
        """Logits of a batch of features."""
        kernel = rbf((features - self.mean) * self.scale, self.anchors, self.sigma)
        return (kernel - self.centre) @ self.weight.T + self.bias


class SpectralHead(nn.Module):
    r"""One sinusoid a bit, along one direction each.

    .. math:: z_k = \sin\!\big(\tfrac{\pi}{2} + \omega_k (w_k^T x' - l_k)\big)

    with x' the centred and scaled features.

    Args:
        mean: ``(width,)``, subtracted.
        scale: ``(width,)``, multiplied.
        weight: ``(bits, width)``, the direction of each bit.
        low: ``(bits,)``, l, where the box of the training rows begins in that direction.
        frequency: ``(bits,)``, omega, in radians per unit of the direction.

    Shape:
        - features: ``(batch, width)`` float.
        - output: ``(batch, bits)`` logits, in [-1, 1].

    Raises:
        ModelError: the tensors do not fit together.

    Half a period over the box [0, 2]: positive in its first half.

    >>> one = torch.ones(1)
    >>> head = SpectralHead(
    ...     mean=0 * one, scale=one, weight=one[None], low=0 * one, frequency=one * torch.pi / 2)
    >>> [round(float(z), 3) for z in head(torch.tensor([[0.0], [0.5], [1.5]]))]
    [1.0, 0.707, -0.707]
    """

    kind: ClassVar[str] = "spectral"

    def __init__(
        self, *, mean: Tensor, scale: Tensor, weight: Tensor, low: Tensor, frequency: Tensor
    ) -> None:
        super().__init__()
        bits, width = len(low), len(mean)
        self.mean = buffer(self, "mean", mean, width)
        self.scale = buffer(self, "scale", scale, width)
        self.weight = buffer(self, "weight", weight, bits, width)
        self.low = buffer(self, "low", low, bits)
        self.frequency = buffer(self, "frequency", frequency, bits)
        self.eval()

    def forward(self, features: Tensor) -> Tensor:
        """Logits of a batch of features."""
        along = (features - self.mean) * self.scale @ self.weight.T
        return torch.sin(torch.pi / 2 + self.frequency * (along - self.low))


_KINDS = (LinearHead, KernelHead, SpectralHead, PosteriorHead)
HEADS: Mapping[str, type[nn.Module]] = {head.kind: head for head in _KINDS}


def restore_head(kind: str, state: Mapping[str, Tensor]) -> nn.Module:
    """A head out of its ``state_dict``.

    Args:
        kind: the ``kind`` of its class.
        state: its tensors by name.

    Raises:
        ModelError: no such kind, a tensor is missing or too many, or their shapes do not fit together.
    """
    if kind not in HEADS:
        raise ModelError(f"the head is of the unknown kind {kind!r}; known: {', '.join(sorted(HEADS))}")
    try:
        return HEADS[kind](**state)
    except TypeError as error:
        raise ModelError(f"the {kind} head does not hold what it should: {error}") from error


def rbf(x: Tensor, anchors: Tensor, sigma: Tensor) -> Tensor:
    r"""The Gaussian kernel to every anchor, ``(batch, anchors)``, by one matrix product.

    A distance 2 and sigma 1: exp(-2) = 0.1353.

    >>> rbf(torch.tensor([[0.0, 2.0]]), torch.zeros(1, 2), torch.tensor(1.0))
    tensor([[0.1353]])
    """
    squared = x.square().sum(dim=1, keepdim=True) + anchors.square().sum(dim=1) - 2 * x @ anchors.T
    return torch.exp(squared.clamp_min(0) / (-2 * sigma.square()))
