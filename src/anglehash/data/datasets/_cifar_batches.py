"""The official CIFAR-10 batches: pickles of Python 2, read without running anything that they ask for.

A pickle may name any function and have it called. Here the only names that exist are the three of a NumPy
array, and they stand for a class of this file that merely keeps what it is given: neither NumPy nor anything
else acts on what the file says. Members of the archive are read in memory, never extracted.
"""

from __future__ import annotations

import io
import pickle
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anglehash.errors import DataError

_PARTS = {f"data_batch_{i}": "train" for i in range(1, 6)} | {"test_batch": "test"}  # in the official order
_SHAPE = (3, 32, 32)
_MAX_BATCH = 64 << 20  # bytes; a real one has 31 million


def read_batches(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64], list[str]]:
    """All images in the official order, from the archive or from the folder that is in it.

    Returns:
        ``(pixels, labels, parts)``: ``(n, 3, 32, 32)``, ``(n,)`` and ``n`` times ``train`` or ``test``.

    Raises:
        DataError: a batch is absent, damaged, or asks for something to be run.
    """
    batches = {}
    for name, data in _folder(path) if path.is_dir() else _archive(path):
        if len(data) > _MAX_BATCH:
            raise DataError(f"{path}: {name} is larger than a CIFAR-10 batch")
        try:
            batches[name] = _batch(data)
        except Exception as error:  # a damaged pickle can fail in any way
            raise DataError(f"{path}: {name} is not a CIFAR-10 batch: {error}") from error
    if missing := [name for name in _PARTS if name not in batches]:
        raise DataError(f"{path} has no {missing[0]}: download the archive again")
    return (
        np.concatenate([batches[name][0] for name in _PARTS]),
        np.concatenate([batches[name][1] for name in _PARTS]),
        [part for name, part in _PARTS.items() for _ in batches[name][1]],
    )


def _folder(path: Path) -> Iterator[tuple[str, bytes]]:
    for file in sorted(path.iterdir()):
        if file.name in _PARTS and file.is_file():
            with file.open("rb") as stream:
                yield file.name, stream.read(_MAX_BATCH + 1)


def _archive(path: Path) -> Iterator[tuple[str, bytes]]:
    try:
        with tarfile.open(path, "r:gz") as archive:
            for member in archive:
                name = PurePosixPath(member.name).name
                if name in _PARTS and (stream := archive.extractfile(member)):
                    yield name, stream.read(_MAX_BATCH + 1)
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise DataError(f"{path} is a damaged archive ({error}): download it again") from error


class _Kept:
    """What a pickle says of an object, kept and not acted upon."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _ArrayReader(pickle.Unpickler):
    """Knows the names of a NumPy array, and no other."""

    def find_class(self, module: str, name: str) -> type[_Kept]:
        if (module, name) in (
            ("numpy.core.multiarray", "_reconstruct"),
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
        ):
            return _Kept
        raise DataError(f"it asks for {module}.{name}")


def _batch(data: bytes) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    batch = _ArrayReader(io.BytesIO(data), encoding="bytes").load()
    _, _, dtype, by_columns, raw = batch[b"data"].state
    labels = np.array(batch[b"labels"], dtype=np.int64)
    if dtype.arguments[0] not in (b"u1", "u1") or by_columns:
        raise DataError("rows of uint8 are wanted")
    if not np.isin(labels, range(10)).all():
        raise DataError("labels are 0 to 9")
    return np.frombuffer(raw, np.uint8).reshape(len(labels), *_SHAPE), labels
