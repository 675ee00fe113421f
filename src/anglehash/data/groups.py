"""Coarse groups of the classes of known sets: labels to train on while the classes stay hidden.

The classes become the finer label of the data set, which tells how well an order inside a group is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from importlib.resources import files

import numpy as np

from anglehash.data.dataset import Dataset
from anglehash.errors import DataError

GROUPED = {
    "cifar10-groups": "cifar10",
    "cifar10-groups-new": "cifar10",
    "coco-groups": "coco",
    "tiny-imagenet-groups": "tiny_imagenet",
}
"""The protocols whose labels are groups, and their table in ``groups.json``."""


def grouped(dataset: Dataset, protocol: str) -> Dataset:
    """The data set with the groups of a protocol as labels and its classes as finer labels.

    A class that is a group by itself, as COCO's ``person``, gives no finer label.

    Args:
        dataset: with the classes of the known set, those of Tiny-ImageNet with their ``wnids``.
        protocol: a name of :data:`GROUPED`.

    Raises:
        DataError: a class is in no group.
    """
    group = _group_of_class(dataset, protocol)
    names = tuple(dict.fromkeys(group.values()))
    member = np.array([[group[name] == own for own in names] for name in dataset.class_names])
    alone = np.array([name == group[name] for name in dataset.class_names])
    return replace(
        dataset,
        labels=dataset.labels @ member,
        class_names=names,
        finer=dataset.labels[:, ~alone],
        finer_names=tuple(name for name in dataset.class_names if name != group[name]),
    )


def _group_of_class(dataset: Dataset, protocol: str) -> Mapping[str, str]:
    """The group of each class, in the order of the table."""
    table = json.loads((files("anglehash.data") / "groups.json").read_text(encoding="utf-8"))[
        GROUPED[protocol]
    ]
    known = {name: group for group, members in table.items() for name in members}
    if GROUPED[protocol] == "tiny_imagenet":
        wnids = dict(zip(dataset.facts.get("wnids", ()), dataset.class_names, strict=False))
        known = {wnids[number]: group for number, group in sorted(table.items()) if number in wnids}
    lacking = [name for name in dataset.class_names if name not in known]
    if lacking:
        raise DataError(
            f"{protocol} needs the classes of {GROUPED[protocol]}, but {dataset.name} has others (first: {lacking[0]})"
        )
    return known
