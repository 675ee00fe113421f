r"""HyP2: learned proxies of the classes, and a push between images of several labels that share none."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anglehash.codes import check_bits
from anglehash.errors import ConfigError
from anglehash.methods.checks import check_classes, check_weight, is_number
from anglehash.methods.losses import LOSSES
from anglehash.methods.losses.angular import EPSILON
from anglehash.methods.losses.bounds import largest_distance
from anglehash.methods.losses.labels import labelled
from anglehash.methods.losses.similarity import similarity


@LOSSES.register("hyp2")
class HybridProxyLoss(nn.Module):
    r"""HyP2, hybrid proxy-pair loss: images come to the proxies of their classes and stay away from others.

    With the cosines :math:`c_{ij}` between image i and proxy j, and :math:`p_{ik}` between two images,

    .. math:: \ell = \mathrm{mean}_{j \in Y_i} (1 - c_{ij})
              + \mathrm{mean}_{j \notin Y_i} \max(c_{ij} - \zeta, 0)
              + \beta\,\mathrm{mean}_{ik} \max(p_{ik} - \zeta, 0)

    each a mean over pairs of the batch, 0 where it has none: (image, own class), (image, other class), and
    pairs of images that have two labels or more each and share none. The last is 0 on a set of single labels.

    :math:`\zeta = 1 - 2d/K` is the cosine of two codes at Hamming distance d, the largest that C codes of K
    bits can all have from each other by :func:`largest_distance`: exact for C <= 2K if K is a multiple of 4,
    an upper bound beyond.

    Args:
        bits: length K of a code, 4..1024.
        classes: number of classes C, at least 2.
        beta: weight of the pairs of images.
        zeta: the cosine from which on others are pushed away, in [-1, 1]; ``None`` is the rule above.

    Attributes:
        weight: ``(classes, bits)``, the proxies, learned; only their directions matter. They start as uniformly
            random directions out of torch's global generator.

    Shape:
        - logits: ``(batch, bits)`` float, any scale: rows are normalised here.
        - labels: ``(batch,)`` class numbers, or ``(batch, classes)`` multi-hot.
        - output: ``()``.

    Raises:
        ConfigError: a setting is out of range.
        DataError: when called: a shape or dtype does not fit, or an image has no label.

    Source:
        Xu et al., "HyP2 Loss: Beyond Hypersphere Metric Space for Multi-label Image Retrieval", ACM Multimedia
        2022, arXiv:2208.06866. Differs from it: d comes from a bound, where the paper looks it up in a table
        of linear codes of ceil(log2 C) dimensions.

    Two classes, so d = K and zeta = -1. An image at its proxy, the other at a right angle: 0 + (0 + 1).

    >>> loss = HybridProxyLoss(bits=4, classes=2)
    >>> _ = loss.weight.data.copy_(torch.tensor([[1.0, 0, 0, 0], [0, 1, 0, 0]]))
    >>> loss.zeta, loss(torch.tensor([[3.0, 0, 0, 0]]), torch.tensor([0])).item()
    (-1.0, 1.0)
    """

    def __init__(self, bits: int, classes: int, *, beta: float = 0.5, zeta: float | None = None) -> None:
        super().__init__()
        self.bits, self.classes = check_bits(bits), check_classes(classes)
        self.beta = check_weight("beta", beta)
        self.zeta = 1 - 2 * largest_distance(classes, bits) / bits if zeta is None else zeta
        if not is_number(self.zeta) or not -1 <= self.zeta <= 1:
            raise ConfigError(
                f"zeta is a cosine in [-1, 1], or nothing for the largest distance, got {zeta!r}"
            )
        self.weight = nn.Parameter(torch.randn(classes, bits) / math.sqrt(bits))

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The whole loss, a scalar."""
        z, positive = labelled(logits, labels, bits=self.bits, classes=self.classes)
        image = F.normalize(z, dim=1, eps=EPSILON)
        proxy = F.normalize(self.weight.to(z.dtype), dim=1, eps=EPSILON)
        cosine = image @ proxy.T
        near, far = _mean(1 - cosine, positive), _mean(F.relu(cosine - self.zeta), ~positive)
        return near + far + self.beta * self.irrelevant(image, positive)

    def irrelevant(self, image: Tensor, positive: Tensor) -> Tensor:
        """The push between images of several labels that share none, a scalar; ``image`` holds unit rows."""
        several = positive.sum(dim=1) > 1
        cosine = image[several] @ image[several].T
        return _mean(F.relu(cosine - self.zeta), ~similarity(positive[several]))


def _mean(values: Tensor, where: Tensor) -> Tensor:
    """The mean of the values where ``where`` is True, 0 if it is nowhere."""
    return (values * where).sum() / where.sum().clamp_min(1)
