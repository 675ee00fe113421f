"""The protocols on the real images and lists: counts that the protocols state, and known leaks."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from anglehash.data.dataset import Dataset
from anglehash.data.image_hash import id_keys, sign
from anglehash.data.protocols import make_split
from anglehash.data.sources.lists import load_lists
from anglehash.data.sources.open import open_dataset
from anglehash.data.split import RetrievalSplit
from anglehash.errors import DataError


def by_ids(dataset: Dataset, protocol: str, **options: Any) -> RetrievalSplit:
    """A split whose keys are of the ids: decoding every image would take too long here."""
    return make_split(dataset, protocol, keys=id_keys(dataset.ids), **options)


def per_class(split: RetrievalSplit, part: str) -> list[int]:
    counts: list[int] = split.dataset.labels[split.part(part)].sum(axis=0).tolist()
    return counts


def test_counts_on_the_real_cifar10(real_images: Path) -> None:
    dataset = open_dataset("cifar10", root=real_images)
    split = by_ids(dataset, "cifar10-I")
    assert split.sizes == {"train": 4_500, "validation": 500, "query": 1_000, "database": 59_000}
    assert per_class(split, "query") == [100] * 10
    assert by_ids(dataset, "cifar10-I-54k").sizes["database"] == 54_000
    assert by_ids(dataset, "cifar10-II").sizes == {
        "train": 45_000, "validation": 5_000, "query": 10_000, "database": 50_000,
    }  # fmt: skip
    assert len(by_ids(dataset, "unseen", draw=4).held_out) == 3


def test_counts_on_the_lossless_cifar10_images(real_images: Path) -> None:
    split = by_ids(open_dataset("cifar10-lossless", root=real_images), "cifar10-lossless")
    assert split.sizes == {"train": 2_250, "validation": 250, "query": 500, "database": 1_000}


def test_counts_of_the_groups(real_images: Path) -> None:
    lossless = open_dataset("cifar10-lossless", root=real_images)
    assert by_ids(lossless, "cifar10-groups").sizes == {
        "train": 2_250, "validation": 250, "query": 500, "database": 3_500,
    }  # fmt: skip
    coco = by_ids(open_dataset("coco", root=real_images), "coco-groups")
    assert coco.sizes == {"train": 3_150, "validation": 350, "query": 668, "database": 5_500}
    assert len(coco.dataset.class_names) == 12
    assert "person" in coco.dataset.class_names
    assert len(coco.dataset.finer_names) == 79
    assert "person" not in coco.dataset.finer_names
    assert coco.dataset.finer is not None
    assert (~coco.dataset.finer[coco.query].any(axis=1)).sum() == 2  # a person and nothing else
    tiny = by_ids(open_dataset("tiny-imagenet", root=real_images), "tiny-imagenet-groups")
    assert tiny.sizes == {"train": 5_400, "validation": 600, "query": 1_000, "database": 14_000}
    assert (len(tiny.dataset.class_names), len(tiny.dataset.finer_names)) == (23, 200)
    assert tiny.dataset.finer is not None
    assert set(tiny.dataset.finer[tiny.query].sum(axis=0)) == {5}
    assert set(tiny.dataset.finer[tiny.train].sum(axis=0)) == {27}
    assert set(tiny.dataset.finer[tiny.database].sum(axis=0)) == {70}


def test_the_jpeg_copy_does_not_pass_for_lossless(real_images: Path) -> None:
    copy = real_images / "cifar10" / "cifar10_jpeg.parquet"
    with pytest.raises(DataError, match="JPEG-coded"):
        by_ids(open_dataset(copy), "cifar10-lossless")


def test_counts_on_the_real_coco_images(real_images: Path) -> None:
    dataset = open_dataset("coco", root=real_images)
    whole = by_ids(dataset, "coco")
    assert whole.sizes == {"train": 3_500, "validation": 500, "query": 500, "database": 5_668}
    without_person = by_ids(dataset, "coco", drop_labels=("person",))
    assert without_person.sizes == {"train": 3_500, "validation": 500, "query": 500, "database": 5_648}
    assert len(without_person.dataset.class_names) == 79
    assert int((~without_person.dataset.labels.any(axis=1)).sum()) == 20


def test_tiny_imagenet_leaves_out_the_seven_queries_that_are_copies(real_images: Path) -> None:
    dataset = open_dataset("tiny-imagenet", root=real_images)
    groups = json.loads((real_images / "tiny_imagenet" / "pixel_duplicate_groups.json").read_text())
    copies = np.flatnonzero(np.isin(dataset.ids, [i for group in groups for i in group]))
    keys = id_keys(dataset.ids).copy()
    keys[copies] = sign(dataset.images, copies).keys
    split = make_split(dataset, "tiny-imagenet", keys=keys)
    assert split.dropped_queries == 7
    assert split.sizes == {"train": 18_000, "validation": 2_000, "query": 9_993, "database": 100_000}


@pytest.fixture(scope="module")
def lists(real_images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lists")
    packed = pa.input_stream(real_images / "label_lists" / "label_lists.tar.zst", compression="zstd")
    with packed, tarfile.open(fileobj=packed, mode="r|") as archive:
        archive.extractall(folder, filter="data")
    return folder / "label_lists"


def by_paths(lists: Dataset, protocol: str) -> RetrievalSplit:
    """A split whose keys are of the listed paths: the images themselves are not public."""
    return make_split(
        lists, protocol, keys=id_keys([i.split("/", 1)[1] for i in lists.ids]), unlabelled="skip"
    )


def test_the_public_coco_lists_leak_every_query_into_the_database(lists: Path) -> None:
    with pytest.raises(
        DataError, match=r"given: 5000 query images are also in the database part \(first: test/"
    ):
        by_paths(load_lists(lists / "hashnet" / "caffe" / "data" / "coco"), "given")


def test_whole_lists_are_taken_as_given(lists: Path) -> None:
    split = by_paths(load_lists(lists / "deephash_pytorch" / "voc2012"), "given")
    assert (split.sizes["query"], split.sizes["database"]) == (1_000, 6_540)
    assert split.sizes["train"] + split.sizes["validation"] == 4_000
    assert not split.trains_on_database


def test_the_unlabelled_images_of_the_mirflickr_lists_are_refused_or_left_out(lists: Path) -> None:
    dataset = load_lists(lists / "deephash_pytorch" / "mirflickr")
    with pytest.raises(DataError, match=r"19 of 1000 images of .* have no label"):
        by_ids(dataset, "given")
    split = by_paths(dataset, "given")
    assert (split.sizes["query"], split.sizes["database"]) == (981, 19_672)
    assert split.sizes["train"] + split.sizes["validation"] == 3_928


@pytest.mark.parametrize("name", ["nuswide_21", "nuswide_21_m"])
def test_the_nuswide_lists_hold_100_queries_and_500_training_images_a_concept(lists: Path, name: str) -> None:
    split = by_paths(load_lists(lists / "deephash_pytorch" / name), "given")
    assert split.sizes["query"] == 2_100
    assert split.sizes["train"] + split.sizes["validation"] == 10_500
    assert min(per_class(split, "query")) >= 100
