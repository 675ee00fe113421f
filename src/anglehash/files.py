"""Files written whole or not at all, their hashes, and where caches live."""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import re
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import IO, Any

from anglehash.errors import OutputExistsError

try:
    import fcntl
except ImportError:  # Windows: two writers of one output are not kept apart there
    fcntl = None  # type: ignore[assignment]

_FRESH = 60.0
"""Seconds for which a folder that nobody has locked is left alone."""


def cache_dir() -> Path:
    """Where features and downloads are kept: ``$ANGLEHASH_CACHE``, else ``~/.cache/anglehash``.

    A user without a home, as a container's bare number is, has a private folder of the system's temporary ones.
    """
    explicit = os.environ.get("ANGLEHASH_CACHE")
    if explicit:
        return Path(explicit)
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(base) if base else Path.home() / ".cache") / "anglehash"
    except RuntimeError:  # no HOME, and no entry of the user
        return _private_folder()


@cache
def _private_folder() -> Path:
    """A folder that nobody else can write: the one of earlier runs, or a new one where that is not to be trusted."""
    path = Path(tempfile.gettempdir()) / f"anglehash-{os.getuid() if hasattr(os, 'getuid') else 'user'}"
    try:
        path.mkdir(mode=0o700, exist_ok=True)
        status = path.lstat()
        if stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o077:
            return path
    except (OSError, AttributeError):
        pass
    return Path(tempfile.mkdtemp(prefix="anglehash-"))


def sha256_file(path: Path) -> str:
    """Hex sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_json(value: Any) -> str:
    """Hex sha256 of a value's canonical JSON (sorted keys, no spaces): equal values, equal hash.

    >>> sha256_json({"b": 1, "a": 2}) == sha256_json({"a": 2, "b": 1})
    True
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def refuse_existing(path: Path, *, force: bool, ours: Callable[[Path], bool] | None = None) -> None:
    """Raise where an output is there already and may not be replaced.

    Args:
        path: the output; a folder where ``ours`` is given, else a file.
        force: it may be replaced.
        ours: whether a folder that is there may be replaced at all: somebody's photographs may not.

    Raises:
        OutputExistsError: ``path`` exists, and ``force`` is not set, or it is not ``ours``.
    """
    if not os.path.lexists(path):
        return
    if not force:
        raise OutputExistsError(f"{path} exists already: choose another name, or add --force to replace it")
    replaceable = path.is_dir() and (ours(path) or not any(path.iterdir())) if ours else not path.is_dir()
    if not replaceable:
        raise OutputExistsError(
            f"{path} was not written by this command before, so it is not replaced: choose another name"
        )


def sync(handle: int) -> None:
    """Have what was written to an open file or folder on disk, not only in the disk's own memory."""
    if sys.platform == "darwin":  # where fsync stops short of that
        with suppress(OSError):  # a drive that cannot be asked
            fcntl.fcntl(handle, fcntl.F_FULLFSYNC)
            return
    os.fsync(handle)


def sync_directory(path: Path) -> None:
    """Have the names in a folder on disk, where the system can be asked for that."""
    if os.name == "posix":
        handle = os.open(path, os.O_RDONLY)
        try:
            sync(handle)
        finally:
            os.close(handle)


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file so that a reader sees the old bytes or the new, never a part of them."""
    with new_file(path) as file:
        file.write(data)


@contextmanager
def new_file(path: Path) -> Iterator[IO[bytes]]:
    """A file that appears whole, for what is too large for :func:`write_atomic`: write to the yielded one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = tempfile.NamedTemporaryFile(  # noqa: SIM115 # closed below, before it gets its name
        prefix=f".{path.name[:100]}.", suffix=".tmp", dir=path.parent, delete=False
    )
    try:
        with unfinished as file:
            yield file
            file.flush()
            sync(file.fileno())
        os.chmod(file.name, 0o666 & ~_umask())
        os.replace(file.name, path)
    except BaseException:
        Path(unfinished.name).unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def _umask() -> int:
    current = os.umask(0o022)
    os.umask(current)
    return current


