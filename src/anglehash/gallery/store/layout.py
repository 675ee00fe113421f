"""What lies where in a gallery's folder: the manifest, the receipt, the lock, and what a crash left behind."""

from __future__ import annotations

import os
import shutil
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

from anglehash.codes import check_bits
from anglehash.errors import ModelError
from anglehash.files import hold, sync, sync_directory, write_atomic
from anglehash.gallery.store.database import log_marks, may_write
from anglehash.manifest import read_manifest, write_manifest

KIND, VERSION = "gallery", 2

T = TypeVar("T")

_RECEIPT = struct.Struct("<QI")
_TRIES = 50
_DAMAGED = "damaged"


@dataclass(frozen=True, slots=True)
class Store:
    """The paths of one store.

    Attributes:
        path: its folder, such as ``gallery/1``.
    """

    path: Path

    @property
    def number(self) -> int:
        """Which of the gallery's stores it is."""
        return int(self.path.name)

    @property
    def database(self) -> Path:
        """The truth."""
        return self.path / "items.db"

    @property
    def segments(self) -> Path:
        """The folder of segments."""
        return self.path / "codes"

    @property
    def receipt(self) -> Path:
        """The last acknowledged generation."""
        return self.path / "receipt"

    @property
    def lock(self) -> Path:
        """Held by the one writer."""
        return self.path / "lock"

    @property
    def model(self) -> Path:
        """A copy of the model, if there is one."""
        return self.path / "model"

    def make(self) -> None:
        """Make its folders."""
        self.segments.mkdir(parents=True, exist_ok=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """The manifest: what is to be read.

    Attributes:
        store: number of the store.
        generation: the commit up to which segments hold the codes.
        last_row: the row up to which they do.
        count: items in that generation.
        bits: length of a code.
        model: identity of the model.
        segments: name, sha256, count, first and last row of each.
        database: sha256 of ``items.db`` as of that generation, or ``None`` where it could not be closed.
    """

    store: int
    generation: int
    last_row: int
    count: int
    bits: int
    model: str
    segments: list[dict[str, Any]] = field(default_factory=list)
    database: str | None = None


def read_receipt(path: Path) -> tuple[Store, Receipt]:
    """A gallery's manifest, checked.

    Raises:
        ModelError: no gallery, of another format, or damaged.
    """
    facts = read_manifest(path, KIND, VERSION, oldest=VERSION)
    try:
        receipt = Receipt(**{name: facts[name] for name in Receipt.__slots__})
        check_bits(receipt.bits)
        numbers = (receipt.store, receipt.generation, receipt.last_row, receipt.count)
        if not all(type(n) is int and 0 <= n < 2**63 for n in numbers):
            raise TypeError(f"store, generation, last_row and count are {numbers}")
        if not isinstance(receipt.model, str) or not isinstance(receipt.database, str | None):
            raise TypeError(f"model and database are {receipt.model!r} and {receipt.database!r}")
        for segment in receipt.segments:
            name, counts = segment["name"], [segment[key] for key in ("count", "first", "last")]
            if Path(name).name != name or not all(type(n) is int and n >= 0 for n in counts):
                raise ValueError(f"segment {segment}")
            if not isinstance(segment["sha256"], str):
                raise TypeError(f"segment {segment}")
    except (KeyError, TypeError, ValueError) as error:
        # The seal was right, so this is not damage: somebody else wrote it.
        raise ModelError(f"{path} is not a gallery that anglehash wrote: {error!r}") from error
    return Store(path / str(receipt.store)), receipt


def file_of(store: Store) -> tuple[int, ...]:
    """What tells a store's database from another file of that name: a restored backup, say.

    Who may not write there cannot lock it either, and reads it as if it never changed. To them it is another file
    after each change.
    """
    try:
        status = store.database.stat()
        found = status.st_dev, status.st_ino
        if may_write(store.database):
            return found
        return *found, status.st_size, status.st_mtime_ns, *log_marks(store.database)
    except FileNotFoundError:
        return 0, 0


def read_steadily(path: Path, read: Callable[[Store, Receipt], T]) -> T:
    """What ``read`` makes of a gallery's store and manifest; again where a writer took away what it looks at.

    Raises:
        ModelError: no gallery, or ``read`` found it damaged, and nothing has changed meanwhile.
    """
    for _ in range(_TRIES):
        store, receipt = read_receipt(path)
        file = file_of(store)
        try:
            return read(store, receipt)
        except (ModelError, FileNotFoundError):
            if read_receipt(path)[1] == receipt and file_of(store) == file:
                raise
    raise ModelError(f"{path} changes faster than it can be read: try again")


def write_receipt(path: Path, receipt: Receipt) -> None:
    """Write a gallery's manifest: from now on readers see what it names."""
    facts = {name: getattr(receipt, name) for name in Receipt.__slots__}
    write_manifest(path, KIND, VERSION, facts, seal_files=False)


def acknowledge(store: Store, generation: int) -> None:
    """Note durably that a generation was committed: should its log be lost, that shows."""
    data = _RECEIPT.pack(generation, _receipt_crc(generation))
    if not store.receipt.exists():
        write_atomic(store.receipt, data)
        return
    handle = os.open(store.receipt, os.O_WRONLY | getattr(os, "O_BINARY", 0))
    try:
        os.write(handle, data)  # 12 bytes inside one sector: old or new, never half
        sync(handle)
    finally:
        os.close(handle)


def acknowledged(store: Store) -> int:
    """The last generation that was acknowledged.

    Raises:
        ModelError: the note is missing or damaged.
    """
    for _ in range(3):  # not every system keeps a reader from seeing half of a write that is under way
        try:
            generation, crc = _RECEIPT.unpack(store.receipt.read_bytes())
        except FileNotFoundError:
            raise ModelError(f"{store.receipt} is missing: run anglehash repair") from None
        except struct.error:
            continue
        if crc == _receipt_crc(generation):
            return int(generation)
    raise ModelError(f"{store.receipt} is damaged: run anglehash repair")


def _receipt_crc(generation: int) -> int:
    return zlib.crc32(struct.pack("<Q", generation))


@contextmanager
def file_lock(path: Path, what: Path, timeout: float) -> Iterator[None]:
    """Hold a lock file; the lock dies with its process and so is never stale.

    Args:
        path: the file, which is made where it is not there.
        what: what it guards, for the message.
        timeout: seconds to wait for another process.

    Raises:
        ModelError: another process held it for longer than that.
    """
    end = time.monotonic() + timeout
    with path.open("a+", encoding="ascii") as lock:
        while (holder := hold(lock)) is not None:
            if time.monotonic() >= end:
                raise ModelError(
                    f"{what} is being written by process {holder}: wait for it, or give it longer "
                    f"than --lock-timeout {timeout:g}"
                )
            time.sleep(0.02)
        yield


def clean(path: Path, current: int) -> None:
    """Remove what a killed writer left: half-written files, and stores before the current one.

    A store after the current one is a re-encoding that has not come to its end, and stays.
    """
    for place in (path, path / str(current), path / str(current) / "codes"):
        for leftover in place.glob(".*.tmp"):
            with suppress(OSError):
                leftover.unlink()
    for old in path.iterdir():
        if not old.name.isdigit() or int(old.name) >= current:
            continue
        if (old / _DAMAGED).exists():  # the repair was killed after it had named its own store
            with suppress(OSError):
                keep_damaged(old)
        else:
            shutil.rmtree(old, ignore_errors=True)


def mark_damaged(store: Store) -> None:
    """Note that a store is to be kept beside the one that repair makes of it."""
    write_atomic(store.path / _DAMAGED, b"")


def keep_damaged(store: Path) -> Path:
    """Put a damaged store out of the way, under a name that no store has; the name."""
    kept = store.rename(store.with_name(f"{store.name}.damaged"))
    sync_directory(store.parent)
    return kept


def library() -> str:
    """The library, with its version."""
    return f"anglehash {version('anglehash')}"
