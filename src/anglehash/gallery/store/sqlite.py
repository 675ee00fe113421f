"""SQLite from Python: one transaction, and what its errors mean here."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from anglehash.errors import ModelError

WAIT = 30.0
"""Seconds that a reader or writer waits for another's commit where readers and writers exclude each other."""


@contextmanager
def transaction(connection: sqlite3.Connection, path: Path, *, write: bool = False) -> Iterator[None]:
    """One transaction: all of it or, after an error, nothing."""
    with sqlite_errors(path):
        connection.execute("BEGIN IMMEDIATE" if write else "BEGIN")
        try:
            yield
            connection.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):  # after a full disk SQLite may have rolled back by itself
                connection.execute("ROLLBACK")
            raise


@contextmanager
def sqlite_errors(path: Path) -> Iterator[None]:
    """SQLite's errors, as ours: a full disk and missing rights keep the exit codes that they have elsewhere.

    Raises:
        ModelError: the file is damaged, or stayed locked.
        OSError: the disk is full or fails.
        PermissionError: it may not be written.
    """
    try:
        yield
    except sqlite3.Error as error:
        raise _translated(error, path) from error


def _translated(error: sqlite3.Error, path: Path) -> Exception:
    primary = primary_code(error)
    if primary == sqlite3.SQLITE_FULL:
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    if primary == sqlite3.SQLITE_IOERR:
        return OSError(errno.EIO, str(error), str(path))
    if primary in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_CANTOPEN):
        return PermissionError(errno.EACCES, str(error), str(path))
    if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return ModelError(f"{path} stayed locked by another program for {WAIT:.0f} s: try again")
    return ModelError(f"{path} is damaged: {error}. Run anglehash repair, or restore a backup")


def primary_code(error: sqlite3.Error) -> int | None:
    """SQLite's number of the kind of an error."""
    code: int | None = getattr(
        error, "sqlite_errorcode", None
    )  # Python's own errors, as for bad UTF-8, have none
    return None if code is None else code & 0xFF
