from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anglehash.data.dataset import PARTS, Arrays, Dataset
from anglehash.data.image_hash import id_keys, readable
from anglehash.data.split import RetrievalSplit, only_held_out
from anglehash.errors import DataError

Make = Callable[..., Dataset]

ROWS = {"train": [0, 1], "validation": [2], "query": [3, 4], "database": [0, 1, 2, 5]}


def split_of(dataset: Dataset, **changes: Any) -> RetrievalSplit:
    dataset, keys, _ = readable(dataset)
    return RetrievalSplit(**{"dataset": dataset, "keys": keys, "protocol": "mine", **ROWS, **changes})


@pytest.fixture
def dataset(synthetic: Make) -> Dataset:
    return synthetic([0, 1, 0, 1, 0, 1])


def test_rows_become_int64_and_sizes_are_counted(dataset: Dataset) -> None:
    split = split_of(dataset)
    assert all(split.part(name).dtype == np.int64 for name in PARTS)
    assert split.sizes == {"train": 2, "validation": 1, "query": 2, "database": 4}


@pytest.mark.parametrize("part", ["train", "validation", "database"])
def test_a_query_that_is_elsewhere_by_its_pixels_is_refused(synthetic: Make, part: str) -> None:
    alone = {"train": [0], "validation": [2], "query": [3, 4], "database": [5]} | {part: [1]}
    twins = synthetic([0, 1, 0, 1, 0, 1], images=[0, 7, 2, 3, 7, 5])  # 1 and 4 have the same pixels
    with pytest.raises(
        DataError, match=rf"1 query images are also in the {part} part \(first: 000004\.png\)"
    ):
        split_of(twins, **alone)
    assert split_of(synthetic([0, 1, 0, 1, 0, 1]), **alone)


def test_the_same_row_in_query_and_database_is_refused(dataset: Dataset) -> None:
    with pytest.raises(DataError, match="2 query images are also in the database"):
        split_of(dataset, database=[3, 4, 5])


