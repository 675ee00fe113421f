from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from anglehash.data.dataset import Dataset
from anglehash.data.sources.parquet import column_names, read_images, read_metadata, read_table
from anglehash.errors import DataError

BYTES = [b"one", b"two", b"three"]


def write(folder: Path, metadata: dict[str, str] | None = None, **columns: Any) -> Path:
    table = pa.table({"image": BYTES} | columns)
    if metadata:
        table = table.replace_schema_metadata(metadata)
    path = folder / "set.parquet"
    pq.write_table(table, path, row_group_size=2)
    return path


def labels(data: Dataset) -> list[set[str]]:
    return [{data.class_names[c] for c in row.nonzero()[0]} for row in data.labels]


def test_bytes_ids_labels_and_parts(tmp_path: Path) -> None:
    path = write(tmp_path, path=["x/1", "x/2", "y/3"], label=["a|b", "", None], split=["train", "val", ""])
    data = read_images(path)
    assert data.ids == ("x/1", "x/2", "y/3")
    assert [data.images.read(row) for row in range(3)] == BYTES
    assert labels(data) == [{"a", "b"}, set(), set()]
    assert data.parts.tolist() == ["train", "validation", ""]


def test_ids_without_a_name_count_in_each_part(tmp_path: Path) -> None:
    path = write(tmp_path, label=["a", "a", "a"], split=["train", "query", "train"])
    assert read_images(path).ids == ("set/train/0", "set/query/0", "set/train/1")
    assert read_images(write(tmp_path, label=["a"] * 3)).ids == ("set/0", "set/1", "set/2")


def test_hugging_face_structs_and_names(tmp_path: Path) -> None:
    images = [{"bytes": data, "path": "image.png"} for data in BYTES]
    features = {"info": {"features": {"label": {"names": ["cat", "dog", "eel"], "_type": "ClassLabel"}}}}
    path = write(tmp_path, {"huggingface": json.dumps(features)}, image=images, label=[2, 0, -1])
    data = read_images(path)
    assert data.class_names == ("cat", "dog", "eel")
    assert labels(data) == [{"eel"}, {"cat"}, set()]
    assert [data.images.read(row) for row in range(3)] == BYTES


def test_numbered_labels_with_names_in_the_metadata(tmp_path: Path) -> None:
    path = write(tmp_path, {"label_names": '["z", "a"]'}, label_ids=[[0, 1], [], [1]])
    data = read_images(path)
    assert data.class_names == ("z", "a")  # the order of the numbers
    assert labels(data) == [{"z", "a"}, set(), {"a"}]


def test_numbered_labels_with_names_in_a_column(tmp_path: Path) -> None:
    data = read_images(write(tmp_path, label=[10, 2, 10], class_name=["cat", "dog", "cat"]))
    assert data.class_names == ("dog", "cat")
    with pytest.raises(DataError, match="class 10 is named 'cat' and 'cow'"):
        read_images(write(tmp_path, label=[10, 2, 10], class_name=["cat", "dog", "cow"]))


def test_numbered_labels_without_names_sort_as_numbers(tmp_path: Path) -> None:
    assert read_images(write(tmp_path, label=[10, 2, 10])).class_names == ("2", "10")


def test_a_null_image_is_empty_and_decodes_to_a_problem(tmp_path: Path) -> None:
    data = read_images(write(tmp_path, image=[b"x", None, b"y"], label=["a", "b", "a"]))
    assert data.images.read(1) == b""


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({}, "no column 'label' or 'label_ids'"),
        ({"label": [1.0, 2.5, 3.0]}, "column 'label': a label is a text"),
        ({"label": ["a"] * 3, "image": ["x", "y", "z"]}, "'image' must hold bytes"),
        ({"label": ["a"] * 3, "image": [{"path": "x"}] * 3}, "'image' must hold bytes"),
        ({"label": ["a"] * 3, "split": ["train", "all", "all"]}, "unknown split 'all'"),
        ({"label": ["a"] * 3, "path": ["p", "q", "p"]}, "'p' is the path of several rows"),
        ({"label": ["a"] * 3, "name": ["p", None, "q"]}, "row 2 has no name"),
        ({"label": [0, 1, 2], "class_name": ["a", "b", "b"]}, "two class numbers have one name"),
        ({"label": [0, 1, 2], "class_name": ["a", "b", None]}, "class 2 has no name"),
    ],
)
def test_unusable_tables(tmp_path: Path, columns: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_images(write(tmp_path, **columns))


def test_a_number_beyond_the_names_in_the_metadata_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="class 2 has no name; 2 classes have one"):
        read_images(write(tmp_path, {"label_names": '["z", "a"]'}, label=[0, 1, 2]))


def test_images_without_labels_where_none_are_needed(tmp_path: Path) -> None:
    assert read_images(write(tmp_path), labelled=False).labels.shape == (3, 0)


@pytest.mark.parametrize("data", [b"", b"not parquet at all", b"PAR1" + bytes(200) + b"PAR1"])
def test_damage_is_one_line_with_the_name(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x.parquet"
    path.write_bytes(data)
    for read in (column_names, read_table, lambda p: read_metadata(p, "names")):
        with pytest.raises(DataError, match=r"^.*x\.parquet cannot be read as Parquet") as caught:
            read(path)
        assert "\n" not in str(caught.value)


def test_every_cut_of_a_table_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, label=["a", "b", "a"])
    whole = path.read_bytes()
    for end in range(0, len(whole), 97):
        path.write_bytes(whole[:end])
        with pytest.raises(DataError):
            read_images(path)


def test_an_absent_file_stays_the_systems_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_table(tmp_path / "gone.parquet")


def test_a_missing_column_or_key_is_named(tmp_path: Path) -> None:
    path = write(tmp_path)
    with pytest.raises(DataError, match="no column 'split'"):
        read_table(path, ["image", "split"])
    with pytest.raises(DataError, match="no list 'names'"):
        read_metadata(path, "names")


def test_a_column_of_a_table_of_images_may_hold_the_finer_label(tmp_path: Path) -> None:
    path = write(tmp_path, path=["x", "y", "z"], label=["a", "b", "a"], kind=[7, None, 8])
    data = read_images(path, finer_label="kind")
    assert data.finer_names == ("7", "8")
    assert data.finer is not None
    assert data.finer.tolist() == [[True, False], [False, False], [False, True]]
    with pytest.raises(DataError, match="has no column 'color' for the finer label"):
        read_images(path, finer_label="color")
    wrong = write(tmp_path, path=["x", "y", "z"], label=["a", "b", "a"], kind=[7.5, None, 8.5])
    with pytest.raises(DataError, match="column 'kind': a label is"):
        read_images(wrong, finer_label="kind")
