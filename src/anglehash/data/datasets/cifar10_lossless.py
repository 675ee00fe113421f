"""``cifar10-lossless``: the first 4,000 training images of CIFAR-10 as PNG, in the official order.

A small honest bench beside the JPEG copy of ``cifar10``. The file is
``cifar10_train_0_3999_png.parquet``, with columns ``split, label, image``, in ``$ANGLEHASH_DATA/cifar10``
or the cache.
"""

from __future__ import annotations

from pathlib import Path

from anglehash.data.dataset import Dataset
from anglehash.data.datasets._location import DatasetFolder
from anglehash.data.datasets._tables import read_set
from anglehash.data.datasets.cifar10 import CLASS_NAMES

FOLDER = DatasetFolder(name="cifar10-lossless", folder="cifar10", files=("cifar10_train_0_3999_png.parquet",))


def load(root: Path | None = None, *, download: bool = False) -> Dataset:
    """The 4,000 images, all of them part ``train``.

    Raises:
        DataError: the file is absent or damaged.
    """
    return read_set("cifar10-lossless", FOLDER.find(root, download=download), CLASS_NAMES)