@pytest.mark.parametrize(("changes", "message"), [
    ({"train": [0, 2]}, r"1 training images are also in validation \(first: 000002\.png\)"),
    ({"query": []}, "the query part is empty"),
    ({"query": [], "dropped_queries": 3}, "3 drawn queries were copies"),
    ({"database": []}, "the database part is empty"),
    ({"train": [0, 6]}, r"the train part names rows outside 0\.\.5"),
    ({"train": [-1]}, r"outside 0\.\.5"),
    ({"query": [3, 3]}, "the query part names 1 rows twice"),
    ({"keys": np.zeros((5, 32), np.uint8)}, "keys must be"),
])  # fmt: skip
def test_what_cannot_be_evaluated_is_refused(dataset: Dataset, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        split_of(dataset, **changes)


def test_training_and_validation_may_be_empty(dataset: Dataset) -> None:
    assert split_of(dataset, train=[], validation=[]).sizes["train"] == 0


def test_it_tells_whether_database_labels_are_used_in_training(dataset: Dataset) -> None:
    assert split_of(dataset).trains_on_database
    assert split_of(dataset, database=[2]).trains_on_database  # validation chooses the epochs
    assert not split_of(dataset, database=[5]).trains_on_database


def test_the_hash_ignores_names_places_and_orders(synthetic: Make) -> None:
    dataset = synthetic(np.array([[1, 0], [1, 1], [0, 1], [1, 1], [1, 0], [0, 1]], dtype=np.bool_))
    order = np.array([5, 3, 0, 1, 4, 2])
    place = np.argsort(order)
    moved = replace(
        dataset.select(order),
        name="/elsewhere",
        ids=tuple("abcdef"),
        class_names=("c1", "c0"),
        labels=dataset.labels[order][:, ::-1],
    )
    moved_rows = {name: place[rows][::-1] for name, rows in ROWS.items()}
    assert split_of(moved, **moved_rows).hash == split_of(dataset).hash


@pytest.mark.parametrize("changes", [
    {"protocol": "other"}, {"seed": 1}, {"train": [0]}, {"database": [0, 1, 5]},
    {"train": [0, 2], "validation": [1]},
])  # fmt: skip
def test_the_hash_tells_other_splits_apart(dataset: Dataset, changes: dict[str, Any]) -> None:
    assert split_of(dataset, **changes).hash != split_of(dataset).hash


def test_the_hash_tells_other_pixels_and_labels_apart(synthetic: Make) -> None:
    hashes = {
        split_of(synthetic(labels, images=images, class_names=names)).hash
        for labels, images, names in [
            ([0, 1, 0, 1, 0, 1], None, None),
            ([0, 1, 0, 1, 0, 0], None, None),
            ([0, 1, 0, 1, 0, 1], [0, 1, 2, 3, 4, 9], None),
            ([0, 1, 0, 1, 0, 1], None, ["c0", "x"]),
        ]
    }
    assert len(hashes) == 4


def test_the_hash_is_made_of_these_bytes(dataset: Dataset) -> None:
    # Saved splits and published results carry it: a change of its definition breaks all of them.
    split = split_of(dataset, seed=7)
    digest = hashlib.sha256(hashlib.sha256(b'["anglehash-split",1,"mine",7]').hexdigest().encode())
    for name in ("train", "validation", "query", "database"):
        images = sorted(
            bytes(split.keys[row]) + hashlib.sha256(b'["c1"]' if row % 2 else b'["c0"]').digest()
            for row in ROWS[name]
        )
        digest.update(f"{name}:{len(images)}:".encode() + b"".join(images))
    assert split.hash == digest.hexdigest()


def test_a_saved_split_comes_back(dataset: Dataset, tmp_path: Path) -> None:
    split = split_of(
        dataset, seed=3, rank_cuts=(1000, None), dropped_queries=2, unlabelled="skip", options={"draw": 1}
    )
    split.save(tmp_path / "split.json")
    loaded = RetrievalSplit.load(tmp_path / "split.json", dataset)
    assert loaded.hash == split.hash
    for name in PARTS:
        assert loaded.part(name).tolist() == split.part(name).tolist()
    for name in ("protocol", "seed", "rank_cuts", "dropped_queries", "held_out", "unlabelled", "options"):
        assert getattr(loaded, name) == getattr(split, name)


def test_it_comes_back_over_data_that_grew_and_with_given_keys(synthetic: Make, tmp_path: Path) -> None:
    small, grown = synthetic([0, 1, 0, 1, 0, 1]), synthetic([0, 1, 0, 1, 0, 1, 2, 2])
    split_of(small, keys=id_keys(small.ids)).save(tmp_path / "split.json")
    loaded = RetrievalSplit.load(tmp_path / "split.json", grown, keys=id_keys(grown.ids))
    assert loaded.dataset.class_names == ("c0", "c1")
    assert len(loaded.dataset) == 6


def test_a_changed_image_or_label_is_noticed(synthetic: Make, dataset: Dataset, tmp_path: Path) -> None:
    split_of(dataset).save(tmp_path / "split.json")
    changed = [
        synthetic([0, 1, 0, 1, 0, 1], images=[0, 1, 2, 3, 4, 9]),
        synthetic([0, 1, 0, 1, 0, 0]),
    ]
    for data in changed:
        with pytest.raises(DataError, match="have changed since the split was saved"):
            RetrievalSplit.load(tmp_path / "split.json", data)


def test_a_missing_image_is_named(synthetic: Make, dataset: Dataset, tmp_path: Path) -> None:
    split_of(dataset).save(tmp_path / "split.json")
    with pytest.raises(DataError, match=r"1 of 6 images of the split are not in .*\(first: 000005\.png\)"):
        RetrievalSplit.load(tmp_path / "split.json", dataset.select(range(5)))


@pytest.mark.parametrize(("edit", "message"), [
    (lambda m: "{", "not a split manifest: it is not JSON"),
    (lambda m: json.dumps([m]), "not a split manifest: its format"),
    (lambda m: json.dumps(m | {"format": "model"}), "not a split manifest: its format"),
    (lambda m: json.dumps(m | {"version": 99}), "a split of version 99"),
    (lambda m: json.dumps(m | {"seed": "0"}), "damaged split manifest: seed"),
    (lambda m: json.dumps({k: v for k, v in m.items() if k != "hash"}), "damaged split manifest: hash"),
    (lambda m: json.dumps(m | {"parts": {"train": []}}), "damaged split manifest: validation, query"),
    (lambda m: json.dumps(m | {"held_out": [1]}), "damaged split manifest: held_out"),
])  # fmt: skip
def test_a_damaged_or_foreign_manifest_is_refused(
    dataset: Dataset, tmp_path: Path, edit: Callable[[dict[str, Any]], str], message: str
) -> None:
    path = tmp_path / "split.json"
    split_of(dataset).save(path)
    path.write_text(edit(json.loads(path.read_text())))
    with pytest.raises(DataError, match=message):
        RetrievalSplit.load(path, dataset)


def test_an_image_with_a_held_out_class_counts_for_nothing_else() -> None:
    hot = np.array([[1, 1, 0], [1, 0, 1], [0, 0, 1], [1, 0, 0]], dtype=np.bool_)
    pixels = Arrays(np.zeros((4, 8, 8, 3), np.uint8))
    dataset = Dataset("d", tuple("abcd"), pixels, hot, ("person", "cat", "dog"), np.full(4, ""))
    expected = [[0, 1, 0], [1, 0, 1], [0, 0, 1], [1, 0, 0]]
    assert only_held_out(dataset, ("cat",)).labels.astype(int).tolist() == expected
    assert only_held_out(dataset, ()) is dataset


def test_held_out_classes_survive_saving(synthetic: Make, tmp_path: Path) -> None:
    hot = np.array([[1, 0], [1, 0], [1, 0], [1, 1], [1, 1], [0, 1]], dtype=np.bool_)
    dataset = only_held_out(synthetic(hot), ("c1",))
    split_of(dataset, held_out=("c1",), database=[5]).save(tmp_path / "split.json")
    loaded = RetrievalSplit.load(tmp_path / "split.json", synthetic(hot))
    assert loaded.held_out == ("c1",)
    assert loaded.dataset.labels[loaded.query].tolist() == [[False, True], [False, True]]
