"""HashNet: codes by continuation, a tanh that turns into a sign while training continues."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from anglehash.codes import check_bits
from anglehash.errors import ConfigError
from anglehash.methods.checks import check_classes, check_progress, check_weight
from anglehash.methods.losses import LOSSES
from anglehash.methods.losses.similarity import (
    balanced,
    distinct_pairs,
    likelihood,
    read_batch,
    similarity,
)


@LOSSES.register("hashnet")
class HashNetLoss(nn.Module):
    r"""HashNet: weighted likelihood of pairs of :math:`z = \tanh(\beta h)`, with a growing beta.

    Over the distinct pairs of the batch, S1 of them similar and S0 not,

    .. math:: L = \operatorname{mean}_{i<j} w_{ij} \big(\log(1 + e^{\theta_{ij}}) - s_{ij} \theta_{ij}\big),
              \quad \theta_{ij} = a\, z_i \cdot z_j / K

    with w = S/S1 for a similar pair and S/S0 for another, S = S1 + S0. It has no quantization term: z is
    the code in the end.

    Args:
        bits: length K of a code, 4..1024.
        classes: number of classes, at least 2.
        a: slope of the sigmoid over inner products, times K, so that theta is in [-a, a] at any length.
        beta: at the end of the run, at least 1; it starts at 1. See :meth:`set_progress`.

    Shape:
        - logits: ``(batch, bits)`` float, without a tanh before.
        - labels: ``(batch,)`` class numbers, or ``(batch, classes)`` multi-hot.
        - output: ``()``. A kind of pair that is absent adds 0; a batch of one image gives 0.

    Where beta h passes about 9, tanh is 1 in float32 and the gradient of that logit 0.

    Raises:
        ConfigError: a setting is out of range.
        DataError: when called: a shape or dtype does not fit.

    Source:
        Cao et al., "HashNet: Deep Learning to Hash by Continuation", ICCV 2017, arXiv:1702.00758. Differs
        from it: beta grows smoothly instead of in stages trained to convergence; pairs are counted in the
        batch; its optional weight by the share of common labels is left out.

    Saturated codes that differ in one of four bits: z.z = 2, theta = 10/4 * 2 = 5. As a similar pair
    log(1 + exp(-5)) = .0067, as another log(1 + exp(5)) = 5.0067.

    >>> loss, codes = HashNetLoss(bits=4, classes=2), torch.tensor([[1.0, 1, 1, 1], [1, 1, 1, -1]])
    >>> [round(loss(1e3 * codes, torch.tensor([0, y])).item(), 4) for y in (0, 1)]
    [0.0067, 5.0067]
    """

    def __init__(self, bits: int, classes: int, *, a: float = 10.0, beta: float = 10.0) -> None:
        super().__init__()
        self.bits, self.classes = check_bits(bits), check_classes(classes)
        self.a = check_weight("a", a) / bits
        self.end = check_weight("beta", beta)
        if self.end < 1:
            raise ConfigError(f"beta grows from 1, so it must end at 1 or more, got {beta!r}")
        self.beta = 1.0

    def set_progress(self, fraction: float) -> None:
        r"""Let beta grow, as the root of the part of the run: :math:`\sqrt{1 + (\beta_{end}^2 - 1) t}`.

        A loss that receives none keeps beta = 1.

        Raises:
            ConfigError: not in [0, 1].

        >>> loss = HashNetLoss(bits=4, classes=2, beta=5.0)
        >>> loss.set_progress(1 / 8)
        >>> loss.beta
        2.0
        """
        self.beta = math.sqrt(1 + (self.end**2 - 1) * check_progress(fraction))

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss, a scalar."""
        h, positive = read_batch(logits, labels, self.bits, self.classes)
        z = torch.tanh(self.beta * h)
        i, j = distinct_pairs(len(h), h.device)
        similar = similarity(positive)[i, j]
        return balanced(likelihood(self.a * (z @ z.T)[i, j], similar), similar)

    def statistics(self) -> dict[str, float]:
        """What a log should keep: beta."""
        return {"beta": self.beta}
