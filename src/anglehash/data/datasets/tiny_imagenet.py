"""``tiny-imagenet``: 120,000 images in 200 classes.

The parts are the official ones: ``train`` (100,000), ``validation`` (10,000, the queries of the protocol
``tiny-imagenet``) and ``test`` (10,000, without labels). The file is ``tiny_imagenet_32_all.parquet``,
images reduced to 32x32, with columns ``split, label, path, image`` and the metadata keys ``wnids`` and
``names``, in ``$ANGLEHASH_DATA/tiny_imagenet`` or the cache.

A class is called by the first of its WordNet names; ``facts["wnids"]`` holds the WordNet ids in the same
order. The images are cut from ImageNet, so weights that were trained on ImageNet have seen them.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from anglehash.data.dataset import Dataset
from anglehash.data.datasets._location import DatasetFolder
from anglehash.data.datasets._tables import read_set
from anglehash.data.sources.parquet import read_metadata

FOLDER = DatasetFolder(name="tiny-imagenet", folder="tiny_imagenet", files=("tiny_imagenet_32_all.parquet",))


def load(root: Path | None = None, *, download: bool = False) -> Dataset:
    """The whole set in the order of its table.

    Raises:
        DataError: the file is absent or damaged.
    """
    path = FOLDER.find(root, download=download)
    wnids, names = (read_metadata(path, key) for key in ("wnids", "names"))
    class_names = tuple(name.split(",")[0] for name in names)
    dataset = read_set("tiny-imagenet", path, class_names, id_column="path")
    return replace(dataset, facts=dataset.facts | {"wnids": wnids})