def hold(lock: IO[str]) -> str | None:
    """Lock an open file (mode ``a+``) until it is closed and write our process number into it.

    Returns:
        ``None``, or the number of the process that holds it already. Where the system has no ``flock``
        nothing is locked.
    """
    if fcntl is None:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.seek(0)
        return lock.read().strip() or "unknown"
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()
    return None


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON, atomically."""
    text = (
        json.dumps(value, indent=2, allow_nan=False) + "\n"
    )  # ASCII: any name survives, even one not in UTF-8
    write_atomic(path, text.encode("ascii"))


@contextmanager
def new_folder(
    path: Path, *, force: bool = False, ours: Callable[[Path], bool] = lambda folder: True
) -> Iterator[Path]:
    """A folder that appears whole: fill the yielded one, and it is renamed to ``path`` at the end.

    On an error nothing appears, and what was at ``path`` before stays.

    Args:
        path: the folder.
        force: replace what is at ``path``.
        ours: whether a folder that is there may be replaced at all: somebody's photographs may not.

    Raises:
        OutputExistsError: ``path`` exists, and ``force`` is not set or the folder is not ``ours``.
    """
    refuse_existing(path, force=force, ours=ours)
    with _beside(path) as place:
        work = place / path.name
        work.mkdir()
        yield work
        for file in work.rglob("*"):
            if file.is_file():
                os.chmod(file, 0o666 & ~_umask())  # some writers leave files that only their owner can read
        sync_tree(work)
        put_in_place(work, path)


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A folder beside ``path`` for what is on its way there, or from there; it goes at the end.

    It is locked: what a killed process has left there is not, and goes as well.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{path.name[:100]}."
    for name in os.listdir(path.parent):
        if re.fullmatch(re.escape(prefix) + "[a-z0-9_]{8}[.]tmp", name):
            _sweep(path.parent / name)
    folder = Path(tempfile.mkdtemp(prefix=prefix, suffix=".tmp", dir=path.parent))
    try:
        with _locked(folder):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _sweep(leftover: Path) -> None:
    """Remove a folder that nobody holds; a fresh one may be about to be locked."""
    with suppress(OSError):
        if leftover.is_symlink() or time.time() - leftover.stat().st_mtime < _FRESH:
            return
        with _locked(leftover) as ours:
            if ours:
                shutil.rmtree(leftover, ignore_errors=True)


@contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """Lock a folder, as far as the system can; whether nobody else has."""
    if fcntl is None:
        yield False
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        ours = False
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            ours = True
        yield ours
    finally:
        os.close(handle)


def sync_tree(folder: Path) -> None:
    """Have a folder on disk: all files in it, and the names that they have."""
    for place, _, names in os.walk(folder):
        for path in (os.path.join(place, name) for name in names):
            if os.path.isfile(path):  # a pipe would not open
                with open(path, "rb") as file:
                    sync(file.fileno())
        sync_directory(Path(place))


def put_in_place(work: Path, path: Path) -> None:
    """Rename a finished folder to ``path``, durably; what is there goes once the new one has its place."""
    if not os.path.lexists(path):
        os.replace(work, path)
        sync_directory(path.parent)
        return
    with _beside(path) as place:
        moved = place / path.name  # under the name of the new one nobody may find the old one
        os.replace(work, moved)
        if path.is_symlink() or not _exchange(moved, path):
            # A crash between the next two renames leaves the old one in this folder beside.
            old = Path(tempfile.mkdtemp(prefix=f".{path.name[:100]}.", suffix=".old", dir=path.parent))
            os.replace(path, old / path.name)
            os.replace(moved, path)
            sync_directory(path.parent)
            shutil.rmtree(old)
        sync_directory(path.parent)


def _exchange(one: Path, other: Path) -> bool:
    """Have two names change places in one step; whether this system can do that."""
    names = os.fsencode(one), os.fsencode(other)
    library = ctypes.CDLL(None)
    if sys.platform == "linux" and hasattr(library, "renameat2"):
        here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
        return bool(library.renameat2(here, names[0], here, names[1], exchange) == 0)
    if sys.platform == "darwin" and hasattr(library, "renamex_np"):
        swap = 2  # RENAME_SWAP
        return bool(library.renamex_np(*names, swap) == 0)
    return False
