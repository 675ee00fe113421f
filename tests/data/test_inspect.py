from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from anglehash.data.dataset import Arrays, Dataset, Encoded, Problem
from anglehash.data.inspect import check
from anglehash.data.sources.open import open_dataset

Make = Callable[..., Dataset]


def warned(progress: dict[str, object], text: str) -> bool:
    warnings = progress["warnings"]
    assert isinstance(warnings, list)
    return any(text in warning for warning in warnings)


def test_a_sound_data_set_has_no_warning(synthetic: Make) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), dtype=np.uint8)
    progress = check(replace(synthetic([0, 1] * 20), images=Arrays(pictures)))
    assert progress["warnings"] == []
    assert progress["near_copies"] == {"looked_at": 4, "near_copies": 0, "share": 0.0, "first": None}
    assert progress["images"] == 40
    assert progress["classes"] == 2
    assert progress["per_class"] == {"c0": {"images": 20}, "c1": {"images": 20}}
    assert progress["per_part"] == {}
    # 2 * 20 * 19 of the 40 * 39 ordered pairs
    assert progress["relevant_pairs"] == pytest.approx(19 / 39, abs=1e-4)


def test_a_series_is_reported(synthetic: Make) -> None:
    scenes = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), dtype=np.uint8)
    pictures = np.repeat(scenes, 10, axis=0)
    pictures[:, 0, 0, 0] = np.arange(40)  # no two have the same pixels
    progress = check(replace(synthetic([0] * 20 + [1] * 20), images=Arrays(pictures)))
    assert progress["duplicates"]["groups"] == 0
    assert (progress["near_copies"]["looked_at"], progress["near_copies"]["share"]) == (4, 1.0)
    held, learned = progress["near_copies"]["first"]
    assert int(held[:6]) // 10 == int(learned[:6]) // 10
    assert warned(progress, "4 of 4 validation images (100 %) have a near copy in the training part")


def test_the_report_is_json(synthetic: Make) -> None:
    hot = np.array([[1, 1], [0, 1], [0, 0], [1, 0]], dtype=np.bool_)
    progress = check(synthetic(hot, parts=["train", "train", "query", ""], images=[0, 0, 1, 2]))
    assert json.loads(json.dumps(progress, allow_nan=False)) == progress


def test_counts_are_by_class_and_part(synthetic: Make) -> None:
    parts = ["train"] * 3 + ["query"] + ["database"] * 2
    progress = check(synthetic([0, 0, 1, 0, 1, 0], parts=parts))
    assert progress["per_part"] == {"database": 2, "query": 1, "train": 3}
    assert progress["per_class"]["c0"] == {"images": 4, "database": 1, "query": 1, "train": 2}
    assert progress["per_class"]["c1"] == {"images": 2, "database": 1, "query": 0, "train": 1}


def test_tiny_and_empty_classes_are_distinguished(synthetic: Make) -> None:
    dataset = synthetic([0] * 20 + [1] * 3 + [2], class_names=["many", "few", "one"])
    hot = np.pad(dataset.labels, ((0, 0), (0, 1)))
    progress = check(replace(dataset, labels=hot, class_names=("many", "few", "one", "none")))
    assert progress["tiny_classes"] == {"few": 3, "one": 1, "none": 0}
    assert warned(progress, "1 of 4 classes: only 2 to 9 images, so scores on it are unsure (first: few)")
    assert warned(progress, "1 of 4 classes: a single image")
    assert warned(progress, "no readable image (first: none)")
    assert warned(check(replace(dataset, facts={"empty_classes": ["bare"]})), "(first: bare)")


def test_duplicates_are_counted_within_and_across_parts_and_across_labels(synthetic: Make) -> None:
    progress = check(
        synthetic(
            [0, 0, 0, 1, 1, 0, 1],
            images=[7, 7, 8, 8, 9, 9, 5],
            parts=["train", "train", "train", "train", "train", "query", "database"],
        )
    )
    doubles = progress["duplicates"]
    assert (doubles["groups"], doubles["images"]) == (3, 6)
    assert doubles["by_parts"] == {"query + train": 1, "train": 2}
    assert doubles["across_parts"] == 1
    assert doubles["conflicting_labels"] == 2
    assert doubles["first"] == [
        ["000000.png", "000001.png"],
        ["000002.png", "000003.png"],
        ["000004.png", "000005.png"],
    ]
    assert doubles["first_across_parts"] == [["000004.png", "000005.png"]]
    assert warned(progress, "6 images in 3 groups have the same pixels (first: 000000.png = 000001.png)")
    assert warned(progress, "2 groups of images with the same pixels have different labels")
    assert warned(progress, "Protocol given is refused: given: 1 query images are also in the ")


