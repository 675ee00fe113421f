r"""Likeness: one code that knows the class and keeps what a picture looks like.

A hash layer alone is a look-up of classes: inside a class its codes are in no order. Here a code is made of two
unit vectors, the hash layer's logits z and the centred features f of the backbone, so that inner products are

.. math:: k(i, j) = \cos(z_i, z_j) + \ell^2 \cos(f_i, f_j)

with the dial :math:`\ell`: 0 is the method's own code, and the larger it is, the more the order follows the features.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.linalg import eigh
from torch import Tensor, nn

from anglehash.learn.head import logits_of
from anglehash.learn.shallow.buffers import buffer, tensors
from anglehash.learn.shallow.itq import rotation_step
from anglehash.learn.shallow.scaling import Matrix, blocks_of, squares

ROWS = 20_000
"""Training images that the embedding is fitted to, at most: more do not change it, and need memory."""
ITERATIONS = 50
EPSILON = 1e-6  # a vector shorter than this is not stretched to a unit


class LikenessHead(nn.Module):
    r"""The head of a method, and the features beside it: :math:`W_z\,z/|z| + W_f\,(x - \mu)/|x - \mu|`.

    Args:
        base: features to the logits z of the method, ``(batch, bits)``.
        mean: ``(width,)``, mu.
        feature_weight: ``(bits, width)``, W_f.
        logit_weight: ``(bits, bits)``, W_z.

    Shape:
        - features: ``(batch, width)`` float.
        - output: ``(batch, bits)`` logits.

    Raises:
        ModelError: the tensors do not fit together.
    """

    kind: ClassVar[str] = "likeness"

    def __init__(
        self, base: nn.Module, *, mean: Tensor, feature_weight: Tensor, logit_weight: Tensor
    ) -> None:
        super().__init__()
        self.base = base
        bits, width = len(logit_weight), len(mean)
        self.mean = buffer(self, "mean", mean, width)
        self.feature_weight = buffer(self, "feature_weight", feature_weight, bits, width)
        self.logit_weight = buffer(self, "logit_weight", logit_weight, bits, bits)
        self.eval()

    def forward(self, features: Tensor) -> Tensor:
        """Logits of a batch of features."""
        return self.of_logits(self.base(features)) + _unit(features - self.mean) @ self.feature_weight.T

    def of_logits(self, logits: Tensor) -> Tensor:
        """The share of the method's own logits: the code of a class, where they are its vector."""
        return _unit(logits) @ self.logit_weight.T


def with_likeness(base: nn.Module, features: NDArray[np.float32], likeness: float) -> LikenessHead:
    r"""The binary embedding of [z, l f] for a method's head, fitted to training images.

    Iterative quantization of the rows :math:`e = [z/|z|,\ \ell\,f]`: V are the axes of most second moment, one a bit,
    and the rotation R minimises :math:`|\mathrm{sign}(e V R) - e V R|^2`. Three things differ from ITQ: z is not
    centred, since the zero of a method's logits means something (centring cost .03 of mAP on images with several
    labels); R begins as near to the axes of z as it can, so that with a small l the code is the method's own; and the
    rows are two unit vectors.

    Args:
        base: a learned head.
        features: ``(n, width)`` of the training images.
        likeness: l, > 0.

    Source:
        Gong and Lazebnik, "Iterative Quantization", CVPR 2011, for the rotation. The rest is ours.
    """
    rows = features[np.linspace(0, len(features) - 1, min(len(features), ROWS)).astype(np.int64)]
    mean = rows.mean(axis=0, dtype=np.float64).astype(np.float32)
    logits = logits_of(base, rows)
    bits = logits.shape[1]
    joined = np.hstack([_unit_rows(logits), likeness * _unit_rows(rows - mean)]).astype(np.float32)
    axes = _axes(joined, bits)
    projected = joined @ axes.astype(np.float32)
    rotation = _nearest_rotation(axes[:bits])
    for _ in range(ITERATIONS):
        rotation = rotation_step(projected, rotation)
    weight = (axes @ rotation).T
    return LikenessHead(
        base,
        **tensors(mean=mean, logit_weight=weight[:, :bits], feature_weight=likeness * weight[:, bits:]),
    )


def _axes(rows: NDArray[np.float32], count: int) -> Matrix:
    """The axes of most second moment about 0, ``(width, count)``, the largest entry of each positive."""
    width = rows.shape[1]
    axes = eigh(squares(blocks_of(rows)), subset_by_index=(width - count, width - 1))[1][:, ::-1]
    return np.asarray(axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(count)]))


def _nearest_rotation(axes: Matrix) -> Matrix:
    """The rotation R that brings ``axes @ R`` nearest to the identity; a fixed one where the axes leave it open.

    Axes that are swapped are swapped back.

    >>> _nearest_rotation(np.array([[0.0, 1.0], [1.0, 0.0]])).round(2) + 0
    array([[0., 1.],
           [1., 0.]])
    """
    open_ = np.linalg.qr(np.random.default_rng(0).standard_normal(axes.shape))[0]
    left, _, right = np.linalg.svd(axes.T + 1e-3 * open_)
    return np.asarray(left @ right)


def _unit(vectors: Tensor) -> Tensor:
    return F.normalize(vectors, dim=1, eps=EPSILON)


def _unit_rows(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(_unit(torch.from_numpy(values)).numpy())
