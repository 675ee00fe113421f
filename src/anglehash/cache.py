"""Cache files that carry the sha256 of their content in their name: a damaged one is never believed."""

from __future__ import annotations

import contextlib
import hashlib
import logging
from pathlib import Path

from anglehash.files import write_atomic

_log = logging.getLogger(__name__)


def write_cached(folder: Path, stem: str, suffix: str, data: bytes) -> None:
    """Write ``folder/STEM-SHA256SUFFIX``, whole or not at all; two writers do not disturb each other.

    A cache that cannot be written costs time and nothing else, so it is a warning.
    """
    path = folder / f"{stem}-{hashlib.sha256(data).hexdigest()}{suffix}"
    try:
        write_atomic(path, data)
    except OSError as error:
        _log.warning("%s is not cached: %s", path.name, error)


def read_cached(path: Path) -> bytes | None:
    """The content of a cached file; ``None`` where it is gone or damaged, and a damaged one is removed."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    if path.stem.rpartition("-")[2] == hashlib.sha256(data).hexdigest():
        return data
    with contextlib.suppress(OSError):
        path.unlink()
    return None
