"""DSDH: codes that a linear classifier likes, found bit by bit, and logits drawn to them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from anglehash.codes import check_bits
from anglehash.errors import ConfigError
from anglehash.methods.checks import check_classes, check_weight, check_whole
from anglehash.methods.losses import LOSSES
from anglehash.methods.losses.reference import Reference
from anglehash.methods.losses.similarity import read_batch, sgn


def fit_classifier(codes: Tensor, labels: Tensor, ridge: float) -> Tensor:
    """The linear classifier of codes, by ridge regression: (B'B + ridge I)^-1 B'Y.

    Args:
        codes: B, ``(n, bits)`` of -1 and +1.
        labels: Y, ``(n, classes)`` of 0 and 1, float.
        ridge: > 0.

    Returns:
        W, ``(bits, classes)``; B W is near Y.

    One bit, two images of opposite codes, only the first in the class: 1 / (2 + 2).

    >>> fit_classifier(torch.tensor([[1.0], [-1.0]]), torch.tensor([[1.0], [0.0]]), ridge=2.0).tolist()
    [[0.25]]
    """
    gram = codes.T @ codes
    gram.diagonal().add_(ridge)
    classifier: Tensor = torch.linalg.solve(gram, codes.T @ labels)
    return classifier


def improve_codes(codes: Tensor, classifier: Tensor, labels: Tensor, pull: Tensor) -> Tensor:
    r"""One round of discrete cyclic coordinate descent: each bit of all images set to its best value in turn.

    .. math:: \min_{B \in \{-1, 1\}} |Y - B W|^2 + |B - P|^2

    With all other bits held, the best column is sgn(Y w_k + p_k - sum of B_l (w_l . w_k) over l other than
    k); where that is 0 either is best, and the bit stays. So the objective never rises.

    Args:
        codes: B to start from, ``(n, bits)`` of -1 and +1.
        classifier: W, ``(bits, classes)``.
        labels: Y, ``(n, classes)``, float.
        pull: P, ``(n, bits)``: what else the codes should be near to.

    Returns:
        The new B.

    W = (1, 1) on two bits, an image of the class (1), nothing pulls: bit 1 is +1 if B_2 W_2 = -1 leaves 2 to
    fill, and then 1 - 1 = 0 is left for bit 2, which stays.

    >>> improve_codes(torch.tensor([[-1.0, -1.0]]), torch.ones(2, 1), torch.ones(1, 1), torch.zeros(1, 2))
    tensor([[ 1., -1.]])
    """
    columns = codes.T.contiguous()  # a bit of all images is then one stretch of memory
    wanted = classifier @ labels.T + pull.T
    gram = classifier @ classifier.T
    for k in range(len(columns)):
        rest = gram[k].clone()
        rest[k] = 0
        score = wanted[k] - rest @ columns
        columns[k] = torch.where(score == 0, columns[k], sgn(score))
    return columns.T.contiguous()


@LOSSES.register("dsdh")
class DsdhLoss(nn.Module):
    r"""Deep supervised discrete hashing (DSDH): pairs, and codes B that a linear classifier W can read.

    .. math:: L = \operatorname{mean}_{i,r} \big(\log(1 + e^{\theta_{ir}}) - s_{ir} \theta_{ir}\big)
              + \eta \operatorname{mean} (h - b)^2, \quad \theta_{ir} = h_i \cdot u_r / 2

    The pairs are those of DPSH (``reference.py``). After each pass over the training images B and W are
    found for their last logits H and labels Y, by turns,

    .. math:: \min_{W,\,B \in \{-1, 1\}} \mu |Y - B W|^2 + \nu |W|^2 + \eta |B - H|^2

    W in closed form, B bit by bit. In the first pass, b = sgn h.

    Args:
        bits: length K of a code, 4..1024.
        classes: number of classes, at least 2.
        mu: weight of the classifier, > 0; only nu/mu and eta/mu matter.
        nu: weight of its size, > 0.
        eta: weight of the quantization, in both places.
        rounds: turns of W and B after a pass.
        reference: most training images that a step is compared with, drawn at random at each; 0 is all.

    Attributes:
        codes: ``(n, bits)`` int8, B; 0 before the first pass is over. There after :meth:`remember`.

    Shape:
        - logits: ``(batch, bits)`` float.
        - labels: ``(batch,)`` class numbers, or ``(batch, classes)`` multi-hot.
        - output: ``()``. Without :meth:`remember` and :meth:`set_rows` the batch is all there is, in each
          call: its pairs, and B and W of its images.

    Raises:
        ConfigError: a setting is out of range.
        DataError: when called: a shape or dtype does not fit, or the rows are not those of the batch.

    Source:
        Li et al., "Deep Supervised Discrete Hashing", NeurIPS 2017, arXiv:1705.10999. Differs from it: what
        DPSH says of pairs; in the loss (not in the search for B and W) means in place of sums.

    Alone in its batch an image has no pair. B starts as (1, 1, 1, 1), its signs, and stays: W is small, and
    every logit pulls its bit. So .01 * (1 + 0 + 0 + 0) / 4.

    >>> round(DsdhLoss(bits=4, classes=2)(torch.tensor([[2.0, 1, 1, 1]]), torch.tensor([0])).item(), 6)
    0.0025
    """

    codes: Tensor
    visited: Tensor

    def __init__(
        self,
        bits: int,
        classes: int,
        *,
        mu: float = 0.01,
        nu: float = 1.0,
        eta: float = 0.01,
        rounds: int = 3,
        reference: int = 2000,
    ) -> None:
        super().__init__()
        self.bits, self.classes = check_bits(bits), check_classes(classes)
        self.mu, self.nu = check_weight("mu", mu), check_weight("nu", nu)
        if not (self.mu > 0 and self.nu > 0):
            raise ConfigError(f"mu and nu must be > 0 (the classifier is a ridge regression), got {mu}, {nu}")
        self.eta = check_weight("eta", eta)
        self.rounds = check_whole("rounds", rounds)
        self.reference = Reference(self.bits, reference)

    def remember(self, labels: Tensor) -> None:
        """Make room for logits and codes of all training images; see :mod:`anglehash.methods.losses`."""
        self.reference.remember(labels)
        empty = torch.zeros(len(labels), self.bits, dtype=torch.int8, device=labels.device)
        self.register_buffer("codes", empty)
        self.register_buffer("visited", torch.zeros((), dtype=torch.int64, device=labels.device))

    def set_rows(self, rows: Tensor) -> None:
        """Say which training images the next batch holds."""
        self.reference.set_rows(rows)

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss, a scalar."""
        h, positive = read_batch(logits, labels, self.bits, self.classes)
        rows = self.reference.rows
        pairs: Tensor = self.reference(h, positive)
        if rows is None:
            codes = self.solve(sgn(h.detach()), h.detach(), positive)
        else:
            codes = self.codes[rows].to(h.dtype)
            codes = torch.where(codes == 0, sgn(h.detach()), codes)
            self._count(len(rows))
        return pairs + self.eta * (h - codes).square().mean()

    def solve(self, codes: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
        """B for these logits and multi-hot labels, from where it stands: turns of W and B."""
        hot = labels.to(logits.dtype)
        for _ in range(self.rounds):
            classifier = fit_classifier(codes, hot, self.nu / self.mu)
            codes = improve_codes(codes, classifier, hot, self.eta / self.mu * logits)
        return codes

    def _count(self, images: int) -> None:
        """After as many visits as there are training images, recompute B and W."""
        self.visited += images
        if self.visited < len(self.codes):
            return
        self.visited.zero_()
        logits = self.reference.logits
        start = torch.where(self.codes == 0, sgn(logits), self.codes.to(logits.dtype))
        self.codes.copy_(self.solve(start, logits, self.reference.labels))
