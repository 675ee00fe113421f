"""The hash head: features in, logits out."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class HashHead(nn.Module):
    """Standardise, drop, (hidden layer,) project to the bits, (batch norm).

    The logits are linear in the last layer: there is no tanh, in training or after it.

    Args:
        width: features of one image.
        bits: length of a code.
        hidden: width of a hidden layer (ReLU), 0 for none.
        batch_norm: normalise each bit's logits over the batch, without scale and shift: every bit is then
            near balance, since its logits are centred.
        dropout: share of features (and of hidden units) dropped while training.

    Shape:
        - features: ``(batch, width)`` float.
        - output: ``(batch, bits)`` float, the logits; a bit is 1 where its logit is > 0.
    """

    mean: Tensor
    scale: Tensor

    def __init__(
        self, width: int, bits: int, *, hidden: int = 0, batch_norm: bool = False, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))
        layers: list[nn.Module] = [nn.Dropout(dropout)]
        if hidden:
            layers += [nn.Linear(width, hidden), nn.ReLU(), nn.Dropout(dropout)]
        layers += [nn.Linear(hidden or width, bits)]
        if batch_norm:
            layers += [nn.BatchNorm1d(bits, affine=False)]
        self.layers = nn.Sequential(*layers)

    def standardise(self, features: Tensor) -> None:
        """Take mean and deviation of each feature from the training images, ``(n, width)``."""
        self.mean.copy_(features.mean(dim=0))
        self.scale.copy_(1 / features.std(dim=0, correction=0).clamp_min(1e-6))

    def forward(self, features: Tensor) -> Tensor:
        """Logits of a batch of features."""
        logits: Tensor = self.layers((features - self.mean) * self.scale)
        return logits
