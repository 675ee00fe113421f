"""Image keys: what it means that two images are the same.

The key of an image is the sha256 of its size and its decoded RGB pixels, upright: two files with the same
pixels have the same key, whatever their names and formats. Keys are ``(n, 32)`` ``uint8``, a row an image.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import version
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from anglehash.cache import read_cached, write_cached
from anglehash.config import MAX_PIXELS
from anglehash.data.dataset import Dataset, ImageStore, Problem
from anglehash.data.images.decoding import DECODER, Limits, decode, pixel_key, read_file, rgb_pixels
from anglehash.data.images.workers import map_images
from anglehash.data.perceptual_hash import SIGNATURE, Signatures, signature_of
from anglehash.errors import DataError, ImageError
from anglehash.progress import Progress, silent

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


def key_of(data: bytes | NDArray[np.uint8], *, allow_truncated: bool = False) -> bytes:
    """The key of one image, encoded or already pixels; a grey array has the key of its file.

    Raises:
        ImageError: the image is refused.
    """
    return pixel_key(
        decode(data, allow_truncated=allow_truncated).pixels if isinstance(data, bytes) else rgb_pixels(data)
    )


def content_key(data: bytes | NDArray[np.uint8]) -> bytes:
    """32 bytes that stand for an undecoded image: the sha256 of its file's bytes, or of its shape and pixels."""
    if isinstance(data, bytes):
        return hashlib.sha256(data).digest()
    digest = hashlib.sha256(f"pixels {data.shape}".encode())
    digest.update(np.ascontiguousarray(data).data)
    return digest.digest()


class Signed(NamedTuple):
    """What is known of the pixels of some images.

    Attributes:
        keys: ``(n, 32)``, zero where an image is unreadable.
        signatures: ``(n,)`` :data:`~anglehash.data.perceptual_hash.SIGNATURE`, zero where an image is unreadable.
        problems: ``(row, reason, detail)`` of each unreadable image.
    """

    keys: Keys
    signatures: Signatures
    problems: list[tuple[int, str, str]]


_ENTRY = np.dtype([("key", "u1", (KEY_BYTES,)), ("signature", SIGNATURE)])
_HELD = np.dtype([("content", "u1", (KEY_BYTES,)), ("entry", _ENTRY)])


def sign(
    images: ImageStore,
    rows: NDArray[np.int64] | None = None,
    *,
    allow_truncated: bool = False,
    max_pixels: int = MAX_PIXELS,
    cache: Path | None = None,
    progress: Progress = silent,
) -> Signed:
    """The keys and signatures of these rows (of all rows when none are named); each image is decoded once, in full.

    Args:
        images: where they are.
        rows: which of them.
        allow_truncated: accept JPEG files whose end is missing.
        max_pixels: of an image that is decoded, see :class:`~anglehash.data.images.decoding.Limits`.
        cache: folder that remembers what is known of a file by its bytes, so that it is decoded once.
        progress: callback.

    Returns:
        What was found, aligned with ``rows``.
    """
    rows = np.asarray(np.arange(len(images)) if rows is None else rows, dtype=np.int64)
    entries = np.zeros(len(rows), dtype=_ENTRY)
    known = _Known(cache, allow_truncated=allow_truncated, max_pixels=max_pixels) if cache else None
    lacking = known.fill(images, rows, entries) if known else np.arange(len(rows))
    problems: list[tuple[int, str, str]] = []
    progress("decoding", len(rows) - len(lacking), len(rows), "")
    found = map_images(
        images,
        rows[lacking],
        _entry_of,
        settings={"allow_truncated": allow_truncated, "max_pixels": max_pixels},
    )
    for done, (place, (row, entry)) in enumerate(zip(lacking, found, strict=True), start=1):
        if isinstance(entry, ImageError):
            problems.append((row, entry.reason, entry.detail))
        else:
            entries[place] = np.frombuffer(entry, dtype=_ENTRY, offset=KEY_BYTES)[0]
            if known:
                known.add(entry)
        note = f"{len(problems)} unreadable" if problems else ""
        progress("decoding", len(rows) - len(lacking) + done, len(rows), note)
    if known:
        known.write()
    return Signed(np.ascontiguousarray(entries["key"]), entries["signature"].copy(), problems)


def _entry_of(data: bytes | NDArray[np.uint8], *, allow_truncated: bool, max_pixels: int) -> bytes:
    """Content key, pixel key and signature of the same bytes."""
    if isinstance(data, bytes):
        decoded = decode(data, allow_truncated=allow_truncated, limits=Limits(max_pixels=max_pixels))
        pixels, size = decoded.pixels, len(data)
    else:
        pixels, size = rgb_pixels(data), 0
    return content_key(data) + pixel_key(pixels) + signature_of(pixels, size)


class _Known:
    """What is known of files that were decoded before, by the sha256 of their bytes; the files are checked."""

    def __init__(self, cache: Path, *, allow_truncated: bool, max_pixels: int) -> None:
        decoder = f"pillow-{version('pillow')}-{DECODER}"  # another one may give other pixels
        limit = f"-{max_pixels}" * (
            max_pixels != MAX_PIXELS
        )  # above it, JPEG files are decoded at half their size
        self._folder = cache / (decoder + "-allow_truncated" * allow_truncated + limit)
        self._fresh: list[bytes] = []

    def fill(
        self, images: ImageStore, rows: NDArray[np.int64], entries: NDArray[np.void]
    ) -> NDArray[np.int64]:
        """Copy what is known into ``entries``; the places of the others."""
        parts = sorted(self._folder.glob("*.signatures"))
        wanted = defaultdict[bytes, list[int]](list)
        for place, row in enumerate(rows.tolist() if parts else []):
            with suppress(ImageError):  # whoever decodes it says why
                wanted[content_key(images.read(row))].append(place)
        lacking = np.ones(len(rows), dtype=np.bool_)
        for path in parts:
            held = np.frombuffer(read_cached(path) or b"", dtype=_HELD)
            for at, content in enumerate(held["content"]):
                for place in wanted.get(content.tobytes(), ()):
                    entries[place] = held["entry"][at]
                    lacking[place] = False
        return np.flatnonzero(lacking)

    def add(self, entry: bytes) -> None:
        """Remember what :func:`_entry_of` gave; it is written by thousands."""
        self._fresh.append(entry)
        if len(self._fresh) >= 4096:
            self.write()

    def write(self) -> None:
        """Write what is not written yet."""
        if self._fresh:
            write_cached(self._folder, "part", ".signatures", b"".join(self._fresh))
            self._fresh = []


class Readable(NamedTuple):
    """Images that can be decoded, with their keys, ``(n, 32)``, and signatures, ``(n,)``."""

    dataset: Dataset
    keys: Keys
    signatures: Signatures


def readable(
    dataset: Dataset,
    *,
    allow_truncated: bool = False,
    max_pixels: int = MAX_PIXELS,
    cache: Path | None = None,
    progress: Progress = silent,
) -> Readable:
    """The images that can be decoded, in their order; the others become problems.

    Arguments are those of :func:`sign`.
    """
    keys, signatures, found = sign(
        dataset.images, allow_truncated=allow_truncated, max_pixels=max_pixels, cache=cache, progress=progress
    )
    if not found:
        return Readable(dataset, keys, signatures)
    bad = [row for row, _, _ in found]
    good = np.delete(np.arange(len(dataset)), bad)
    problems = [Problem(dataset.ids[row], reason, detail) for row, reason, detail in found]
    return Readable(dataset.select(good).with_problems(problems), keys[good], signatures[good])


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
