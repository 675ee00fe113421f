"""Image keys: what it means that two images are the same.

The key of an image is the sha256 of its size and its decoded RGB pixels, upright: two files with the same
pixels have the same key, whatever their names and formats. Keys are ``(n, 32)`` ``uint8``, a row an image.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib.metadata import version
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from anglehash.data.dataset import Dataset, ImageStore, Problem
from anglehash.data.images import decode, pixel_key, read_file, rgb_pixels
from anglehash.data.workers import map_images
from anglehash.errors import DataError, ImageError
from anglehash.progress import Report, silent
from anglehash.sealed import read_sealed, write_sealed

Keys = NDArray[np.uint8]  # (n, 32)

KEY_BYTES = 32


class Picture(NamedTuple):
    """What says that two images are the same picture; either is enough.

    Attributes:
        content: the :func:`content_key`: equal bytes; empty where it is not known.
        pixels: the :func:`key_of` the image: equal pixels; empty where it is not known.
    """

    content: bytes = b""
    pixels: bytes = b""


def picture_of(image: str | PathLike[str] | bytes | NDArray[np.uint8]) -> Picture:
    """The keys of an image: a file, the bytes of one, or pixels.

    Raises:
        ImageError: the file cannot be read. One that cannot be decoded has no key of its pixels.
    """
    data = read_file(image) if isinstance(image, str | PathLike) else image
    try:
        return Picture(content_key(data), key_of(data))
    except ImageError:
        return Picture(content_key(data))


def key_of(data: bytes | NDArray[np.uint8], *, salvage: bool = False) -> bytes:
    """The key of one image, encoded or already pixels; a grey array has the key of its file.

    Raises:
        ImageError: the image is refused.
    """
    return pixel_key(decode(data, salvage=salvage).pixels if isinstance(data, bytes) else rgb_pixels(data))


def content_key(data: bytes | NDArray[np.uint8]) -> bytes:
    """32 bytes that stand for an undecoded image: the sha256 of its file's bytes, or of its shape and pixels."""
    if isinstance(data, bytes):
        return hashlib.sha256(data).digest()
    digest = hashlib.sha256(f"pixels {data.shape}".encode())
    digest.update(np.ascontiguousarray(data).data)
    return digest.digest()


def pixel_keys(
    images: ImageStore,
    rows: NDArray[np.int64] | None = None,
    *,
    salvage: bool = False,
    cache: Path | None = None,
    report: Report = silent,
) -> tuple[Keys, list[tuple[int, str, str]]]:
    """The keys of these rows (of all rows when none are named).

    Args:
        images: where they are.
        rows: which of them.
        salvage: accept JPEG files whose end is missing.
        cache: folder that remembers the key of a file by its bytes, so that it is decoded once.
        report: told of the progress.

    Returns:
        ``(keys, problems)``: ``keys`` is aligned with ``rows`` and zero where an image is unreadable;
        ``problems`` holds ``(row, reason, detail)`` of each of those.
    """
    rows = np.asarray(np.arange(len(images)) if rows is None else rows, dtype=np.int64)
    keys = np.zeros((len(rows), KEY_BYTES), dtype=np.uint8)
    known = _Known(cache, salvage=salvage) if cache else None
    lacking = known.fill(images, rows, keys) if known else np.arange(len(rows))
    problems: list[tuple[int, str, str]] = []
    report("decoding", len(rows) - len(lacking), len(rows), "")
    found = map_images(images, rows[lacking], _both_keys, settings={"salvage": salvage})
    for done, (place, (row, both)) in enumerate(zip(lacking, found, strict=True), start=1):
        if isinstance(both, ImageError):
            problems.append((row, both.reason, both.detail))
        else:
            pair = np.frombuffer(both, dtype=np.uint8)
            keys[place] = pair[KEY_BYTES:]
            if known:
                known.add(pair)
        note = f"{len(problems)} unreadable" if problems else ""
        report("decoding", len(rows) - len(lacking) + done, len(rows), note)
    if known:
        known.write()
    return keys, problems


def _both_keys(data: bytes | NDArray[np.uint8], *, salvage: bool) -> bytes:
    """Content key and pixel key of the same bytes."""
    return content_key(data) + key_of(data, salvage=salvage)


class _Known:
    """Keys of files that were decoded before, by the sha256 of their bytes: sealed files of 64-byte pairs."""

    def __init__(self, cache: Path, *, salvage: bool) -> None:
        decoder = f"pillow-{version('pillow')}"  # another one may give other pixels
        self._folder = cache / (decoder + "-salvage" * salvage)
        self._fresh: list[NDArray[np.uint8]] = []

    def fill(self, images: ImageStore, rows: NDArray[np.int64], keys: Keys) -> NDArray[np.int64]:
        """Copy what is known into ``keys``; the places of the others."""
        known: dict[bytes, bytes] = {}
        for path in sorted(self._folder.glob("*.keys")):
            data = read_sealed(path) or b""
            known |= {data[i : i + 32]: data[i + 32 : i + 64] for i in range(0, len(data), 2 * KEY_BYTES)}
        lacking = []
        for place, row in enumerate(rows.tolist()):
            try:
                key = known.get(content_key(images.read(row))) if known else None
            except ImageError:
                key = None  # whoever decodes it says why
            if key is None:
                lacking.append(place)
            else:
                keys[place] = np.frombuffer(key, dtype=np.uint8)
        return np.array(lacking, dtype=np.int64)

    def add(self, pair: NDArray[np.uint8]) -> None:
        """Remember a content key and its pixel key; they are written by thousands."""
        self._fresh.append(pair)
        if len(self._fresh) >= 4096:
            self.write()

    def write(self) -> None:
        """Write what is not written yet."""
        if self._fresh:
            write_sealed(self._folder, "part", ".keys", np.concatenate(self._fresh).tobytes())
            self._fresh = []


def readable(
    dataset: Dataset, *, salvage: bool = False, cache: Path | None = None, report: Report = silent
) -> tuple[Dataset, Keys]:
    """The images that can be decoded, in their order, with their keys; the others become problems.

    Arguments are those of :func:`pixel_keys`.
    """
    keys, found = pixel_keys(dataset.images, salvage=salvage, cache=cache, report=report)
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
