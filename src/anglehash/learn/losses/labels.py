"""The two ways to write labels, made one."""

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
