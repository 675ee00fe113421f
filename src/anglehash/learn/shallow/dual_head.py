"""The head of dual posterior codes; what it is for, and how it is learned: :mod:`.posterior_dual`."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from anglehash.learn.shallow.buffers import buffer
from anglehash.learn.shallow.panel import Panel

PASSES = 3
"""Times that :func:`descend` goes over the bits: hardly one changes in a fourth pass."""


TIE = 1e-12
"""What speaks for a sign less than this is rounding, in the float64 of a model's codes: the bit stays as it is."""


class DualHead(Panel):
    r"""What several classifiers make of the features, as a code for an item and another one for a query.

    With l the mean over classifiers of the log-odds, an item's code is found by :func:`descend`:

    .. math:: \min_d \sum_j \pi_j \big(s\, d \cdot c_j + o - t_j\big)^2, \qquad t = \mathrm{softmax}(\tau\, l)

    and a query's logits are :math:`q = \sum_j a_j m_j` with :math:`a = \mathrm{softmax}(\alpha\, l)`.

    Args:
        class_codes: ``(classes, bits)``, c, of -1 and 1.
        class_share: ``(classes,)``, pi, how often each class is asked for.
        slope: ``()``, s.
        offset: ``()``, o.
        query_weight: ``(classes, bits)``, m.
        item_power: ``()``, tau.
        query_power: ``()``, alpha.
        panel: the classifiers: see :class:`~anglehash.learn.shallow.panel.Panel`.

    Shape:
        - features: ``(batch, width)`` float.
        - output: ``(batch, bits)`` logits, of items; with those of queries by :meth:`sides`.

    Raises:
        ModelError: the tensors do not fit together.
    """

    kind: ClassVar[str] = "posterior-dual"

    def __init__(
        self,
        *,
        class_codes: Tensor,
        class_share: Tensor,
        slope: Tensor,
        offset: Tensor,
        query_weight: Tensor,
        item_power: Tensor,
        query_power: Tensor,
        **panel: Tensor,
    ) -> None:
        super().__init__(**panel)
        shape = (self.classes, class_codes.shape[-1])
        self.class_codes = buffer(self, "class_codes", class_codes, *shape)
        self.class_share = buffer(self, "class_share", class_share, self.classes)
        self.slope = buffer(self, "slope", slope)
        self.offset = buffer(self, "offset", offset)
        self.query_weight = buffer(self, "query_weight", query_weight, *shape)
        self.item_power = buffer(self, "item_power", item_power)
        self.query_power = buffer(self, "query_power", query_power)
        self.eval()

    def forward(self, features: Tensor) -> Tensor:
        """Logits of a batch of items by their features: the signs are their codes."""
        return descend(*self.fitting(self.judged(features)))

    def sides(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of a batch by its features, as items and as queries, ``(batch, bits)`` both."""
        judged = self.judged(features)
        return descend(*self.fitting(judged)), self.asking(judged)

    def judged(self, features: Tensor) -> Tensor:
        """l, ``(batch, classes)``."""
        return self.log_odds(features).mean(dim=0)

    def fitting(self, judged: Tensor) -> tuple[Tensor, Tensor]:
        """What :func:`descend` takes for a batch of items, of which l is ``judged``."""
        wanted = torch.softmax(self.item_power * judged, dim=1)
        return fit(wanted, self.class_codes, self.class_share, self.slope, self.offset)

    def asking(self, judged: Tensor) -> Tensor:
        """Logits of a batch of queries, of which l is ``judged``."""
        return torch.softmax(self.query_power * judged, dim=1) @ self.query_weight


def fit(
    wanted: Tensor, others: Tensor, share: Tensor, slope: Tensor, offset: Tensor
) -> tuple[Tensor, Tensor]:
    r"""The fit of inner products with other codes, as :func:`descend` takes it.

    .. math:: \sum_j \pi_j (s\, b \cdot c_j + o - t_j)^2 = b^T A b - 2 h \cdot b + \text{a constant}, \quad
              A = s^2 \sum_j \pi_j c_j c_j^T, \quad h = s \sum_j \pi_j (t_j - o)\, c_j

    Args:
        wanted: ``(n, others)``, t.
        others: ``(others, bits)``, c.
        share: ``(others,)``, pi.
        slope: ``()``, s.
        offset: ``()``, o.

    Returns:
        h ``(n, bits)`` and A ``(bits, bits)``.
    """
    weighted = slope * share[:, None] * others
    return (wanted - offset) @ weighted, slope * weighted.T @ others


def descend(pull: Tensor, push: Tensor, passes: int = PASSES) -> Tensor:
    r"""Codes b of -1 and 1 with a small :math:`b^T A b - 2 h \cdot b`, as logits.

    Each bit in turn takes the sign that is better while the others stay as they are, and stays where neither is,
    ``passes`` times over all of them; no step makes the sum larger. A logit is what speaks for its sign when
    it was last asked, and never 0.

    Args:
        pull: ``(n, bits)``, h.
        push: ``(bits, bits)``, A, symmetric.
        passes: over the bits, at least 1.

    Source:
        Discrete cyclic coordinate descent: Shen et al., "Supervised Discrete Hashing", CVPR 2015.

    Alone each bit wants to be 1; but A wants them to differ. The first is asked first: 1 - 3 speaks for -1.

    >>> descend(torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 3.0], [3.0, 1.0]]))
    tensor([[-2.,  5.]])
    """
    ones = torch.ones_like(pull)
    start = torch.where(pull > TIE, ones, -ones)
    push = push - torch.diag(push.diagonal())
    field = pull - start @ push
    bits, last = list(start.unbind(dim=1)), list(field.unbind(dim=1))
    for step in range(passes * len(bits)):
        k = step % len(bits)
        last[k] = field[:, k].clone()
        better = torch.where(last[k] < -TIE, -ones[:, k], torch.where(last[k] > TIE, ones[:, k], bits[k]))
        turned = (better != bits[k]).nonzero()[:, 0]  # few, after the first pass
        field[turned] -= (better - bits[k])[turned, None] * push[k]
        bits[k] = better
    return torch.stack(bits, dim=1) * torch.stack(last, dim=1).abs().clamp_min(1e-6)
