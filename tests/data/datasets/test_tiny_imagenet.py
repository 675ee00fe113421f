from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from anglehash.data.datasets.tiny_imagenet import load


def test_the_table(real_images: Path) -> None:
    data = load(real_images)
    names, counts = np.unique(data.parts, return_counts=True)
    assert dict(zip(names.tolist(), counts.tolist(), strict=True)) == {
        "test": 10_000,
        "train": 100_000,
        "validation": 10_000,
    }
    assert data.labels[data.parts == "train"].sum(axis=0).tolist() == [500] * 200
    assert data.labels[data.parts == "validation"].sum(axis=0).tolist() == [50] * 200
    np.testing.assert_array_equal(data.unlabelled, np.flatnonzero(data.parts == "test"))


def test_classes_are_named_in_the_order_of_their_numbers(real_images: Path) -> None:
    data = load(real_images)
    classes = json.loads((real_images / "tiny_imagenet" / "classes.json").read_text())
    assert data.facts["wnids"] == classes["wnids"]
    assert data.class_names[0] == "goldfish"
    assert len(set(data.class_names)) == 200
    for row in (0, 77_777, 99_999):
        wnid = data.ids[row].split("/")[1]
        assert data.labels[row, classes["wnids"].index(wnid)]
