"""What a loss is given, made one: logits of one precision, labels of one form, images that have a label."""

from __future__ import annotations

import torch
from torch import Tensor

from anglehash.errors import DataError


def multi_hot(labels: Tensor, images: int, classes: int) -> Tensor:
    """Labels as a bool matrix, whichever way they are written.

    Args:
        labels: ``(images,)`` class numbers, -1 for an image without a label; or ``(images, classes)`` of 0
            and 1, any dtype.
        images: how many images there are.
        classes: how many classes there are.

    Returns:
        ``(images, classes)`` bool; the row of an image without a label is empty.

    Raises:
        DataError: another shape, a class that does not exist, or a value other than 0 and 1.

    >>> multi_hot(torch.tensor([1, -1]), images=2, classes=3).int().tolist()
    [[0, 1, 0], [0, 0, 0]]
    """
    if labels.shape == (images,) and not (labels.is_floating_point() or labels.dtype == torch.bool):
        if images and not -1 <= int(labels.min()) <= int(labels.max()) < classes:
            raise DataError(
                f"class numbers must be in 0..{classes - 1} (-1: no label), "
                f"got {int(labels.min())}..{int(labels.max())}"
            )
        return labels[:, None] == torch.arange(classes, device=labels.device)
    if labels.shape != (images, classes):
        raise DataError(
            f"labels must be ({images},) whole class numbers or ({images}, {classes}) multi-hot, "
            f"got {str(labels.dtype).removeprefix('torch.')} {tuple(labels.shape)}"
        )
    hot = labels == 1
    if not torch.equal(hot, labels != 0):
        raise DataError("multi-hot labels must be 0 or 1, got other values: threshold soft labels first")
    return hot


def labelled(
    logits: Tensor, labels: Tensor, *, bits: int, classes: int, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor]:
    """A batch for a loss that needs a label of every image.

    Args:
        logits: ``(batch, bits)`` float.
        labels: as :func:`multi_hot` takes them.
        bits: length of a code.
        classes: how many classes there are.
        dtype: the loss computes in this precision, or in that of the logits if it is finer.

    Returns:
        The logits in that precision, and the labels as ``(batch, classes)`` bool, no row empty.

    Raises:
        DataError: a shape or dtype does not fit, or an image has no label.

    >>> logits, positive = labelled(torch.ones(1, 4).half(), torch.tensor([1]), bits=4, classes=2)
    >>> logits.dtype, positive.tolist()
    (torch.float32, [[False, True]])
    """
    z = precise(logits, bits, dtype)
    positive = multi_hot(labels, len(z), classes)
    refuse_unlabelled(positive)
    return z, positive


def precise(logits: Tensor, bits: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Logits of the right shape, in ``dtype``, or in their own precision if it is finer.

    Raises:
        DataError: not floats of shape ``(batch, bits)``.
    """
    if logits.ndim != 2 or logits.shape[1] != bits or not logits.is_floating_point():
        raise DataError(
            f"logits must be float of shape (batch, {bits}), "
            f"got {str(logits.dtype).removeprefix('torch.')} {tuple(logits.shape)}"
        )
    return logits.to(torch.promote_types(torch.promote_types(logits.dtype, dtype), torch.float32))


def refuse_unlabelled(positive: Tensor, advice: str = "leave them out") -> None:
    """Let only images with a label through.

    Args:
        positive: ``(batch, classes)`` bool.
        advice: what to do about the others.

    Raises:
        DataError: a row is empty.

    >>> refuse_unlabelled(torch.tensor([[True, False], [False, False]]))
    Traceback (most recent call last):
    anglehash.errors.DataError: 1 of 2 images have no label and cannot train a classifier: leave them out
    """
    empty = int((~positive.any(dim=1)).sum())
    if empty:
        raise DataError(
            f"{empty} of {len(positive)} images have no label and cannot train a classifier: {advice}"
        )
