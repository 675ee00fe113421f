"""Losses over pairs of images: similar ones near each other, others apart, and logits near -1 or +1."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anglehash.codes import check_bits
from anglehash.methods.checks import check_classes, check_weight
from anglehash.methods.losses import LOSSES
from anglehash.methods.losses.reference import Reference
from anglehash.methods.losses.similarity import (
    balanced,
    distinct_pairs,
    likelihood,
    log_cosh,
    read_batch,
    sign_gap,
    similarity,
)


@LOSSES.register("dsh")
class DshLoss(nn.Module):
    r"""Deep supervised hashing (DSH): a contrastive loss with a margin, and logits drawn to -1 or +1.

    With :math:`d_{ij} = |h_i - h_j|^2`, over the distinct pairs of the batch,

    .. math:: L = \operatorname{mean}_{i<j} \tfrac12 \big(s_{ij}\,d_{ij} + (1 - s_{ij}) \max(m - d_{ij}, 0)\big)
              + 2 \alpha \operatorname{mean}_i \big\||h_i| - 1\big\|_1

    Args:
        bits: length K of a code, 4..1024.
        classes: number of classes, at least 2.
        margin: m / K, so that one setting serves every length. At 2, two codes that differ in half their
            bits, 4 a bit, are far enough.
        alpha: weight of the pull of each logit to -1 or +1; the 1-norm is the sum over bits, and counts
            twice since a pair has two images.

    Shape:
        - logits: ``(batch, bits)`` float.
        - labels: ``(batch,)`` class numbers, or ``(batch, classes)`` multi-hot.
        - output: ``()``. A batch of one image has no pair: only the pull is left.

    A dissimilar pair already past the margin has no gradient but that of the pull.

    Raises:
        ConfigError: a setting is out of range.
        DataError: when called: a shape or dtype does not fit.

    Source:
        Liu et al., "Deep Supervised Hashing for Fast Image Retrieval", CVPR 2016. Differs from it: the mean
        over pairs in place of the sum.

    Two dissimilar images that differ in one of four bits: d = 4, m = 8, so (8 - 4) / 2. Similar: 4 / 2. In
    the second, one logit is 3: d = 16 is past the margin, and 2 * .01 * (2 + 0) / 2 is left.

    >>> loss, labels = DshLoss(bits=4, classes=2), torch.tensor([0, 1])
    >>> pair = torch.tensor([[1.0, 1, 1, 1], [1, 1, 1, -1]])
    >>> loss(pair, labels).item(), loss(pair, labels * 0).item()
    (2.0, 2.0)
    >>> pair[0, 3] = 3
    >>> round(loss(pair, labels).item(), 4)
    0.02
    """

    def __init__(self, bits: int, classes: int, *, margin: float = 2.0, alpha: float = 0.01) -> None:
        super().__init__()
        self.bits, self.classes = check_bits(bits), check_classes(classes)
        self.margin = check_weight("margin", margin) * bits
        self.alpha = check_weight("alpha", alpha)

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss, a scalar."""
        h, positive = read_batch(logits, labels, self.bits, self.classes)
        i, j = distinct_pairs(len(h), h.device)
        squares = h.square().sum(dim=1)
        distance = (squares[:, None] + squares - 2 * h @ h.T)[i, j]
        each = torch.where(similarity(positive)[i, j], distance, F.relu(self.margin - distance)) / 2
        pull = (h.abs() - 1).abs().sum(dim=1).mean()
        return each.sum() / max(len(i), 1) + 2 * self.alpha * pull


