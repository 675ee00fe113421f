from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from anglehash.data.sources.lists import load_lists
from anglehash.errors import DataError, ImageError


def write(folder: Path, **lists: str) -> Path:
    for name, text in lists.items():
        (folder / f"{name}.txt").write_text(text)
    return folder


def test_lists_become_rows_with_parts(tmp_path: Path) -> None:
    write(tmp_path, train="images/a.jpg 0 1 0\n./b.jpg 1 1 0\n", test="c.jpg 0 0 0\n", notes="not a list")
    data = load_lists(tmp_path)
    assert data.ids == ("test/c.jpg", "train/images/a.jpg", "train/b.jpg")
    assert data.parts.tolist() == ["test", "train", "train"]
    assert data.labels.astype(int).tolist() == [[0, 0, 0], [0, 1, 0], [1, 1, 0]]
    assert data.class_names == ("0", "1", "2")
    assert data.facts["lists"] == ["test.txt", "train.txt"]


def test_images_are_read_below_the_folder_only(tmp_path: Path) -> None:
    (tmp_path / "b.jpg").write_bytes(b"x")
    data = load_lists(write(tmp_path, train="./b.jpg 1\n/etc/hostname 1\n"))
    assert data.images.read(0) == b"x"
    with pytest.raises(ImageError, match="unreadable-file"):
        data.images.read(1)


def test_numbered_pieces_are_one_list(tmp_path: Path) -> None:
    (tmp_path / "test").mkdir()
    write(tmp_path / "test", database0="a 1 0\n", database1="b 0 1\n", test0="c 1 1\n")
    write(tmp_path, train="d 1 0\n")
    data = load_lists(tmp_path)
    assert sorted(zip(data.ids, data.parts.tolist(), strict=True)) == [
        ("database/a", "database"),
        ("database/b", "database"),
        ("test/c", "test"),
        ("train/d", "train"),
    ]


def test_an_image_in_two_lists_is_two_rows_and_counted(tmp_path: Path) -> None:
    data = load_lists(
        write(tmp_path, train="a 1 0\nb 0 1\n", database="a 1 0\nb 0 1\nc 1 0\n", test="c 1 0\n")
    )
    assert len(data) == 6
    assert data.facts["in_several_lists"] == {"database + train": 2, "database + test": 1}


def test_a_repeated_line_counts_once(tmp_path: Path) -> None:
    assert len(load_lists(write(tmp_path, train="a 1 0\nb 1 1\na 1 0\n"))) == 2


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ("", "has no list"),
        ("a 1 0\nb 1\n", "line 2: no list line"),
        ("a 1 0\nb 1 2\n", "line 2: no list line"),
        ("a 10 1\n", "line 1: no list line"),
        ("a\n", "line 1: no list line"),
        ("../a 1 0\n", "line 1: no list line"),
        ("a 1 0\na 0 1\n", "line 2: contradiction"),
    ],
)
def test_malformed_lists(tmp_path: Path, train: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_lists(write(tmp_path, train=train))


def test_lists_of_different_widths_do_not_mix(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="2 and 3 classes"):
        load_lists(write(tmp_path, train="a 1 0\n", test="b 1 0 1\n"))


@pytest.fixture(scope="module")
def label_lists(real_images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The published lists, unpacked."""
    if not (shutil.which("tar") and shutil.which("zstd")):
        pytest.skip("tar and zstd unpack the lists")
    folder = tmp_path_factory.mktemp("lists")
    archive = real_images / "label_lists" / "label_lists.tar.zst"
    subprocess.run(["tar", "--zstd", "-xf", archive, "-C", folder], check=True)
    return folder / "label_lists"


@pytest.mark.parametrize(
    ("lists", "parts", "classes"),
    [
        ("deephash_pytorch/nuswide_21", {"train": 10_500, "test": 2_100}, 21),
        ("deephash_pytorch/nuswide_81_m", {"train": 10_000, "test": 5_000}, 81),
        ("deephash_pytorch/mirflickr", {"train": 4_000, "test": 1_000, "database": 20_000}, 38),
        ("hashnet/pytorch/data/nuswide_81", {"train": 10_000, "test": 5_000}, 81),
    ],
)
def test_published_lists(label_lists: Path, lists: str, parts: dict[str, int], classes: int) -> None:
    data = load_lists(label_lists / lists)
    names, counts = np.unique(data.parts, return_counts=True)
    assert dict(zip(names.tolist(), counts.tolist(), strict=True)) == parts
    assert data.labels.shape == (sum(parts.values()), classes)
    assert data.multi_label


def test_the_published_lists_of_coco_search_every_query(label_lists: Path) -> None:
    data = load_lists(label_lists / "hashnet" / "caffe" / "data" / "coco")
    assert len(data) == 127_218
    assert data.facts["in_several_lists"] == {"database + test": 5_000}
