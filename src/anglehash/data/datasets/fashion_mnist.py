"""``fashion-mnist``: 70,000 grey pictures of clothes, 28x28 pixels, 60,000 ``train`` and 10,000 ``test``.

Four IDX files, with or without ``.gz``: ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte`` and the
same two with ``t10k-``. They belong in ``$ANGLEHASH_DATA/fashion_mnist`` or the cache, are found where
Debian's package ``dataset-fashion-mnist`` puts them, and are fetched from the authors' repository with
``download``.

Source: Xiao, Rasul, Vollgraf, "Fashion-MNIST", arXiv:1708.07747. The checksums are those of the files
whose MD5 the authors publish.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anglehash.data.dataset import Arrays, Dataset, numbered_ids, one_hot
from anglehash.data.datasets._location import DatasetFolder, Remote
from anglehash.errors import DataError

CLASS_NAMES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)

_BASE = "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion"
_FILES = (  # the training images last: where they are, the set is whole
    ("t10k-labels-idx1-ubyte.gz", 5_148, "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
    (
        "t10k-images-idx3-ubyte.gz",
        4_422_102,
        "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
    ),
    (
        "train-labels-idx1-ubyte.gz",
        29_515,
        "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
    ),
    (
        "train-images-idx3-ubyte.gz",
        26_421_880,
        "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
    ),
)
_MAX_BYTES = 64 << 20  # of an unpacked file; the largest has 47 million

FOLDER = DatasetFolder(
    name="fashion-mnist",
    folder="fashion_mnist",
    files=("train-images-idx3-ubyte.gz", "train-images-idx3-ubyte"),
    remotes=tuple(Remote(url=f"{_BASE}/{name}", size=size, sha256=sha256) for name, size, sha256 in _FILES),
    also=(Path("/usr/share/datasets/fashion-mnist"),),  # Debian's dataset-fashion-mnist
)


def load(root: Path | None = None, *, download: bool = False) -> Dataset:
    """The set in the order of its files, training images first.

    Raises:
        DataError: a file is absent, damaged, or holds something else.
    """
    folder = FOLDER.find(root, download=download).parent
    images = [_read(folder, f"{part}-images-idx3-ubyte", (28, 28)) for part in ("train", "t10k")]
    labels = [_read(folder, f"{part}-labels-idx1-ubyte", ()) for part in ("train", "t10k")]
    if [len(part) for part in images] != [len(part) for part in labels]:
        raise DataError(f"{folder}: the files hold as many labels as images: download them again")
    grey, parts = np.concatenate(images), ["train"] * len(labels[0]) + ["test"] * len(labels[1])
    return Dataset(
        name="fashion-mnist",
        ids=numbered_ids("fashion-mnist", parts),
        images=Arrays(np.broadcast_to(grey[..., None], (*grey.shape, 3))),  # one copy, seen as three colours
        labels=one_hot(np.concatenate(labels), len(CLASS_NAMES)),
        class_names=CLASS_NAMES,
        parts=np.array(parts),
    )


def _read(folder: Path, name: str, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """The ``(n, *shape)`` bytes of an IDX file: magic number, sizes (big-endian, 32 bits each), data."""
    packed = (folder / f"{name}.gz").exists()
    path = folder / (f"{name}.gz" if packed else name)
    try:
        with gzip.open(path) if packed else path.open("rb") as file:
            data = file.read(_MAX_BYTES)
    except FileNotFoundError:
        raise DataError(f"{folder} has no {name}, with or without .gz: the set is four files") from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path} is damaged ({error}): download it again") from error
    start = 4 + 4 * (1 + len(shape))
    if len(data) > start and data[:4] == bytes([0, 0, 8, 1 + len(shape)]):
        n, *rest = struct.unpack(f">{1 + len(shape)}I", data[4:start])
        if tuple(rest) == shape and len(data) - start == n * math.prod(shape):
            return np.frombuffer(data, np.uint8, offset=start).reshape(n, *shape)
    raise DataError(f"{path} is not the IDX file of that name: download it again")
