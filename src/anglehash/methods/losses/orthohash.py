r"""OrthoHash: one cosine classifier whose class vectors are fixed, binary and orthogonal."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anglehash.codes import check_bits
from anglehash.methods.checks import check_positive, choose
from anglehash.methods.losses import LOSSES
from anglehash.methods.losses.angular import EPSILON
from anglehash.methods.losses.centers import hash_centers
from anglehash.methods.losses.classification import soft_cross_entropy
from anglehash.methods.losses.labels import labelled
from anglehash.methods.losses.margins import MARGINS, choose_strength

MARGIN_NAMES = {"cosine": "cosface", "arc": "arcface"}  # the paper's word, and the one of margins.py


@LOSSES.register("orthohash")
class OrthoHashLoss(nn.Module):
    r"""OrthoHash: the cosine to the code of the class is classified, with a margin.

    .. math:: \ell = \mathrm{CE}(g(c),\; y / |y|), \quad c_j = \cos(h, o_j)

    with g(c) = s (c - m) (``cosine``) or s cos(theta + m) (``arc``) where j is a label, s c elsewhere. An image
    that is sure of its class points along a code, so nothing else is asked of quantization.

    Args:
        bits: length K of a code, 4..1024.
        classes: number of classes C, at least 2.
        margin: ``cosine`` or ``arc``.
        m: its strength; ``None`` is 0.2 of a cosine, or 0.2 radians.
        scale: s; ``None`` is sqrt(K), which is too little to become sure of one of many classes in few bits.
        centers: ``auto``, Hadamard rows if C <= 2K, or ``sampled`` (:func:`hash_centers`).
        seed: of the centres.

    Attributes:
        weight: ``(classes, bits)`` of -1 and 1, the o_j: a buffer in the ``state_dict``, not learned.

    Shape:
        - logits: ``(batch, bits)`` float, any scale: rows are normalised here.
        - labels: ``(batch,)`` class numbers, or ``(batch, classes)`` multi-hot: soft cross-entropy, with the
          margin on every label.
        - output: ``()``, the mean over images.

    Raises:
        ConfigError: a setting is unknown or out of range.
        DataError: when called: a shape or dtype does not fit, or an image has no label.

    Source:
        Hoe et al., "One Loss for All: Deep Hashing with a Single Cosine Similarity based Learning Objective",
        NeurIPS 2021, arXiv:2109.14449. Differs from it: rows of a Hadamard matrix, or far codes, where the
        paper takes Bernoulli ones; the batch normalisation of the logits is a setting of the head.

    Two classes at a right angle, an image on the first: cosines 1 and 0, s = 2, so
    log(1 + exp(-2 (1 - 0.2))).

    >>> loss = OrthoHashLoss(bits=4, classes=2)
    >>> round(loss(loss.weight[:1], torch.tensor([0])).item(), 4)
    0.1839
    """

    weight: Tensor

    def __init__(
        self,
        bits: int,
        classes: int,
        *,
        margin: str = "cosine",
        m: float | None = None,
        scale: float | None = None,
        centers: str = "auto",
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.bits, self.classes = check_bits(bits), classes
        self.margin = MARGIN_NAMES[choose("margin", margin, MARGIN_NAMES)]
        self.m = choose_strength(self.margin, m)
        hint = "or nothing, for sqrt(bits)"
        self.scale = math.sqrt(bits) if scale is None else check_positive("scale", scale, hint=hint)
        weight = torch.from_numpy(hash_centers(classes, bits, seed, kind=centers))
        self.register_buffer("weight", weight.float())

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The mean cross-entropy, a scalar."""
        z, positive = labelled(logits, labels, bits=self.bits, classes=self.classes)
        cosine = F.normalize(z, dim=1, eps=EPSILON) @ self.weight.to(z.dtype).T / math.sqrt(self.bits)
        held_back = MARGINS[self.margin].apply(cosine, self.m, 0.0)
        scores = self.scale * torch.where(positive, held_back, cosine)
        return soft_cross_entropy(scores, positive).mean()
