"""The head of posterior codes; what it is for, and how it is learned: :mod:`.posterior`."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from anglehash.models.heads.buffers import buffer
from anglehash.models.heads.classifiers import ClassifierEnsemble


class PosteriorHead(ClassifierEnsemble):
    r"""What several classifiers make of the features, each turned into logits of the code, and their mean.

    .. math:: z = \frac{1}{M} \sum_m W \max(0, V r(l_m) + u) + b

    with l_m the log-odds of the classes by the classifier m, and r what :func:`reading` makes of them; then the
    bits that keep the features.

    Args:
        roots: ``()``, 1 where the code reads the roots of the posteriors, 0 where it reads their log-odds.
        code_weight: ``(code_hidden, classes)``, V.
        code_bias: ``(code_hidden,)``, u.
        weight: ``(bits, code_hidden)``, W.
        bias: ``(bits,)``, b.
        ensemble: the classifiers, and the bits that keep the features: see
            :class:`~anglehash.models.heads.classifiers.ClassifierEnsemble`.

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
        roots: Tensor,
        code_weight: Tensor,
        code_bias: Tensor,
        weight: Tensor,
        bias: Tensor,
        **ensemble: Tensor,
    ) -> None:
        super().__init__(**ensemble)
        between, bits = len(code_bias), len(bias)
        self.roots = buffer(self, "roots", roots)
        self.code_weight = buffer(self, "code_weight", code_weight, between, self.classes)
        self.code_bias = buffer(self, "code_bias", code_bias, between)
        self.weight = buffer(self, "weight", weight, bits, between)
        self.bias = buffer(self, "bias", bias, bits)
        self.eval()

    def shortened(self, bits: int) -> PosteriorHead:
        """The head of the first bits alone, out of those of the posteriors."""
        state = self.own_state()
        return PosteriorHead(**(state | {name: state[name][:bits] for name in ("weight", "bias")}))

    def forward(self, features: Tensor) -> Tensor:
        """Logits of a batch of features."""
        known = reading(self.log_odds(features), roots=self.roots)
        read = torch.relu(known @ self.code_weight.T + self.code_bias)
        logits = read.mean(dim=0) @ self.weight.T + self.bias
        return torch.cat([logits, self.keeping(features)], dim=1) if self.kept else logits


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
