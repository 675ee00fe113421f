"""``cifar10``: 60,000 photographs of 32x32 pixels in 10 classes, 50,000 ``train`` and 10,000 ``test``.

Any of these, in the order in which they are preferred:

- ``cifar-10-python.tar.gz``, the official archive (fetched with ``download``), or
  ``cifar-10-batches-py``, the folder that is in it;
- ``cifar10_jpeg.parquet``, a copy with columns ``split, label, class_name, path, image``. It is coded as
  JPEG, which costs a classifier about 10 points of accuracy: its figures do not stand beside published
  ones.

They belong in ``$ANGLEHASH_DATA/cifar10`` or the cache. Images are in the official order, which the
protocols count on.

Source: Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009. The checksum of the
archive is the one that the page of the set publishes (as MD5) and that its users record (as SHA-256).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from anglehash.data.dataset import Arrays, Dataset, numbered_ids, one_hot
from anglehash.data.datasets._cifar_batches import read_batches
from anglehash.data.datasets._location import DatasetFolder, Remote
from anglehash.data.datasets._tables import read_set

CLASS_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

FOLDER = DatasetFolder(
    name="cifar10",
    folder="cifar10",
    files=("cifar-10-python.tar.gz", "cifar-10-batches-py", "cifar10_jpeg.parquet"),
    remotes=(
        Remote(
            url="https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
            sha256="6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
            size=170_498_071,
        ),
    ),
)


def load(root: Path | None = None, *, download: bool = False) -> Dataset:
    """The set, from the first of its forms that is found.

    Raises:
        DataError: it is absent or damaged.
    """
    path = FOLDER.find(root, download=download)
    if path.suffix == ".parquet":
        return read_set("cifar10", path, CLASS_NAMES, id_column="path")
    pixels, labels, parts = read_batches(path)
    return Dataset(
        name="cifar10",
        ids=numbered_ids("cifar10", parts),
        images=Arrays(pixels.transpose(0, 2, 3, 1)),
        labels=one_hot(labels, len(CLASS_NAMES)),
        class_names=CLASS_NAMES,
        parts=np.array(parts),
        facts={"source": path.name},
    )
