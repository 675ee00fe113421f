"""DTSH: an image nearer to those of its class than to any other, over all triplets of a batch."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from anglehash.codes import check_bits
from anglehash.methods.checks import check_classes, check_weight
from anglehash.methods.losses import LOSSES
from anglehash.methods.losses.similarity import read_batch, sign_gap, similarity, softplus

MOST_ENTRIES = 2**20  # of the table of (anchor, similar) x others: 4 MB, some 10 ms


@LOSSES.register("dtsh")
class DtshLoss(nn.Module):
    r"""Deep supervised hashing with triplet labels (DTSH): the likelihood of triplets, with a margin.

    Over all triplets (i, p, n) of the batch, p another image similar to i and n one that is not,
    :math:`\theta_{ij} = h_i \cdot h_j / 2`,

    .. math:: L = \operatorname{mean}_{i,p,n} \log(1 + e^{-(\theta_{ip} - \theta_{in} - \alpha)})
              + \lambda \operatorname{mean} (h - \operatorname{sgn} h)^2

    Args:
        bits: length K of a code, 4..1024.
        classes: number of classes, at least 2.
        alpha: margin, in units of theta; between codes, theta is K/2 less the Hamming distance, so alpha
            is a number of bits and p is asked to be nearer than n by that many.
        lambda_: weight of the quantization.

    Shape:
        - logits: ``(batch, bits)`` float.
        - labels: ``(batch,)`` class numbers, or ``(batch, classes)`` multi-hot.
        - output: ``()``. A batch without a triplet has the quantization only.

    Cost: a table of pairs (i, p) x n, of at most 2^20 numbers. That is every triplet of 128 images, if not more
    than half of all pairs are similar; else as many pairs (i, p) as fit are drawn out of torch's global
    generator, each with all its n.

    Raises:
        ConfigError: a setting is out of range.
        DataError: when called: a shape or dtype does not fit.

    Source:
        Wang et al., "Deep Supervised Hashing with Triplet Labels", ACCV 2016, arXiv:1612.03900. Differs from
        it: means in place of sums; all triplets of the batch.

    Two images of one class with one code, one of another class that differs in one bit of four: theta is 2
    and 1. The bit asked for is there, four more are not: log(1 + exp(-(2 - 1 - 5))) = 4.0181 both ways round.

    >>> codes = torch.tensor([[1.0, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, -1]])
    >>> round(DtshLoss(bits=4, classes=2)(codes, torch.tensor([0, 0, 1])).item(), 4)
    4.0181
    """

    def __init__(self, bits: int, classes: int, *, alpha: float = 5.0, lambda_: float = 1.0) -> None:
        super().__init__()
        self.bits, self.classes = check_bits(bits), check_classes(classes)
        self.alpha = check_weight("alpha", alpha)
        self.lambda_ = check_weight("lambda_", lambda_)

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss, a scalar."""
        h, positive = read_batch(logits, labels, self.bits, self.classes)
        theta, similar = h @ h.T / 2, similarity(positive)
        anchor, near = _pairs(similar)
        others = theta.masked_fill(similar, -torch.inf)  # softplus(-inf) = 0: those are no triplets
        each = softplus(others.index_select(0, anchor) - (theta[anchor, near] - self.alpha)[:, None])
        triplets = (~similar).sum(dim=1)[anchor].sum()
        return each.sum() / triplets.clamp_min(1) + self.lambda_ * sign_gap(h)


def _pairs(similar: Tensor) -> tuple[Tensor, Tensor]:
    """Pairs of different, similar images, as many as fit."""
    images = len(similar)
    pairs = similar.clone().fill_diagonal_(False).nonzero()
    most = MOST_ENTRIES // images
    if len(pairs) > most:
        pairs = pairs[torch.randperm(len(pairs), device=pairs.device)[:most]]
    anchor, near = pairs.unbind(dim=1)
    return anchor, near
