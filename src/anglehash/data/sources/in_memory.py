"""Images and labels as Python users hold them: lists of paths, PIL images, arrays; names or numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from anglehash.data.dataset import Dataset
from anglehash.data.images.colour import upright
from anglehash.data.images.decoding import WHITE, read_file
from anglehash.errors import DataError


@dataclass(frozen=True, slots=True)
class ImageList:
    """Images of any kind in one list."""

    items: Sequence[Any]

    @property
    def names(self) -> tuple[str, ...]:
        """What each image is called in a message; unique."""
        paths = (f" ({item})" if isinstance(item, str | PathLike) else "" for item in self.items)
        return tuple(f"image {row}{path}" for row, path in enumerate(paths))

    def __len__(self) -> int:
        return len(self.items)

    def read(self, row: int) -> bytes | NDArray[np.uint8]:
        """One image: encoded bytes, or pixels."""
        item = self.items[row]
        if isinstance(item, bytes):
            return item
        if isinstance(item, str | PathLike):
            return read_file(Path(item))
        if isinstance(item, Image.Image):
            return np.asarray(upright(item, WHITE, []))
        return np.asarray(item)


def as_images(images: Any) -> ImageList:
    """A store over a list of paths, PIL images, encoded bytes and ``uint8`` arrays, or one 4-d array.

    Raises:
        DataError: not such a list.
    """
    if not isinstance(images, np.ndarray | Sequence | Image.Image) and hasattr(images, "__array__"):
        images = np.asarray(images)  # a column of a table, a tensor
    if isinstance(images, np.ndarray) and images.ndim == 1:
        images = images.tolist()  # paths, as scikit-learn hands them on
    if isinstance(images, np.ndarray) and (images.ndim not in (3, 4) or images.dtype != np.uint8):
        raise DataError(f"an array of images is uint8 (n, h, w, 3), got {images.dtype} {images.shape}")
    if not isinstance(images, np.ndarray | Sequence) or isinstance(images, str | bytes):
        raise DataError(f"images are a list of paths, PIL images or arrays, got {type(images).__name__}")
    kinds = (bytes, str, PathLike, Image.Image, np.ndarray)
    for place, item in enumerate(images):
        if not isinstance(item, kinds):
            raise DataError(f"image {place} is a {type(item).__name__}: give a path, PIL image or array")
        if isinstance(item, np.ndarray) and item.dtype != np.uint8:
            raise DataError(
                f"image {place} is an array of {item.dtype} {item.shape}: give uint8, 0 to 255, of shape (h, w, 3)"
            )
    return ImageList(list(images))


def with_labels(images: ImageList, y: Any) -> Dataset:
    """A dataset of images and their labels.

    Args:
        images: ``n`` images.
        y: ``n`` names or numbers, ``n`` lists of them, or a ``(n, classes)`` bool or 0/1 array.

    Raises:
        DataError: no labels, or not ``n`` of them.
    """
    if y is None:
        raise DataError("fit(images, y) needs a label for each image: give y, or a folder of class folders")
    if not len(images):
        raise DataError("fit(images, y) needs images, got an empty list")
    if isinstance(y, str | bytes | Mapping) or not (hasattr(y, "__array__") or isinstance(y, Sequence)):
        raise DataError(f"y is a list or array with a label for each image, got {type(y).__name__}")
    if hasattr(y, "__array__"):
        y = np.asarray(y)  # a column of a table, a tensor
        y = y if y.ndim == 2 else y.tolist()
    if len(y) != len(images):
        raise DataError(f"{len(images)} images need as many labels, got {len(y)}")
    if isinstance(y, np.ndarray) and y.ndim == 2:
        if not np.isin(y, (0, 1)).all():
            raise DataError("a two-dimensional y is multi-hot: only 0 and 1")
        hot, names = y.astype(np.bool_), tuple(str(c) for c in range(y.shape[1]))
    else:
        many = (Sequence, set, np.ndarray)
        sets = [[v] if isinstance(v, str) or not isinstance(v, many) else list(v) for v in y]
        if any(value is None or value != value for row in sets for value in row):  # None, NaN
            raise DataError("every label must be a name or a number, but one is missing (None or NaN)")
        found = sorted({value for row in sets for value in row}, key=lambda v: (isinstance(v, str), v))
        place = {value: c for c, value in enumerate(found)}
        hot = np.zeros((len(sets), len(found)), dtype=np.bool_)
        for row, values in enumerate(sets):
            hot[row, [place[v] for v in values]] = True
        names = tuple(str(value) for value in found)
        if len(set(names)) < len(names):
            raise DataError("labels of one name, such as 1 and '1', are indistinguishable: give one kind")
    return Dataset(
        name="images",
        ids=images.names,
        images=images,
        labels=hot,
        class_names=names,
        parts=np.full(len(images), "", dtype="U1"),
    )
