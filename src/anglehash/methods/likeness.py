r"""Likeness: one code that knows the class and keeps what a picture looks like.

A hash layer alone is a look-up of classes: inside a class its codes are in no order. Here a code is made of two
unit vectors, the hash layer's logits z and the centred features f of the backbone, so that inner products are

.. math:: k(i, j) = \cos(z_i, z_j) + \ell^2 \cos(f_i, f_j)

with the dial :math:`\ell`: 0 is the method's own code, and the larger it is, the more the order follows the features.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import eigh
from torch import Tensor, nn

from anglehash.methods.classical.itq import rotation_step
from anglehash.methods.classical.scaling import Matrix, blocks_of, squares
from anglehash.models.heads.hash_head import logits_of, unit
from anglehash.models.heads.likeness import LikenessHead

ROWS = 20_000
"""Training images that the embedding is fitted to, at most: more do not change it, and need memory."""
ITERATIONS = 50  # of the rotation
BATCH = 256
PASSES = 30
MOST_STEPS = 300


def with_likeness(
    base: nn.Module,
    features: NDArray[np.float32],
    labels: NDArray[np.bool_],
    likeness: float,
    *,
    seed: int = 0,
) -> LikenessHead:
    r"""The binary embedding of [z, l f] for a method's head, fitted to training images.

    It begins as iterative quantization of the rows :math:`e = [z/|z|,\ \ell\,f]`: V are the axes of most second moment,
    one a bit, and the rotation R minimises :math:`|\mathrm{sign}(e V R) - e V R|^2`. Two things differ from ITQ: z is
    not centred, since the zero of a method's logits means something (centring cost .03 of mAP on images with several
    labels), and R begins as near to the axes of z as it can, so that with a small l the code is the method's own.
    Then :func:`refined` fits the weights to the order of likeness, through the sign.

    Args:
        base: a learned head.
        features: ``(n, width)`` of the training images.
        labels: ``(n, classes)`` bool of the same.
        likeness: l, > 0.
        seed: of the order of the images.

    Source:
        Gong and Lazebnik, "Iterative Quantization", CVPR 2011, for the rotation. The rest is ours.
    """
    chosen = np.linspace(0, len(features) - 1, min(len(features), ROWS)).astype(np.int64)
    rows = features[chosen]
    mean = rows.mean(axis=0, dtype=np.float64).astype(np.float32)
    logits, centred = _unit_rows(logits_of(base, rows)), _unit_rows(rows - mean)
    bits = logits.shape[1]
    joined = np.hstack([logits, likeness * centred]).astype(np.float32)
    axes = _axes(joined, bits)
    projected = joined @ axes.astype(np.float32)
    rotation = _nearest_rotation(axes[:bits])
    for _ in range(ITERATIONS):
        rotation = rotation_step(projected, rotation)
    pairs = _Pairs(*map(torch.from_numpy, (joined, logits, centred, labels[chosen].astype(np.float32))))
    weight = refined(torch.from_numpy((axes @ rotation).astype(np.float32)), pairs, seed=seed).T
    return LikenessHead(
        base,
        mean=torch.from_numpy(mean),
        logit_weight=weight[:, :bits],
        feature_weight=likeness * weight[:, bits:],
    )


class _Pairs(NamedTuple):
    """Training images, whose likeness two by two is what an embedding is fitted to; n rows each."""

    joined: Tensor  # [z, l f]
    logits: Tensor  # z, unit
    centred: Tensor  # f, unit
    labels: Tensor  # multi-hot, float


def refined(weight: Tensor, pairs: _Pairs, *, seed: int = 0) -> Tensor:
    r"""Fit the weights of an embedding to the order of likeness, through the sign of its logits.

    With b the signs of a batch, s_ij = a b_i.b_j / K, and softmax over j other than i,

    .. math:: 3\,H\big(\mathrm{softmax}(10 \cos(z_i, z_j)),\ \mathrm{softmax}(s_{ij})\big)
              + H\big(\mathrm{softmax}_{j \sim i}(20 \cos(f_i, f_j)),\ \mathrm{softmax}_{j \sim i}(s'_{ij})\big)

    where H is the cross-entropy, j ~ i are the images that share a label with i, and s' has a factor a' of its own. The
    first term holds the classes apart as the hash layer sees them; the second orders each of them as the features do.
    The gradient passes the sign where a logit is not far from 0. Adam, cosine decay, batches of 256, 30 passes but at
    most 300 steps.

    Args:
        weight: ``(width, bits)`` to begin with; its scale does not matter.
        pairs: the training images.
        seed: of the order of the images.

    Returns:
        The fitted weights, ``(width, bits)``.
    """
    count, bits = len(pairs.joined), weight.shape[1]
    start = weight / (pairs.joined @ weight).abs().mean().clamp_min(1e-6)
    fitted, factors = nn.Parameter(start.clone()), nn.Parameter(torch.tensor([8.0, 12.0]).log())
    steps = min(MOST_STEPS, PASSES * math.ceil(count / BATCH))
    optimizer = torch.optim.Adam([{"params": [fitted], "lr": 1e-3}, {"params": [factors], "lr": 1e-2}])
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    generator = torch.Generator().manual_seed(seed)
    with torch.enable_grad():
        for rows in _batches(count, steps, generator):
            batch = _Pairs(*(part[rows] for part in pairs))
            signs = _Sign.apply(batch.joined @ fitted)  # type: ignore[no-untyped-call]
            loss = _disorder(signs @ signs.T / bits, batch, factors.exp())
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    return fitted.detach()


def _disorder(agreement: Tensor, batch: _Pairs, factors: Tensor) -> Tensor:
    """What :func:`refined` minimises, of ``(batch, batch)`` inner products of codes over their length."""
    others = ~torch.eye(len(agreement), dtype=torch.bool)
    alike = (batch.labels @ batch.labels.T > 0) & others
    classes = _cross_entropy(10 * batch.logits @ batch.logits.T, factors[0] * agreement, others)
    return 3 * classes + _cross_entropy(20 * batch.centred @ batch.centred.T, factors[1] * agreement, alike)


def _cross_entropy(wanted: Tensor, found: Tensor, among: Tensor) -> Tensor:
    """The mean over rows of H(softmax(wanted), softmax(found)) among some columns; rows without any do not count."""
    some = among.any(dim=1)
    outside = ~among[some]
    shares = wanted[some].masked_fill(outside, -torch.inf).softmax(dim=1)
    logs = found[some].masked_fill(outside, -torch.inf).log_softmax(dim=1).masked_fill(outside, 0)
    return -(shares * logs).sum() / max(len(shares), 1)


def _batches(count: int, steps: int, generator: torch.Generator) -> Iterator[Tensor]:
    """``steps`` batches of row numbers, from one shuffled pass after another."""
    while steps > 0:
        for rows in torch.randperm(count, generator=generator).tensor_split(math.ceil(count / BATCH))[:steps]:
            steps -= 1
            yield rows


class _Sign(torch.autograd.Function):
    """1 where a value is > 0, else -1; the gradient passes where the value is within 1.5 of 0."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        ctx.save_for_backward(values)
        return torch.where(values > 0, 1.0, -1.0)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        values: Tensor = ctx.saved_tensors[0]
        return gradients[0] * (values.abs() <= 1.5)


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


def _unit_rows(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(unit(torch.from_numpy(values)).numpy())