@LOSSES.register("dpsh")
class DpshLoss(nn.Module):
    r"""Deep pairwise-supervised hashing (DPSH): the likelihood of pairs, against all training images.

    .. math:: L = \operatorname{mean}_{i,r} \big(\log(1 + e^{\theta_{ir}}) - s_{ir} \theta_{ir}\big)
              + \eta \operatorname{mean} (h - \operatorname{sgn} h)^2, \quad \theta_{ir} = h_i \cdot u_r / 2

    i runs over the batch, r over the last logits u of the training images (``reference.py``), never i itself.

    Args:
        bits: length K of a code, 4..1024.
        classes: number of classes, at least 2.
        eta: weight of the quantization.
        reference: most training images that a step is compared with, drawn at random at each; 0 is all.

    Shape:
        - logits: ``(batch, bits)`` float.
        - labels: ``(batch,)`` class numbers, or ``(batch, classes)`` multi-hot.
        - output: ``()``. Without :meth:`remember` and :meth:`set_rows` the batch is its own reference.

    Raises:
        ConfigError: a setting is out of range.
        DataError: when called: a shape or dtype does not fit, or the rows are not those of the batch.

    Source:
        Li et al., "Feature Learning based Deep Supervised Hashing with Pairwise Labels", IJCAI 2016,
        arXiv:1511.03855. Differs from it: means in place of sums (so its eta of 10 to 100 is none for us);
        no image is paired with itself; images not visited yet are left out; and the gradient counts each
        pair of batch and reference once, not in both orders.

    One dissimilar pair, theta = 1/2 * (2 - 1 + 1 + 1): log(1 + exp(1.5)) = 1.7014. One logit of eight is off
    its sign, by 1: .1 / 8.

    >>> loss = DpshLoss(bits=4, classes=2)
    >>> round(loss(torch.tensor([[2.0, 1, 1, 1], [1, -1, 1, 1]]), torch.tensor([0, 1])).item(), 4)
    1.7139
    """

    def __init__(self, bits: int, classes: int, *, eta: float = 0.1, reference: int = 2000) -> None:
        super().__init__()
        self.bits, self.classes = check_bits(bits), check_classes(classes)
        self.eta = check_weight("eta", eta)
        self.reference = Reference(self.bits, reference)

    def remember(self, labels: Tensor) -> None:
        """Make room for the logits of all training images; see :mod:`anglehash.methods.losses`."""
        self.reference.remember(labels)

    def set_rows(self, rows: Tensor) -> None:
        """Say which training images the next batch holds."""
        self.reference.set_rows(rows)

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss, a scalar."""
        h, positive = read_batch(logits, labels, self.bits, self.classes)
        pairs: Tensor = self.reference(h, positive)
        return pairs + self.eta * sign_gap(h)


@LOSSES.register("dhn")
class DhnLoss(nn.Module):
    r"""Deep hashing network (DHN): weighted likelihood of pairs, and a smooth pull to -1 or +1.

    Over the distinct pairs of the batch, S1 of them similar and S0 not, :math:`\theta_{ij} = h_i \cdot h_j / 2`,

    .. math:: L = \operatorname{mean}_{i<j} w_{ij} \big(\log(1 + e^{\theta_{ij}}) - s_{ij} \theta_{ij}\big)
              + \lambda \operatorname{mean} \log\cosh(|h| - 1)

    with w = S/S1 for a similar pair and S/S0 for another, S = S1 + S0: both kinds weigh the same.

    Args:
        bits: length K of a code, 4..1024.
        classes: number of classes, at least 2.
        lambda_: weight of the quantization.

    Shape:
        - logits: ``(batch, bits)`` float.
        - labels: ``(batch,)`` class numbers, or ``(batch, classes)`` multi-hot.
        - output: ``()``. A kind of pair that is absent adds 0.

    Raises:
        ConfigError: a setting is out of range.
        DataError: when called: a shape or dtype does not fit.

    Source:
        Zhu et al., "Deep Hashing Network for Efficient Similarity Retrieval", AAAI 2016. Differs from it:
        the weights w, which came with HashNet; half the inner product, as in DPSH; means in place of sums.

    One dissimilar pair, theta = 1/2 * (2 - 1 + 1 + 1): log(1 + exp(1.5)) = 1.7014. One logit of eight is off
    by 1: .1 * log(cosh(1)) / 8 = .0054.

    >>> loss = DhnLoss(bits=4, classes=2)
    >>> round(loss(torch.tensor([[2.0, 1, 1, 1], [1, -1, 1, 1]]), torch.tensor([0, 1])).item(), 4)
    1.7068
    """

    def __init__(self, bits: int, classes: int, *, lambda_: float = 0.1) -> None:
        super().__init__()
        self.bits, self.classes = check_bits(bits), check_classes(classes)
        self.lambda_ = check_weight("lambda_", lambda_)

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss, a scalar."""
        h, positive = read_batch(logits, labels, self.bits, self.classes)
        i, j = distinct_pairs(len(h), h.device)
        similar = similarity(positive)[i, j]
        pairs = balanced(likelihood((h @ h.T / 2)[i, j], similar), similar)
        return pairs + self.lambda_ * log_cosh(h.abs() - 1).mean()
