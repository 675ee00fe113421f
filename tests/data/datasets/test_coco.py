from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from anglehash.data.dataset import Dataset
from anglehash.data.datasets.coco import load
from anglehash.errors import DataError

CATEGORIES = [{"id": 18, "name": "dog"}, {"id": 1, "name": "person"}, {"id": 90, "name": "toothbrush"}]


def instances(*images: tuple[int, list[int]], part: str) -> dict[str, Any]:
    annotations = [
        {"image_id": image, "category_id": c, "segmentation": [[0.5] * 8], "iscrowd": 0}
        for image, categories in images
        for c in categories
    ]
    files = [{"id": image, "file_name": f"COCO_{part}_{image:012d}.jpg"} for image, _ in images]
    return {"info": {}, "images": files, "annotations": annotations, "categories": CATEGORIES}


def write(root: Path, part: str, document: object) -> Path:
    (root / "annotations").mkdir(exist_ok=True)
    text = document if isinstance(document, str) else json.dumps(document)
    (root / "annotations" / f"instances_{part}.json").write_text(text)
    return root


def labels(data: Dataset) -> list[set[str]]:
    return [{data.class_names[c] for c in row.nonzero()[0]} for row in data.labels]


def test_the_official_layout(tmp_path: Path) -> None:
    write(tmp_path, "train2014", instances((9, [18, 1, 18]), (3, []), part="train2014"))
    write(tmp_path, "val2014", instances((4, [90]), part="val2014"))
    (tmp_path / "val2014").mkdir()
    (tmp_path / "val2014" / "COCO_val2014_000000000004.jpg").write_bytes(b"photo")
    data = load(tmp_path)
    assert data.ids == (
        "train2014/COCO_train2014_000000000009.jpg",
        "train2014/COCO_train2014_000000000003.jpg",
        "val2014/COCO_val2014_000000000004.jpg",
    )
    assert data.parts.tolist() == ["train", "train", "validation"]
    assert data.class_names == ("person", "dog", "toothbrush")  # by number
    assert labels(data) == [{"dog", "person"}, set(), {"toothbrush"}]
    assert data.unlabelled.tolist() == [1]
    assert data.images.read(2) == b"photo"


def test_one_of_the_two_files_is_enough(tmp_path: Path) -> None:
    assert len(load(write(tmp_path, "val2014", instances((4, [90]), part="val2014")))) == 1


def test_a_path_in_the_file_never_leaves_the_folder(tmp_path: Path) -> None:
    document = instances((4, [90]), part="val2014")
    document["images"][0]["file_name"] = "../../etc/passwd"
    assert load(write(tmp_path, "val2014", document)).ids == ("val2014/passwd",)


@pytest.mark.parametrize(
    "document",
    [
        "{",
        "[" * 100_000,
        "[]",
        {"images": [], "annotations": []},
        {"images": 3, "annotations": [], "categories": []},
        instances((4, [2]), part="val2014"),
        instances((4, [90]), part="val2014") | {"images": []},
    ],
)
def test_other_json_is_refused(tmp_path: Path, document: object) -> None:
    with pytest.raises(DataError, match=r"instances_val2014\.json is not a COCO instances file"):
        load(write(tmp_path, "val2014", document))


def test_the_table(real_images: Path) -> None:
    data = load(real_images)
    counts = json.loads((real_images / "coco" / "class_counts.json").read_text())
    assert len(data) == 6_168
    assert len(data.class_names) == 80
    assert dict(zip(data.class_names, data.labels.sum(axis=0).tolist(), strict=True)) == counts
    assert counts["person"] == 3_411
    assert set(data.parts) == {"train", "validation"}
    assert data.multi_label
    assert len(data.unlabelled) == 0
