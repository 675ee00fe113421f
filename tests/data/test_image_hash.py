from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from anglehash.data.dataset import Arrays, Dataset, Encoded
from anglehash.data.image_hash import as_items, check_keys, id_keys, key_of, readable, sign
from anglehash.data.images.decoding import pixel_key
from anglehash.errors import DataError

PHOTO = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)


def encoded(pixels: NDArray[np.uint8], file_format: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, file_format)
    return buffer.getvalue()


def test_files_of_other_formats_with_the_same_pixels_have_the_key_of_the_pixels() -> None:
    blobs = [encoded(PHOTO, name) for name in ("PNG", "BMP", "TIFF")]
    assert len(set(blobs)) == 3
    assert {key_of(blob) for blob in blobs} == {key_of(PHOTO)} == {pixel_key(PHOTO)}


def test_a_grey_array_has_the_key_of_its_file() -> None:
    grey = np.ascontiguousarray(PHOTO[:, :, 0])
    assert key_of(grey) == key_of(encoded(grey, "PNG"))


@pytest.mark.parametrize("change", ["one pixel", "size"])
def test_another_picture_has_another_key(change: str) -> None:
    other = PHOTO.copy() if change == "one pixel" else PHOTO.reshape(12, 9, 3)
    if change == "one pixel":
        other[3, 4, 1] ^= 1
    assert key_of(other) != key_of(PHOTO)


def test_keys_follow_the_rows_that_are_asked_for() -> None:
    pictures = [np.full((8, 8, 3), shade, dtype=np.uint8) for shade in range(5)]
    keys, _, problems = sign(Arrays(pictures), np.array([3, 1]))
    assert problems == []
    assert [bytes(key) for key in keys] == [pixel_key(pictures[3]), pixel_key(pictures[1])]


def damaged_set() -> Dataset:
    blobs = [encoded(np.roll(PHOTO, shift, axis=0), "PNG") for shift in range(6)]
    blobs[1], blobs[4] = b"", b"<html>"
    ids = tuple(f"{row}.png" for row in range(6))
    labels = np.eye(6, 2, dtype=np.bool_)
    return Dataset("damaged", ids, Encoded(blobs), labels, ("a", "b"), np.full(6, "train"))


def test_unreadable_images_become_problems_and_shift_nobody() -> None:
    dataset = damaged_set()
    good, keys, signatures = readable(dataset)
    assert good.ids == ("0.png", "2.png", "3.png", "5.png")
    assert [problem.id for problem in good.problems] == ["1.png", "4.png"]
    assert all(problem.reason for problem in good.problems)
    assert good.labels.tolist() == dataset.labels[[0, 2, 3, 5]].tolist()
    assert [bytes(key) for key in keys] == [key_of(good.images.read(row)) for row in range(4)]
    assert signatures["bytes"].tolist() == [len(good.images.read(row)) for row in range(4)]


def test_a_readable_data_set_is_returned_as_it_is(synthetic: Callable[..., Dataset]) -> None:
    dataset = synthetic([0, 1])
    assert readable(dataset)[0] is dataset


def test_id_keys_are_the_sha256_of_the_ids() -> None:
    keys = id_keys(["a/ü.png", "b.png"])
    assert bytes(keys[0]) == hashlib.sha256("a/ü.png".encode()).digest()
    assert keys.shape == (2, 32)
    assert id_keys([]).shape == (0, 32)


def test_items_compare_whole_rows_including_zero_bytes() -> None:
    rows = np.array([[1, 0, 0], [1, 0, 0], [1, 0, 1], [0, 0, 0]], dtype=np.uint8)
    _, inverse = np.unique(as_items(rows), return_inverse=True)
    assert inverse.tolist() == [1, 1, 2, 0]


@pytest.mark.parametrize(
    "keys", [np.zeros((3, 32)), np.zeros((2, 32), np.uint8), np.zeros((3, 31), np.uint8)]
)
def test_keys_of_another_shape_are_refused(keys: NDArray[np.uint8]) -> None:
    with pytest.raises(DataError, match=r"keys must be uint8 of shape \(3, 32\)"):
        check_keys(keys, 3)


def test_the_largest_image_is_a_setting_of_keys(tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.linear_gradient("L").convert("RGB").save(file, "PNG")  # 256 x 256
    images = Encoded([file.getvalue()])
    for _ in range(2):  # computed, and from the cache
        assert not sign(images, cache=tmp_path).problems
        assert [p[1] for p in sign(images, max_pixels=65_535, cache=tmp_path).problems] == ["too-large"]
        assert not sign(images, max_pixels=65_536, cache=tmp_path).problems
