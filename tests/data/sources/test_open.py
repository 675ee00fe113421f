from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from anglehash.data.sources.open import SETS, Files, list_images, open_dataset
from anglehash.errors import ConfigError, DataError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("dog/1.png", "cat/2.png", "cat/1.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "labels.csv").write_text("file_name,label\ndog/1.png,dog\ncat/2.png,cat\ncat/1.png,cat\n")
    return tmp_path


def test_a_folder_and_a_manifest_of_it_are_the_same_data(folder: Path) -> None:
    from_folder, from_manifest = open_dataset(folder), open_dataset(str(folder / "labels.csv"))
    assert from_folder.ids == from_manifest.ids == ("cat/1.png", "cat/2.png", "dog/1.png")
    assert from_folder.class_names == from_manifest.class_names
    np.testing.assert_array_equal(from_folder.labels, from_manifest.labels)
    assert isinstance(from_folder.images, Files)


def test_a_table_of_images_comes_sorted_with_its_bytes(folder: Path) -> None:
    table = pa.table({"name": ["b", "a"], "image": [b"B", b"A"], "label": ["x", "y"]})
    pq.write_table(table, folder / "set.parquet")
    data = open_dataset(folder / "set.parquet")
    assert [(i, data.images.read(row)) for row, i in enumerate(data.ids)] == [("a", b"A"), ("b", b"B")]
    assert data.labels.tolist() == [[False, True], [True, False]]


def test_a_parquet_manifest_and_another_table(folder: Path) -> None:
    pq.write_table(pa.table({"file_name": ["cat/1.png"], "label": ["cat"]}), folder / "m.parquet")
    assert open_dataset(folder / "m.parquet").ids == ("cat/1.png",)
    pq.write_table(pa.table({"x": [1]}), folder / "other.parquet")
    with pytest.raises(DataError, match="neither a column 'image' nor 'file_name'"):
        open_dataset(folder / "other.parquet")


def test_root_starts_the_file_names_of_a_manifest(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "labels.csv"
    elsewhere.write_bytes((folder / "labels.csv").read_bytes())
    assert open_dataset(elsewhere, root=str(folder)).images.read(0) == b"cat/1.png"


def test_list_images_needs_no_labels_and_sorts(folder: Path) -> None:
    (folder / "top.png").write_bytes(b"")
    listed = list_images(folder)
    assert listed.ids == ("cat/1.png", "cat/2.png", "dog/1.png", "top.png")
    assert listed.label_names == (("cat",), ("cat",), ("dog",), ())
    (folder / "names.jsonl").write_text('{"file_name": "top.png"}\n{"file_name": "cat/1.png"}\n')
    assert list_images(folder / "names.jsonl").ids == ("cat/1.png", "top.png")
    assert list_images(folder / "labels.csv").class_names == ("cat", "dog")


def test_a_known_name_means_the_set_whatever_is_in_the_working_directory(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "digits" / "cat").mkdir(parents=True)
    (folder / "digits" / "cat" / "1.png").write_bytes(b"")
    monkeypatch.chdir(folder)
    assert len(open_dataset("digits")) == 1797
    assert len(open_dataset("./digits")) == 1
    assert len(open_dataset(Path("digits"))) == 1


def test_a_misspelt_set_gets_a_hint() -> None:
    with pytest.raises(ConfigError, match="did you mean 'cifar10'"):
        open_dataset("cifar")


@pytest.mark.parametrize("name", ["no/such/folder", "absent.csv", "./digitz"])
def test_an_absent_path_is_named(name: str) -> None:
    with pytest.raises(DataError, match="no folder or manifest"):
        open_dataset(name)


def test_other_files_are_refused(folder: Path) -> None:
    (folder / "labels.xlsx").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"\.csv, \.tsv, \.jsonl and \.parquet are read"):
        open_dataset(folder / "labels.xlsx")


@pytest.mark.skipif(os.name != "posix", reason="POSIX file kinds")
def test_a_pipe_is_refused_without_waiting_for_it(folder: Path) -> None:
    os.mkfifo(folder / "pipe.csv")
    (folder / "loop.csv").symlink_to("loop.csv")
    for name in ("pipe.csv", "loop.csv"):
        with pytest.raises(DataError, match="neither a folder nor a regular file"):
            open_dataset(folder / name)


def test_every_set_says_what_it_is_and_where_it_belongs(tmp_path: Path) -> None:
    for name, module in SETS.items():
        assert str(module.__doc__).startswith(f"``{name}``:")
        if name != "digits":
            with pytest.raises(DataError, match=f"^{name} is not here: put .* in {tmp_path}"):
                open_dataset(name, root=tmp_path)


def test_opening_a_folder_loads_neither_pyarrow_nor_scikit_learn(folder: Path) -> None:
    code = (
        "import sys; from anglehash.data.sources.open import open_dataset; open_dataset(sys.argv[1]);"
        "sys.exit(bool({'pyarrow', 'sklearn', 'torch'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code, str(folder)], check=True)


def test_patterns_leave_images_out_of_tables_and_known_sets(folder: Path) -> None:
    (folder / "labels.csv").write_text("file_name,label\na.png,x\nb.png,y\ngone.png,y\n")
    for name in ("a.png", "b.png"):
        (folder / name).write_bytes(b"x")
    data = open_dataset(folder / "labels.csv", exclude=["b.*", "gone.png"])
    assert (data.ids, data.problems) == (("a.png",), ())
    digits = open_dataset("digits")
    assert open_dataset("digits", exclude=[digits.ids[0]]).ids == digits.ids[1:]
