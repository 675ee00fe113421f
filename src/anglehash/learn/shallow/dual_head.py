"""The head of dual posterior codes; what it is for, and how it is learned: :mod:`.posterior_dual`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

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

    With l the mean over classifiers of the log-odds, an item's code is the first bits of what :func:`descend` finds:

    .. math:: \min_b b^T A b - 2\, (W^T t + v) \cdot b, \qquad t = \mathrm{softmax}(\tau\, l)

    which fits the inner products with the codes of the classes to t, and a query's logits are
    :math:`q = \sum_j a_j m_j` with :math:`a = \mathrm{softmax}(\alpha\, l)`. Then the bits that keep the features.

    Args:
        pull_weight: ``(classes, searched)``, W.
        pull_bias: ``(searched,)``, v.
        push: ``(searched, searched)``, A, symmetric.
        class_codes: ``(classes, bits)``, of -1 and 1; bits <= searched.
        query_weight: ``(classes, bits)``, m.
        item_power: ``()``, tau.
        query_power: ``()``, alpha.
        panel: the classifiers, and the bits that keep the features: see
            :class:`~anglehash.learn.shallow.panel.Panel`.

    Shape:
        - features: ``(batch, width)`` float.
        - output: ``(batch, bits + kept)`` logits, of items; with those of queries by :meth:`sides`.

    Raises:
        ModelError: the tensors do not fit together.
    """

    kind: ClassVar[str] = "posterior-dual"

    def __init__(
        self,
        *,
        pull_weight: Tensor,
        pull_bias: Tensor,
        push: Tensor,
        class_codes: Tensor,
        query_weight: Tensor,
        item_power: Tensor,
        query_power: Tensor,
        **panel: Tensor,
    ) -> None:
        super().__init__(**panel)
        searched, self.bits = len(pull_bias), min(class_codes.shape[-1], len(pull_bias))
        self.pull_weight = buffer(self, "pull_weight", pull_weight, self.classes, searched)
        self.pull_bias = buffer(self, "pull_bias", pull_bias, searched)
        self.push = buffer(self, "push", push, searched, searched)
        self.class_codes = buffer(self, "class_codes", class_codes, self.classes, self.bits)
        self.query_weight = buffer(self, "query_weight", query_weight, self.classes, self.bits)
        self.item_power = buffer(self, "item_power", item_power)
        self.query_power = buffer(self, "query_power", query_power)
        self.eval()

    def shortened(self, bits: int) -> DualHead:
        """The head of the first bits alone; the others are still searched, for they take part in the choice."""
        state = self.own_state()
        cut = {name: state[name][:, :bits] for name in ("class_codes", "query_weight")}
        return DualHead(**(state | cut))

    def forward(self, features: Tensor) -> Tensor:
        """Logits of a batch of items by their features: the signs are their codes."""
        return self.sides(features)[0]

    def sides(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of a batch by its features, as items and as queries, ``(batch, bits + kept)`` both."""
        judged = self.judged(features)
        items, queries = descend(self.pull(judged), self.push)[:, : self.bits], self.asking(judged)
        if not self.kept:
            return items, queries
        kept = self.keeping(features)
        return torch.cat([items, kept], dim=1), torch.cat([queries, kept], dim=1)

    def judged(self, features: Tensor) -> Tensor:
        """l, ``(batch, classes)``."""
        return self.log_odds(features).mean(dim=0)

    def pull(self, judged: Tensor) -> Tensor:
        """What speaks for each bit of a batch of items, of which l is ``judged``, as :func:`descend` takes it."""
        return torch.softmax(self.item_power * judged, dim=1) @ self.pull_weight + self.pull_bias

    def asking(self, judged: Tensor) -> Tensor:
        """Logits of a batch of queries, of which l is ``judged``."""
        return torch.softmax(self.query_power * judged, dim=1) @ self.query_weight


class Line(NamedTuple):
    """What an inner product of the first ``length`` bits says: ``slope`` times it, and ``offset``, both ``()``."""

    length: int
    slope: Tensor
    offset: Tensor


def fit(wanted: Tensor, others: Tensor, share: Tensor, lines: Sequence[Line]) -> tuple[Tensor, Tensor]:
    r"""The fit of inner products with other codes, as :func:`descend` takes it.

    .. math:: \sum_L \sum_j \pi_j (s_L\, b_L \cdot c_{jL} + o_L - t_j)^2
              = b^T A b - 2 h \cdot b + \text{a constant}

    with b_L the first L bits of b. Of one line, of all bits:

    .. math:: A = s^2 \sum_j \pi_j c_j c_j^T, \qquad h = s \sum_j \pi_j (t_j - o)\, c_j

    Args:
        wanted: ``(n, others)``, t.
        others: ``(others, bits)``, c.
        share: ``(others,)``, pi.
        lines: L, s and o.

    Returns:
        h ``(n, bits)`` and A ``(bits, bits)``.
    """
    bits = others.shape[1]
    pull, push = wanted.new_zeros(len(wanted), bits), wanted.new_zeros(bits, bits)
    for length, slope, offset in lines:
        weighted = slope * share[:, None] * others[:, :length]
        pull[:, :length] += (wanted - offset) @ weighted
        push[:length, :length] += slope * weighted.T @ others[:, :length]
    return pull, push


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
