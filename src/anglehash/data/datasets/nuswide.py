"""``nuswide``: NUS-WIDE's 21 most frequent concepts on 195,834 Flickr photographs, several labels each.

One of these, in ``$ANGLEHASH_DATA/nuswide`` or the cache:

- the official layout: ``ImageList/Imagelist.txt``, a file for each of 81 concepts
  ``Groundtruth/AllLabels/Labels_CONCEPT.txt`` with a 0 or 1 for every image, and the images in
  ``Flickr/``. With ``ImageList/TrainImagelist.txt`` and ``TestImagelist.txt`` the parts are the official
  ``train`` and ``test``. The 21 concepts are those with the most images, in alphabetical order; images
  that show none of them are left out;
- lists as deep-hashing papers publish them: see :func:`~anglehash.data.sources.lists.load_lists`.

The images are given out by their collectors on request only; without them the labels still load, and
reading an image is refused with reason ``unreadable-file``.

Source: Chua et al., "NUS-WIDE: A Real-World Web Image Database from National University of Singapore",
2009.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anglehash.data.dataset import Dataset
from anglehash.data.datasets._location import DatasetFolder
from anglehash.data.sources.lists import as_flags, below, load_lists
from anglehash.data.sources.walk import Files
from anglehash.errors import DataError

CONCEPTS = 21
"""How many concepts count: the usual choice of deep-hashing papers, who require over 5,000 images of each."""

FOLDER = DatasetFolder(
    name="nuswide",
    folder="nuswide",
    files=("ImageList/Imagelist.txt", "train.txt", "test.txt", "database.txt"),
)


def load(root: Path | None = None, *, download: bool = False) -> Dataset:
    """The set in the order of its image list, or of its lists.

    Raises:
        DataError: the lists are absent or do not fit together.
    """
    path = FOLDER.find(root, download=download)
    if path.name != "Imagelist.txt":
        return load_lists(path.parent, name="nuswide")
    return _official(path.parent.parent)


def _official(root: Path) -> Dataset:
    names = _image_list(root, "Imagelist.txt")
    flags = _concepts(root / "Groundtruth" / "AllLabels", len(names))
    frequent = sorted(sorted(flags), key=lambda concept: -int(flags[concept].sum()))[:CONCEPTS]
    class_names = tuple(sorted(frequent))
    labels = np.stack([flags[concept] for concept in class_names], axis=1)
    kept = np.flatnonzero(labels.any(axis=1))
    part_of = {
        name: part
        for part, file in (("train", "TrainImagelist.txt"), ("test", "TestImagelist.txt"))
        if (root / "ImageList" / file).exists()
        for name in _image_list(root, file)
    }
    ids = tuple(names[row] for row in kept)
    return Dataset(
        name="nuswide",
        ids=ids,
        images=Files(root / "Flickr", ids),
        labels=labels[kept],
        class_names=class_names,
        parts=np.array([part_of.get(name, "") for name in ids]),
        facts={
            "listed": len(names),
            "concepts": len(flags),
            "without_frequent_concept": len(names) - len(kept),
        },
    )


def _image_list(root: Path, file: str) -> list[str]:
    """The images of a list, which separates folders by backslashes."""
    path = root / "ImageList" / file
    names = [below(line.strip()) for line in path.read_bytes().splitlines() if line.strip()]
    if not all(names):
        raise DataError(f"{path}: line {names.index(None) + 1} is not a path below the folder of images")
    return [name for name in names if name]


def _concepts(folder: Path, n: int) -> dict[str, NDArray[np.bool_]]:
    """For each concept, which of the ``n`` listed images show it."""
    flags = {}
    for file in sorted(folder.glob("Labels_*.txt")):
        text = file.read_bytes().translate(None, b" \t\r\n")
        if len(text) != n or text.strip(b"01"):
            raise DataError(f"{file} must hold 0 or 1 for each of the {n:,} images of Imagelist.txt")
        flags[file.stem.removeprefix("Labels_")] = as_flags(text)
    if not flags:
        raise DataError(f"{folder} has no Labels_*.txt: put the concept files of Groundtruth/AllLabels there")
    return flags
