r"""Losses that draw each bit of an image to the bit of a fixed centre: ``csq`` and ``dpn``.

The centres are the codes of ``centers.py``. They are buffers, not learned, and travel in the ``state_dict``.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anglehash.codes import check_bits
from anglehash.methods.checks import check_positive, check_weight, choose
from anglehash.methods.losses import LOSSES
from anglehash.methods.losses.centers import SIGNS, hash_centers
from anglehash.methods.losses.labels import labelled
from anglehash.methods.losses.similarity import log_cosh


def majority(positive: Tensor, centers: Tensor, tie: Tensor) -> Tensor:
    """The code that each image is drawn to: bit by bit what most of the centres of its labels hold.

    Args:
        positive: ``(batch, classes)`` bool, no row empty.
        centers: ``(classes, bits)`` of -1 and 1.
        tie: ``(bits,)`` of -1 and 1, taken where as many centres hold one as the other.

    Returns:
        ``(batch, bits)`` of -1 and 1.

    Two centres that agree in the first bit only:

    >>> centers = torch.tensor([[1.0, 1, -1], [1, -1, 1]])
    >>> both, tie = torch.tensor([[True, True]]), torch.tensor([-1.0, -1, 1])
    >>> majority(both, centers, tie).tolist()
    [[1.0, -1.0, 1.0]]
    """
    votes = positive.to(centers.dtype) @ centers  # whole numbers, exact
    return torch.where(votes == 0, tie, votes.sign())


class CenteredLoss(nn.Module):
    """What ``csq`` and ``dpn`` share: fixed centres, and the code that an image is drawn to."""

    weight: Tensor
    tie: Tensor

    def __init__(self, bits: int, classes: int, *, centers: str, seed: int) -> None:
        super().__init__()
        self.bits, self.classes = check_bits(bits), classes
        weight = torch.from_numpy(hash_centers(classes, bits, seed, kind=centers))
        tie = torch.from_numpy(np.random.default_rng([seed, 1]).choice(SIGNS, bits))
        self.register_buffer("weight", weight.float())
        self.register_buffer("tie", tie.float())

    def batch(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Logits, and the code that each image is drawn to, both ``(batch, bits)``.

        Raises:
            DataError: a shape or dtype does not fit, or an image has no label.
        """
        z, positive = labelled(logits, labels, bits=self.bits, classes=self.classes)
        return z, majority(positive, self.weight, self.tie).to(z.dtype)


def square(soft: Tensor) -> Tensor:
    """(abs(t) - 1)^2."""
    return (soft.abs() - 1).square()


def smooth(soft: Tensor) -> Tensor:
    """Log cosh(abs(t) - 1), smooth where abs(t) is 1."""
    return log_cosh(soft.abs() - 1)


QUANTIZATION = {"square": square, "log_cosh": smooth}


