"""``coco``: MS-COCO 2014 photographs, several labels out of 80; parts ``train`` and ``validation``.

One of these, in ``$ANGLEHASH_DATA/coco`` or the cache:

- the official layout: ``annotations/instances_train2014.json`` and ``annotations/instances_val2014.json``
  (or one of them) with the images in ``train2014/`` and ``val2014/``; classes in the order of their
  official numbers;
- ``coco256.parquet``: columns ``name, source_split, image, label_ids``, the class names under the
  metadata key ``label_names``, in that order.

An image has a class where at least one object of it is annotated, crowds included. Images without an
object are kept as unlabelled.

Source: Lin et al., "Microsoft COCO: Common Objects in Context", 2014, arXiv:1405.0312.
"""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from anglehash.data.dataset import Dataset, Encoded
from anglehash.data.datasets._location import DatasetFolder
from anglehash.data.labels import Names, multi_hot
from anglehash.data.sources.parquet import read_metadata, read_table
from anglehash.data.sources.walk import Files
from anglehash.errors import DataError

FOLDER = DatasetFolder(
    name="coco",
    folder="coco",
    files=(
        "annotations/instances_train2014.json",
        "annotations/instances_val2014.json",
        "coco256.parquet",
    ),
)

_PARTS = {"train2014": "train", "val2014": "validation"}
_KEYS = {"images", "annotations", "categories", "id", "file_name", "image_id", "category_id", "name"}


def load(root: Path | None = None, *, download: bool = False) -> Dataset:
    """The set, from the official files where they are, else from the table.

    Raises:
        DataError: it is absent or damaged.
    """
    path = FOLDER.find(root, download=download)
    return _from_table(path) if path.suffix == ".parquet" else _from_instances(path.parent.parent)


def _from_table(path: Path) -> Dataset:
    table = read_table(path, ["name", "source_split", "image", "label_ids"])
    names = dict(enumerate(read_metadata(path, "label_names")))
    try:
        rows = [tuple(names[n] for n in numbers) for numbers in table.column("label_ids").to_pylist()]
    except KeyError as error:
        raise DataError(f"{path}: class {error} has no name; {len(names)} classes have one") from error
    return Dataset(
        name="coco",
        ids=tuple(table.column("name").to_pylist()),
        images=Encoded(table.column("image")),
        labels=multi_hot(rows, names.values())[0],
        class_names=tuple(names.values()),
        parts=np.array([_PARTS.get(split, split) for split in table.column("source_split").to_pylist()]),
        facts={"source": path.name},
    )


def _from_instances(root: Path) -> Dataset:
    ids: list[str] = []
    rows: list[Names] = []
    names: dict[int, str] = {}
    for folder in _PARTS:
        path = root / "annotations" / f"instances_{folder}.json"
        if not path.exists():
            continue
        try:
            document = _read_json(path)
            names |= {int(category["id"]): str(category["name"]) for category in document["categories"]}
            labels: dict[int, set[str]] = {image["id"]: set() for image in document["images"]}
            for annotation in document["annotations"]:
                labels[annotation["image_id"]].add(names[annotation["category_id"]])
            ids += [f"{folder}/{PurePosixPath(image['file_name']).name}" for image in document["images"]]
            rows += [tuple(labels[image["id"]]) for image in document["images"]]
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise DataError(f"{path} is not a COCO instances file: {error!r}"[:500]) from error
    matrix, class_names = multi_hot(rows, [names[number] for number in sorted(names)])
    return Dataset(
        name="coco",
        ids=tuple(ids),
        images=Files(root, tuple(ids)),
        labels=matrix,
        class_names=class_names,
        parts=np.array([_PARTS[name.split("/")[0]] for name in ids]),
        facts={"source": "instances of " + ", ".join(sorted({name.split("/")[0] for name in ids}))},
    )


def _read_json(path: Path) -> Any:
    """An instances file without what is not needed: the outlines of the objects alone fill gigabytes."""
    with path.open("rb") as file:
        return json.load(file, object_pairs_hook=lambda pairs: {k: v for k, v in pairs if k in _KEYS})
