"""The heads of shallow methods: fixed functions from features to logits, all state in float32 buffers.

A head is made of its tensors by name, so that :func:`restore_head` is the constructor. The logits of a row
depend on that row alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from anglehash.errors import ModelError


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
        self.mean = _buffer(self, "mean", mean, width)
        self.scale = _buffer(self, "scale", scale, width)
        self.weight = _buffer(self, "weight", weight, bits, width)
        self.bias = _buffer(self, "bias", bias, bits)
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
        self.mean = _buffer(self, "mean", mean, width)
        self.scale = _buffer(self, "scale", scale, width)
        self.anchors = _buffer(self, "anchors", anchors, count, width)
        self.sigma = _buffer(self, "sigma", sigma)
        self.centre = _buffer(self, "centre", centre, count)
        self.weight = _buffer(self, "weight", weight, bits, count)
        self.bias = _buffer(self, "bias", bias, bits)
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
        self.mean = _buffer(self, "mean", mean, width)
        self.scale = _buffer(self, "scale", scale, width)
        self.weight = _buffer(self, "weight", weight, bits, width)
        self.low = _buffer(self, "low", low, bits)
        self.frequency = _buffer(self, "frequency", frequency, bits)
        self.eval()

    def forward(self, features: Tensor) -> Tensor:
        """Logits of a batch of features."""
        along = (features - self.mean) * self.scale @ self.weight.T
        return torch.sin(torch.pi / 2 + self.frequency * (along - self.low))


class PosteriorHead(nn.Module):
    r"""What several classifiers make of the features, each turned into logits of the code, and their mean.

    .. math:: z = \frac{1}{M} \sum_m W \max(0, V r(l_m) + u) + b, \qquad
              l_m = A_m \max(0, H_m x' + h_m) + a_m

    with x' the centred and scaled features, l_m the log-odds of the classes, and r what :func:`reading` makes
    of them. Further bits may keep the features themselves, :math:`z = F x' + f`.

    Args:
        mean: ``(width,)``, subtracted.
        scale: ``(width,)``, multiplied.
        hidden_weight: ``(classifiers, hidden, width)``, H.
        hidden_bias: ``(classifiers, hidden)``, h.
        class_weight: ``(classifiers, classes, hidden)``, A.
        class_bias: ``(classifiers, classes)``, a.
        roots: ``()``, 1 where the code reads the roots of the posteriors, 0 where it reads their log-odds.
        code_weight: ``(code_hidden, classes)``, V.
        code_bias: ``(code_hidden,)``, u.
        weight: ``(bits, code_hidden)``, W.
        bias: ``(bits,)``, b.
        kept_weight: ``(kept, width)``, F; ``None`` for no such bits.
        kept_bias: ``(kept,)``, f.

    Shape:
        - features: ``(batch, width)`` float.
        - output: ``(batch, bits + kept)`` logits, those of the posteriors first.

    Raises:
        ModelError: the tensors do not fit together.
    """

    kind: ClassVar[str] = "posterior"

    def __init__(
        self,
        *,
        mean: Tensor,
        scale: Tensor,
        hidden_weight: Tensor,
        hidden_bias: Tensor,
        class_weight: Tensor,
        class_bias: Tensor,
        roots: Tensor,
        code_weight: Tensor,
        code_bias: Tensor,
        weight: Tensor,
        bias: Tensor,
        kept_weight: Tensor | None = None,
        kept_bias: Tensor | None = None,
    ) -> None:
        super().__init__()
        if (kept_weight is None) != (kept_bias is None):
            raise ModelError(
                "the posterior head has one of kept_weight and kept_bias: it needs both or neither"
            )
        if class_weight.ndim != 3:
            raise ModelError(
                "class_weight of the head must have the shape (classifiers, classes, hidden), "
                f"got {tuple(class_weight.shape)}"
            )
        count, classes, hidden = class_weight.shape
        width, between, bits = len(mean), len(code_bias), len(bias)
        self.mean = _buffer(self, "mean", mean, width)
        self.scale = _buffer(self, "scale", scale, width)
        self.hidden_weight = _buffer(self, "hidden_weight", hidden_weight, count, hidden, width)
        self.hidden_bias = _buffer(self, "hidden_bias", hidden_bias, count, hidden)
        self.class_weight = _buffer(self, "class_weight", class_weight, count, classes, hidden)
        self.class_bias = _buffer(self, "class_bias", class_bias, count, classes)
        self.roots = _buffer(self, "roots", roots)
        self.code_weight = _buffer(self, "code_weight", code_weight, between, classes)
        self.code_bias = _buffer(self, "code_bias", code_bias, between)
        self.weight = _buffer(self, "weight", weight, bits, between)
        self.bias = _buffer(self, "bias", bias, bits)
        self.keeps_features = kept_weight is not None and kept_bias is not None
        if kept_weight is not None and kept_bias is not None:
            _buffer(self, "kept_weight", kept_weight, len(kept_bias), width)
            _buffer(self, "kept_bias", kept_bias, len(kept_bias))
        self.eval()

    def shortened(self, bits: int) -> PosteriorHead:
        """The head of the first bits alone."""
        state = self.state_dict()
        return PosteriorHead(**(state | {name: state[name][:bits] for name in ("weight", "bias")}))

    def log_odds(self, features: Tensor) -> Tensor:
        """What each classifier makes of a batch, ``(classifiers, batch, classes)``."""
        hidden = torch.relu(
            torch.baddbmm(
                self.hidden_bias[:, None],
                ((features - self.mean) * self.scale).expand(len(self.hidden_bias), -1, -1),
                self.hidden_weight.transpose(1, 2),
            )
        )
        return torch.baddbmm(self.class_bias[:, None], hidden, self.class_weight.transpose(1, 2))

    def forward(self, features: Tensor) -> Tensor:
        """Logits of a batch of features."""
        known = reading(self.log_odds(features), roots=self.roots)
        read = torch.relu(known @ self.code_weight.T + self.code_bias)
        logits = read.mean(dim=0) @ self.weight.T + self.bias
        if not self.keeps_features:
            return logits
        x = (features - self.mean) * self.scale
        kept = x @ self.get_buffer("kept_weight").T + self.get_buffer("kept_bias")
        return torch.cat([logits, kept], dim=1)


def reading(log_odds: Tensor, *, roots: Tensor | bool) -> Tensor:
    r"""What the code reads of the classes: log-odds less their mean, or the roots of posteriors.

    Where an image has one class the mean of the log-odds says nothing. Where it may have several, most of the
    classes are next to impossible in nearly every image, and how impossible must not drown what is likely:
    there the code reads :math:`\sqrt{\sigma(l)}`.

    >>> reading(torch.tensor([[1.0, 3.0]]), roots=False)
    tensor([[-1.,  1.]])
    >>> reading(torch.tensor([[0.0, -1.0986]]), roots=True)  # a half, a quarter
    tensor([[0.7071, 0.5000]])
    """
    centred = log_odds - log_odds.mean(dim=-1, keepdim=True)
    return torch.where(torch.as_tensor(roots) > 0, torch.sigmoid(log_odds).sqrt(), centred)


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


def tensors(**arrays: NDArray[np.floating]) -> dict[str, Tensor]:
    """Arrays as the tensors that heads are made of."""
    return {name: torch.from_numpy(np.asarray(array, dtype=np.float32)) for name, array in arrays.items()}


def _buffer(head: nn.Module, name: str, tensor: Tensor, *shape: int) -> Tensor:
    """Own a float32 copy, so that the state of a head shares no memory, and check its shape."""
    if tensor.shape != shape:
        raise ModelError(
            f"{name} of the head must have the shape {shape} to fit the rest of it, got {tuple(tensor.shape)}"
        )
    head.register_buffer(name, tensor.detach().to(torch.float32).clone().contiguous())
    return head.get_buffer(name)
