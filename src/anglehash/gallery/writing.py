"""Writing to a gallery wherever it is kept: a folder, or a database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from anglehash.gallery.interface import AnyWriter
from anglehash.gallery.store.opening import LOCK_TIMEOUT, open_writer
from anglehash.gallery.target import Target, is_target


@contextmanager
def write_gallery(gallery: str | Path | Target, *, lock_timeout: float = LOCK_TIMEOUT) -> Iterator[AnyWriter]:
    """Write to the gallery of a folder or a target.

    Args:
        gallery: its folder, or a target, or a text that names one of both.
        lock_timeout: seconds to wait for another writer to a folder; databases have their own ways.

    Raises:
        ModelError: there is none, it is damaged, or another process writes to it.
        RemoteError: the database is down.
    """
    if isinstance(gallery, str) and is_target(gallery):
        gallery = Target.parse(gallery)
    if isinstance(gallery, Target):
        with remote().writing(gallery) as there:
            yield there
        return
    with open_writer(Path(gallery), lock_timeout=lock_timeout) as here:
        yield here


def remote() -> Any:
    """Galleries of databases are optional, and built on those of folders: loaded when one is named."""
    return import_module("anglehash.remote.gallery")
