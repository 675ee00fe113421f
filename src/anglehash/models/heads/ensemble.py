r"""Several networks, one code: the mean of their logits, each at unit length.

Each network learns from a seed of its own, and bits mean other things in each. So the logits of every other network
are first rotated as near to those of the first as they can be; angles between images stay what they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from anglehash.models.heads.buffers import buffer, tensors
from anglehash.models.heads.hash_head import logits_of, unit


class EnsembleHead(nn.Module):
    r"""The heads of some networks: :math:`\frac1N \sum_i R_i\, z_i / |z_i|`.

    Args:
        heads: features to the logits :math:`z_i`, ``(batch, bits)`` each.
        rotations: ``(heads, bits, bits)``, R.

    Shape:
        - features: ``(batch, width)`` float.
        - output: ``(batch, bits)`` logits.

    Raises:
        ModelError: the tensors do not fit together.
    """

    kind: ClassVar[str] = "ensemble"

    def __init__(self, heads: Sequence[nn.Module], *, rotations: Tensor) -> None:
        super().__init__()
        self.heads = nn.ModuleList(heads)
        bits = rotations.shape[-1]
        self.rotations = buffer(self, "rotations", rotations, len(heads), bits, bits)
        self.eval()

    def forward(self, features: Tensor) -> Tensor:
        """Logits of a batch of features."""
        return self.of_logits([head(features) for head in self.heads])

    def of_logits(self, logits: Sequence[Tensor]) -> Tensor:
        """The mean of what each network gives, ``(batch, bits)`` each."""
        turned = [unit(own) @ rotation.T for own, rotation in zip(logits, self.rotations, strict=True)]
        return torch.stack(turned).mean(dim=0)


def ensemble_of(heads: Sequence[nn.Module], features: NDArray[np.float32]) -> EnsembleHead:
    r"""Heads that learned from the same images, with the rotations that bring their logits together.

    :math:`R_i = \arg\min_R \sum_n |R\,u_{in} - u_{1n}|^2` over rotations and reflections, with u the logits of the
    training images at unit length.

    Args:
        heads: one or more learned heads.
        features: ``(n, width)`` of the training images.

    Source:
        Schoenemann, "A generalized solution of the orthogonal Procrustes problem", Psychometrika 31:1-10, 1966.
    """
    units = [
        F.normalize(torch.from_numpy(logits_of(head, features)).double(), dim=1).numpy() for head in heads
    ]
    rotations = []
    for own in units:
        left, _, right = np.linalg.svd(units[0].T @ own)
        rotations.append(left @ right)
    rotations[0] = np.eye(units[0].shape[1])  # its own bits, also where it leaves some unused
    return EnsembleHead(heads, **tensors(rotations=np.stack(rotations)))