@LOSSES.register("csq")
class CentralSimilarityLoss(CenteredLoss):
    r"""Central similarity quantization (CSQ): each bit is classified as the bit of the image's centre.

    With :math:`t = \tanh h` and the centre c,

    .. math:: \ell = \frac1K \sum_k \mathrm{BCE}\Big(\frac{t_k + 1}{2}, \frac{c_k + 1}{2}\Big)
              + \gamma\,\frac1K \sum_k q(t_k)

    The first term is :math:`\log(1 + e^{-2 h_k c_k})`, and computed so: tanh cannot saturate it.

    Args:
        bits: length K of a code, 4..1024.
        classes: number of classes C, at least 2.
        gamma: weight of the quantization, lambda in the paper, whose program uses 1e-4.
        quantization: q: ``log_cosh``, log cosh(abs(t) - 1), the paper's; ``square``, (abs(t) - 1)^2, that of
            its program.
        centers: ``auto``, Hadamard rows if C <= 2K, or ``sampled`` (:func:`hash_centers`).
        seed: of the centres and of the vector that breaks ties.

    Attributes:
        weight: ``(classes, bits)`` of -1 and 1, the centres: a buffer, not learned.
        tie: ``(bits,)`` of -1 and 1, a buffer.

    Shape:
        - logits: ``(batch, bits)`` float, before tanh.
        - labels: ``(batch,)`` class numbers, or ``(batch, classes)`` multi-hot: an image is drawn to the
          majority of the centres of its labels, ties broken by ``tie``, the same for all images.
        - output: ``()``, the mean over images.

    Raises:
        ConfigError: a setting is unknown or out of range.
        DataError: when called: a shape or dtype does not fit, or an image has no label.

    Source:
        Yuan et al., "Central Similarity Quantization for Efficient Image and Video Retrieval", CVPR 2020.
        Differs from it: rows of the Hadamard matrix are drawn at random and with random signs, so that all
        bits differ; other centres have a greater minimum distance than Bernoulli ones; ties are broken by
        one fixed vector, not again at each visit.

    At h = 0: log 2, and log cosh 1 = 0.4338 a bit.

    >>> import math
    >>> loss = CentralSimilarityLoss(bits=4, classes=2, gamma=1.0)
    >>> round(loss(torch.zeros(1, 4), torch.tensor([0])).item() - math.log(2), 4)
    0.4338
    """

    def __init__(
        self,
        bits: int,
        classes: int,
        *,
        gamma: float = 1e-3,
        quantization: str = "log_cosh",
        centers: str = "auto",
        seed: int = 0,
    ) -> None:
        super().__init__(bits, classes, centers=centers, seed=seed)
        self.gamma = check_weight("gamma", gamma)
        self.quantization = choose("quantization", quantization, QUANTIZATION)

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Agreement with the centres and quantization, a scalar."""
        z, center = self.batch(logits, labels)
        agreement = F.softplus(-2 * z * center)
        return (agreement + self.gamma * QUANTIZATION[self.quantization](torch.tanh(z))).mean()


@LOSSES.register("dpn")
class PolarizedLoss(CenteredLoss):
    r"""Deep polarized network (DPN): each logit has the sign of its centre's bit, by a margin.

    .. math:: \ell = \sum_k \max(m - h_k c_k,\; 0)

    A logit that has its sign by the margin gets no gradient.

    Args:
        bits: length K of a code, 4..1024.
        classes: number of classes C, at least 2.
        m: the margin, > 0.
        centers: ``sampled``, or ``auto``, Hadamard rows if C <= 2K (:func:`hash_centers`).
        seed: of the centres and of the vector that breaks ties.

    Attributes:
        weight: ``(classes, bits)`` of -1 and 1, the centres: a buffer, not learned.
        tie: ``(bits,)`` of -1 and 1, a buffer.

    Shape:
        - logits: ``(batch, bits)`` float, no tanh before.
        - labels: ``(batch,)`` class numbers, or ``(batch, classes)`` multi-hot: an image is drawn to the
          majority of the centres of its labels, ties broken by ``tie``, the same for all images.
        - output: ``()``, a sum over bits, the mean over images.

    Raises:
        ConfigError: a setting is unknown or out of range.
        DataError: when called: a shape or dtype does not fit, or an image has no label.

    Source:
        Fan et al., "Deep Polarized Network for Supervised Learning of Accurate Binary Hashing Codes", IJCAI
        2020. Differs from it: its centres are plain Bernoulli(.5) codes, ours are the farthest of many; its
        variant that moves the centres while training is left out.

    Logits of half the margin, all on the right side: 4 times 1/2.

    >>> loss = PolarizedLoss(bits=4, classes=2)
    >>> loss(loss.weight[:1] / 2, torch.tensor([0])).item()
    2.0
    """

    def __init__(
        self, bits: int, classes: int, *, m: float = 1.0, centers: str = "sampled", seed: int = 0
    ) -> None:
        super().__init__(bits, classes, centers=centers, seed=seed)
        self.m = check_positive("m", m, hint="the margin of a logit")

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The missing margins, summed over bits, a scalar."""
        z, center = self.batch(logits, labels)
        return F.relu(self.m - z * center).sum(dim=1).mean()
