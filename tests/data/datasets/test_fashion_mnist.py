from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from anglehash.data.datasets.fashion_mnist import CLASS_NAMES, FOLDER, load
from anglehash.errors import DataError

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 28, 28), dtype=np.uint8)
LABELS = np.array([9, 0, 3, 3, 7], dtype=np.uint8)


def idx(array: NDArray[np.uint8]) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write(root: Path, files: dict[str, bytes] | None = None, *, packed: bool = True) -> Path:
    contents = {
        "train_images_idx3": idx(IMAGES[:3]),
        "train_labels_idx1": idx(LABELS[:3]),
        "t10k_images_idx3": idx(IMAGES[3:]),
        "t10k_labels_idx1": idx(LABELS[3:]),
    } | (files or {})
    for name, data in contents.items():
        file = root / f"{name.replace('_', '-')}-ubyte{'.gz' if packed else ''}"
        file.write_bytes(gzip.compress(data) if packed else data)
    return root


@pytest.mark.parametrize("packed", [True, False])
def test_idx_files(tmp_path: Path, packed: bool) -> None:
    data = load(write(tmp_path, packed=packed))
    assert data.parts.tolist() == ["train"] * 3 + ["test"] * 2
    assert data.labels.argmax(axis=1).tolist() == LABELS.tolist()
    assert data.ids == tuple(
        f"fashion-mnist/{p}/{i}" for p, i in zip(data.parts, [0, 1, 2, 0, 1], strict=True)
    )
    for row, grey in enumerate(IMAGES):
        np.testing.assert_array_equal(data.images.read(row), np.repeat(grey[..., None], 3, axis=2))


@pytest.mark.parametrize(
    "damage",
    [
        {"train_images_idx3": b""},
        {"train_images_idx3": idx(IMAGES[:3])[:-1]},
        {"train_images_idx3": idx(IMAGES[:3]) + b"!"},
        {"train_images_idx3": idx(IMAGES[:3, :14])},
        {"train_images_idx3": idx(LABELS[:3])},
        {"train_labels_idx1": idx(IMAGES[:3])},
        {"train_labels_idx1": b"\0\0\x0d\x01" + idx(LABELS[:3])[4:]},  # float
        {"train_labels_idx1": struct.pack(">4BI", 0, 0, 8, 1, 0)},
    ],
)
def test_other_contents_are_refused(tmp_path: Path, damage: dict[str, bytes]) -> None:
    with pytest.raises(DataError, match="is not the IDX file of that name"):
        load(write(tmp_path, damage))


def test_labels_that_do_not_match_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="as many labels as images"):
        load(write(tmp_path, {"t10k_labels_idx1": idx(LABELS)}))


def test_a_damaged_or_absent_file_is_named(tmp_path: Path) -> None:
    path = write(tmp_path) / "t10k-images-idx3-ubyte.gz"
    whole = path.read_bytes()
    for data in (whole[:-20], b"junk", whole[:40] + bytes(20) + whole[60:]):
        path.write_bytes(data)
        with pytest.raises(DataError, match=r"t10k-images-idx3-ubyte\.gz is damaged"):
            load(tmp_path)
    path.unlink()
    with pytest.raises(DataError, match="has no t10k-images-idx3-ubyte"):
        load(tmp_path)


def test_the_file_that_tells_that_the_set_is_there_is_fetched_last() -> None:
    assert FOLDER.remotes[-1].name == FOLDER.files[0]


def test_the_packaged_files_where_they_are() -> None:
    (place,) = FOLDER.also
    if not place.is_dir():
        pytest.skip(f"no {place}: install dataset-fashion-mnist to run this")
    data = load(place)
    assert len(data) == 70_000
    assert data.labels.sum(axis=0).tolist() == [7_000] * len(CLASS_NAMES)