def test_a_copy_without_a_label_is_not_conflict(synthetic: Make) -> None:
    doubles = check(synthetic([0, -1, 1, 0, -1], images=[7, 7, 8, 8, 8]))["duplicates"]
    assert (doubles["groups"], doubles["conflicting_labels"]) == (2, 1)


def test_unreadable_and_unlisted_files_are_counted_by_reason(synthetic: Make) -> None:
    dataset = replace(
        synthetic([0, 1]), images=Encoded([b"", b"<html>"]), problems=(Problem("x", "no-class", "stray"),)
    )
    progress = check(dataset)
    assert progress["images"] == 0
    assert progress["problems"]["images"] == 3
    assert sum(progress["problems"]["reasons"].values()) == 3
    assert progress["problems"]["reasons"]["no-class"] == 1
    assert progress["problems"]["first"][0] == {"id": "x", "reason": "no-class", "detail": "stray"}
    assert warned(progress, "3 files are skipped (first: x: no-class)")
    assert warned(progress, "no labelled image at all")


def test_unlabelled_images_are_counted(synthetic: Make) -> None:
    progress = check(synthetic([0, 1, -1] * 10))
    assert progress["unlabelled"]["images"] == 10
    assert progress["unlabelled"]["first"][0] == "000002.png"
    assert warned(progress, "10 images have no label (first: 000002.png)")


@pytest.mark.parametrize(("labels", "parts", "message"), [
    ([0] * 30, None, "learnt from the difference between classes"),
    ([0, 1, 2], None, "no image can be spared for a query"),
    ([-1] * 3, None, "no labelled image at all"),
    ([0, 1, 0, 1], ["train"] * 3 + ["database"], "no labelled image in part query or test"),
    ([0, 1, 0, 1], ["train", "train", "query", "query"], "no labelled image in part database"),
    ([0, 1, 0, 1], ["train", "train", "query", ""], "1 of 4 images name no part"),
    ([0, 1, 0, 1], ["train", "train", "query", "database"], "1 classes have queries but no database image"),
])  # fmt: skip
def test_what_would_stop_or_spoil_a_run_is_explained(
    synthetic: Make, labels: list[int], parts: list[str] | None, message: str
) -> None:
    assert warned(check(synthetic(labels, parts=parts)), message)


def test_several_labels_are_described(synthetic: Make) -> None:
    hot = np.array([[1, 1, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1]], dtype=np.bool_)
    progress = check(synthetic(hot))
    assert progress["labels_per_image"] == {"several": 2, "mean": 1.75, "max": 3}
    assert progress["relevant_pairs"] == pytest.approx(4 / 6, abs=1e-4)  # only 0-2 and 1-2 share no label


def test_the_copies_in_tiny_imagenet_are_found(real_images: Path) -> None:
    groups = json.loads((real_images / "tiny_imagenet" / "pixel_duplicate_groups.json").read_text())
    assert len(groups) == 39
    dataset = open_dataset("tiny-imagenet", root=real_images)
    row = {i: r for r, i in enumerate(dataset.ids)}
    doubles = check(dataset.select(sorted(row[i] for group in groups for i in group)))["duplicates"]
    assert (doubles["groups"], doubles["images"]) == (39, 78)
    assert {frozenset(found) for found in doubles["first"]} < {frozenset(group) for group in groups}
    assert doubles["conflicting_labels"] == 27


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("1", "1.0"), "'1' and '1.0' stand for the same number"),
        (("caf\u00e9", "cafe\u0301"), "look equal"),
        (("Cat", "cat "), "look equal"),
        (("cat", "nan"), "'nan' looks like a missing label"),
        (("N/A", "cat"), "'N/A' looks like a missing label"),
    ],
)
def test_class_names_that_deceive_are_reported(
    synthetic: Callable[..., Dataset], names: tuple[str, str], words: str
) -> None:
    found = check(synthetic([0, 1] * 20, class_names=names))
    assert any(words in warning for warning in found["warnings"])
