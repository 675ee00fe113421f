from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from anglehash.data.sources.folders import list_folder, read_folder
from anglehash.data.sources.open import open_dataset
from anglehash.errors import ConfigError, DataError

GIF = b"GIF89a" + bytes(20)


def make(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(GIF)


def test_top_folders_are_classes_however_deep_the_images_are(tmp_path: Path) -> None:
    make(tmp_path, "dog/1.png", "cat/a/b/2.png", "cat/1.png")
    data = read_folder(tmp_path)
    assert data.class_names == ("cat", "dog")
    assert data.ids == ("cat/1.png", "cat/a/b/2.png", "dog/1.png")
    assert data.labels.tolist() == [[True, False], [True, False], [False, True]]
    assert data.parts.tolist() == ["", "", ""]
    assert data.images.read(2) == GIF


def test_an_image_in_no_class_folder_is_reported(tmp_path: Path) -> None:
    make(tmp_path, "cat/1.png", "dog/1.png", "stray.png")
    data = read_folder(tmp_path)
    assert len(data) == 2
    assert [(p.id, p.reason) for p in data.problems] == [("stray.png", "no-class")]


def test_a_class_folder_without_images_makes_no_class(tmp_path: Path) -> None:
    make(tmp_path, "cat/1.png", "dog/1.png")
    (tmp_path / "eel").mkdir()
    data = read_folder(tmp_path)
    assert data.class_names == ("cat", "dog")
    assert data.facts["empty_classes"] == ["eel"]


@pytest.mark.parametrize("val", ["val", "validation", "Validation"])
def test_folders_named_like_parts_bring_the_split(tmp_path: Path, val: str) -> None:
    make(
        tmp_path, "train/cat/1.png", "train/dog/1.png", f"{val}/cat/2.png", "query/dog/x/3.png", "query/4.png"
    )
    (tmp_path / "database" / "eel").mkdir(parents=True)
    data = read_folder(tmp_path)
    assert data.class_names == ("cat", "dog")
    by_id = dict(zip(data.ids, data.parts.tolist(), strict=True))
    assert by_id == {
        f"{val}/cat/2.png": "validation",
        "query/dog/x/3.png": "query",
        "train/cat/1.png": "train",
        "train/dog/1.png": "train",
    }
    assert data.labels[data.ids.index("query/dog/x/3.png")].tolist() == [False, True]
    assert [p.id for p in data.problems] == ["query/4.png"]
    assert data.facts["empty_classes"] == ["eel"]


def test_one_further_folder_makes_parts_into_classes(tmp_path: Path) -> None:
    make(tmp_path, "train/1.png", "bus/1.png")
    data = read_folder(tmp_path)
    assert data.class_names == ("bus", "train")
    assert set(data.parts) == {""}


def test_images_without_class_folders_are_explained(tmp_path: Path) -> None:
    make(tmp_path, "1.png", "2.png")
    with pytest.raises(DataError, match="2 images but no class folders"):
        read_folder(tmp_path)


def test_an_empty_folder_is_explained(tmp_path: Path) -> None:
    (tmp_path / "readme.md").write_text("nothing here")
    for read in (read_folder, list_folder):
        with pytest.raises(DataError, match="no image below"):
            read(tmp_path)


def test_a_folder_of_refused_files_names_the_first(tmp_path: Path) -> None:
    make(tmp_path, "cat/a.heic")
    with pytest.raises(DataError, match=r"'cat/a\.heic', unsupported-format"):
        read_folder(tmp_path)


def test_list_folder_takes_any_shape_and_labels_what_is_in_a_class_folder(tmp_path: Path) -> None:
    make(tmp_path, "top.png", "a/b/c.png", "train/1.png")
    data = list_folder(tmp_path)
    assert data.ids == ("a/b/c.png", "top.png", "train/1.png")
    assert data.label_names == (("a",), (), ("train",))
    assert data.labels.dtype == np.bool_
    assert set(data.parts) == {""}


# --- parts and classes -----------------------------------------------------------------------------------


def grid(root: Path, tops: tuple[str, ...], classes: tuple[str, ...] = ("cat", "dog")) -> None:
    make(root, *(f"{top}/{name}/{n}.png" for top in tops for name in classes for n in range(2)))


@pytest.mark.parametrize(
    ("tops", "parts"),
    [
        (("train", "valid", "test"), {"train", "validation", "test"}),
        (("training", "testing"), {"train", "test"}),
        (("train", "query", "gallery"), {"train", "query", "database"}),
        (("train", "dev", "test"), {"train", "validation", "test"}),
        (("training_set", "test_set"), {"train", "test"}),
        (("train2014", "val2014"), {"train", "validation"}),
        (("Train", "Probe", "Gallery"), {"train", "query", "database"}),
        (("train",), {"train"}),
    ],
)
@pytest.mark.parametrize("outer", ["", "flowers", "flowers-main/flowers"])
def test_the_usual_names_of_parts_are_known(
    tmp_path: Path, tops: tuple[str, ...], parts: set[str], outer: str
) -> None:
    grid(tmp_path / outer, tops)
    for data in (read_folder(tmp_path), list_folder(tmp_path)):
        assert data.class_names == ("cat", "dog")
        assert set(data.parts) == parts
        assert all(name.startswith(outer) for name in data.ids)


@pytest.mark.parametrize("outer", ["flowers", "flowers-main/flowers"])
def test_one_folder_around_everything_is_not_class(tmp_path: Path, outer: str) -> None:
    make(tmp_path / outer, "rose/1.png", "tulip/a/2.png", "tulip/3.png")
    assert read_folder(tmp_path).class_names == list_folder(tmp_path).class_names == ("rose", "tulip")


def test_a_single_class_is_one(tmp_path: Path) -> None:
    make(tmp_path, "cat/a/1.png", "cat/2.png", "cat/b/3.png")
    assert read_folder(tmp_path).class_names == ("cat",)


@pytest.mark.parametrize(
    "tops", [("train", "test", "extra"), ("train", "holdout"), ("fold1", "fold2", "fold3"), ("2023", "2024")]
)
def test_what_may_be_parts_or_classes_is_refused_until_one_says(
    tmp_path: Path, tops: tuple[str, ...]
) -> None:
    grid(tmp_path, tops)
    with pytest.raises(
        DataError, match=r"may be classes, or parts .* cat, dog .*--layout classes or --layout parts"
    ):
        open_dataset(tmp_path)
    assert open_dataset(tmp_path, layout="classes").class_names == tuple(sorted(tops))
    data = open_dataset(tmp_path, layout="parts")
    assert data.class_names == ("cat", "dog")
    assert set(data.parts) <= {"train", "test", ""}
    list_folder(tmp_path)  # takes any shape


def test_parts_without_class_folders_are_no_classes(tmp_path: Path) -> None:
    make(tmp_path, "train/1.png", "test/1.png", "extra/1.png")
    with pytest.raises(DataError, match="without class folders"):
        read_folder(tmp_path)


def test_folders_of_classes_may_have_a_name_in_common(tmp_path: Path) -> None:
    make(tmp_path, "cat/images/1.png", "dog/images/1.png", "eel/images/1.png", "eel/young/1.png")
    assert read_folder(tmp_path).class_names == ("cat", "dog", "eel")


def test_another_layout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="layout"):
        open_dataset(tmp_path, layout="splits")
