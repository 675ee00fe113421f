"""Image keys: what it means that two images are the same.

The key of an image is the sha256 of its size and its decoded RGB pixels, upright: two files with the same
pixels have the same key, whatever their names and formats. Keys are ``(n, 32)`` ``uint8``, a row an image.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anglehash.data.dataset import Dataset, ImageStore, Problem
from anglehash.data.images import decode, pixel_key
from anglehash.data.workers import map_images
from anglehash.errors import DataError, ImageError

Keys = NDArray[np.uint8]  # (n, 32)

KEY_BYTES = 32


def key_of(data: bytes | NDArray[np.uint8]) -> bytes:
    """The key of one image, encoded or already pixels."""
    return pixel_key(decode(data).pixels if isinstance(data, bytes) else _rgb(data))


def _rgb(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Grey pixels as RGB, so that a grey array and its file have one key."""
    return np.repeat(pixels[:, :, None], 3, axis=2) if pixels.ndim == 2 else pixels


def pixel_keys(
    images: ImageStore, rows: NDArray[np.integer[Any]] | None = None
) -> tuple[Keys, list[tuple[int, str, str]]]:
    """The keys of these rows (of all rows when none are named).

    Returns:
        ``(keys, problems)``: ``keys`` is aligned with ``rows`` and zero where an image is unreadable;
        ``problems`` holds ``(row, reason, detail)`` of each of those.
    """
    rows = np.arange(len(images)) if rows is None else np.asarray(rows, dtype=np.int64)
    keys = np.zeros((len(rows), KEY_BYTES), dtype=np.uint8)
    problems: list[tuple[int, str, str]] = []
    for i, (row, key) in enumerate(map_images(images, rows, key_of)):
        if isinstance(key, ImageError):
            problems.append((row, key.reason, key.detail))
        else:
            keys[i] = np.frombuffer(key, dtype=np.uint8)
    return keys, problems


def readable(dataset: Dataset) -> tuple[Dataset, Keys]:
    """The images that can be decoded, in their order, with their keys; the others become problems."""
    keys, found = pixel_keys(dataset.images)
    if not found:
        return dataset, keys
    bad = [row for row, _, _ in found]
    good = np.delete(np.arange(len(dataset)), bad)
    problems = [Problem(dataset.ids[row], reason, detail) for row, reason, detail in found]
    return dataset.select(good).with_problems(problems), keys[good]


def id_keys(ids: Sequence[str]) -> Keys:
    """Stand-in keys for images that are not at hand: the sha256 of each id.

    With them only a repeated id counts as the same image, so copies under other names go unseen.
    """
    digests = b"".join(hashlib.sha256(i.encode("utf-8", "surrogateescape")).digest() for i in ids)
    return np.frombuffer(digests, dtype=np.uint8).reshape(-1, KEY_BYTES)


def check_keys(keys: NDArray[Any], n: int) -> Keys:
    """Return ``keys`` contiguous, if they are the keys of ``n`` images.

    Raises:
        DataError: another shape or dtype.
    """
    if keys.dtype != np.uint8 or keys.shape != (n, KEY_BYTES):
        raise DataError(f"keys must be uint8 of shape ({n}, {KEY_BYTES}), got {keys.dtype} {keys.shape}")
    return np.ascontiguousarray(keys)


def as_items(keys: NDArray[np.uint8]) -> NDArray[np.void]:
    """Rows of bytes as single items, which ``np.unique``, ``np.isin`` and ``np.sort`` compare whole."""
    return np.ascontiguousarray(keys).view(f"V{keys.shape[1]}").ravel()
