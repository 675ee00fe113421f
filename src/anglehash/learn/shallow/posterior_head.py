"""The head of posterior codes; what it is for, and how it is learned: :mod:`.posterior`."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from anglehash.errors import ModelError
from anglehash.learn.shallow.buffers import buffer

SHORTEST = 8
"""Bits of the first prefix of nested codes."""


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
        self.mean = buffer(self, "mean", mean, width)
        self.scale = buffer(self, "scale", scale, width)
        self.hidden_weight = buffer(self, "hidden_weight", hidden_weight, count, hidden, width)
        self.hidden_bias = buffer(self, "hidden_bias", hidden_bias, count, hidden)
        self.class_weight = buffer(self, "class_weight", class_weight, count, classes, hidden)
        self.class_bias = buffer(self, "class_bias", class_bias, count, classes)
        self.roots = buffer(self, "roots", roots)
        self.code_weight = buffer(self, "code_weight", code_weight, between, classes)
        self.code_bias = buffer(self, "code_bias", code_bias, between)
        self.weight = buffer(self, "weight", weight, bits, between)
        self.bias = buffer(self, "bias", bias, bits)
        self.keeps_features = kept_weight is not None and kept_bias is not None
        if kept_weight is not None and kept_bias is not None:
            buffer(self, "kept_weight", kept_weight, len(kept_bias), width)
            buffer(self, "kept_bias", kept_bias, len(kept_bias))
        self.eval()

    def shortened(self, bits: int) -> PosteriorHead:
        """The head of the first bits alone, out of those of the posteriors."""
        state = {name: value for name, value in self.state_dict().items() if not name.startswith("kept_")}
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
