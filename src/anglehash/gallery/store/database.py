"""The truth's file: how ``items.db`` is opened, what tables it has, and what its errors mean.

Nothing here, and nothing else in this program, opens that file but SQLite: when a process closes any handle
of a file, POSIX takes away all locks that the process has on it, SQLite's too, and other processes would no
longer know that it is being read. Its bytes are therefore hashed through SQLite, or in a process apart.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import sqlite3
import subprocess
import sys
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import get_type_hints
from urllib.parse import quote

from anglehash.errors import ModelError
from anglehash.gallery.store.sqlite import WAIT, primary_code, sqlite_errors

_log = logging.getLogger(__name__)

FORMAT = 2
"""Version of the tables; the gallery's format has the same number."""

_APPLICATION = 0x616E6768  # "angh": tells our files from any other SQLite database
_SMALLEST = 512  # bytes of the smallest page, so of the smallest database
_UNCHANGING = "ro&immutable=1"  # needs neither locks nor shared memory
_CACHE, _LOG = 64 * 2**20, 32 * 2**20  # bytes: pages that a writer remembers; its log before it is worked in

SCHEMA = (
    """CREATE TABLE items (
        row INTEGER PRIMARY KEY, id BLOB NOT NULL, content BLOB NOT NULL, pixels BLOB NOT NULL,
        signature BLOB NOT NULL, labels TEXT NOT NULL, metadata TEXT NOT NULL, date INTEGER NOT NULL,
        source INTEGER NOT NULL, code BLOB NOT NULL, born INTEGER NOT NULL,
        died INTEGER NOT NULL DEFAULT 0, crc INTEGER NOT NULL)""",
    "CREATE UNIQUE INDEX live ON items (id) WHERE died = 0",
    "CREATE INDEX dead ON items (died) WHERE died > 0",
    "CREATE INDEX same_bytes ON items (substr(content, 1, 8)) WHERE content != x''",
    "CREATE INDEX same_pixels ON items (substr(pixels, 1, 8)) WHERE pixels != x''",
    """CREATE TABLE files (
        id BLOB PRIMARY KEY, reason TEXT NOT NULL, detail TEXT NOT NULL, content BLOB NOT NULL,
        size INTEGER NOT NULL, date INTEGER NOT NULL, crc INTEGER NOT NULL) WITHOUT ROWID""",
    "CREATE TABLE sources (number INTEGER PRIMARY KEY, facts TEXT NOT NULL, crc INTEGER NOT NULL)",
    "CREATE TABLE state (one INTEGER PRIMARY KEY CHECK (one = 1), facts TEXT NOT NULL, crc INTEGER NOT NULL)",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What a store says of itself: one row, replaced by every commit.

    Attributes:
        bits: length of a code.
        model: identity of the model that made the codes.
        root: the folder that the ids are relative to, as it was named first; empty where there is none.
        created_by: the library, with its version, that made the store.
        generation: number of commits.
        last_row: the highest number that a row was ever given.
        live: items.
        dead: rows of items that were replaced or removed and are not yet purged.
        dead_digest: the :func:`death` of all dead rows, combined by XOR: a lost or invented death shows.
        complete: false while the store is being built beside the one in use.
    """

    bits: int
    model: str
    root: str = ""
    created_by: str = ""
    generation: int = 0
    last_row: int = 0
    live: int = 0
    dead: int = 0
    dead_digest: int = 0
    complete: bool = True


_KINDS = get_type_hints(State)


def death(row: int, died: int) -> int:
    """A number that stands for "this row died in this generation"."""
    return zlib.crc32(b"%d died %d" % (row, died))


def create(path: Path, state: State) -> sqlite3.Connection:
    """A new database in write mode, with its tables and first state."""
    with sqlite_errors(path):
        connection = _open(path, "rwc")
        connection.execute(f"PRAGMA application_id = {_APPLICATION}")
        connection.execute(f"PRAGMA user_version = {FORMAT}")
        _for_writing(connection, path, new=True)
        connection.execute("BEGIN IMMEDIATE")
        for statement in SCHEMA:
            connection.execute(statement)
        write_state(connection, state)
        connection.execute("COMMIT")
    return connection


def connect(path: Path, *, write: bool = False) -> sqlite3.Connection:
    """Open a database that is there.

    Raises:
        ModelError: missing, empty, of another program or format, or damaged.
        PermissionError: it may not be written.
    """
    _check_size(path)
    with sqlite_errors(path):
        if write:
            return _connected(path, "rw", write)
        try:
            return _connected(path, _reading_mode(path), write)
        except sqlite3.OperationalError as error:
            if not _bars(error) or log_size(path):
                raise
            return _connected(path, _UNCHANGING, write)


def connect_anyhow(path: Path) -> sqlite3.Connection:
    """Open what may be no whole database, to save what can be read of it; every row has to be checked."""
    connection = _open(path, _UNCHANGING)
    connection.execute("PRAGMA query_only = ON")
    return connection


def _connected(path: Path, mode: str, write: bool) -> sqlite3.Connection:
    connection = _open(path, mode)
    try:
        _check_schema(connection, path)
        if write:
            _for_writing(connection, path)
        else:
            connection.execute("PRAGMA query_only = ON")
    except BaseException:
        connection.close()
        raise
    return connection


def _open(path: Path, mode: str) -> sqlite3.Connection:
    uri = f"file:{quote(os.fsencode(path.absolute()))}?mode={mode}"
    connection = sqlite3.connect(
        uri, uri=True, timeout=WAIT, isolation_level=None, check_same_thread=False, cached_statements=32
    )
    connection.execute("PRAGMA trusted_schema = OFF")  # the file may be hostile
    connection.execute("PRAGMA cell_size_check = ON")
    return connection


def _for_writing(connection: sqlite3.Connection, path: Path, *, new: bool = False) -> None:
    """Durable commits; a write-ahead log from the start, or never: changing that changes the file."""
    mode = connection.execute("PRAGMA journal_mode" + " = WAL" * new).fetchone()[0]
    if mode != "wal":  # a network drive has no shared memory
        mode = connection.execute("PRAGMA journal_mode = TRUNCATE").fetchone()[0]
        _log.warning("%s has no write-ahead log, so readers and writers wait for each other (%s)", path, mode)
    connection.execute("PRAGMA synchronous = FULL")
    for sync in ("fullfsync", "checkpoint_fullfsync"):  # for macOS; elsewhere they do nothing
        connection.execute(f"PRAGMA {sync} = ON")
    connection.execute(f"PRAGMA cache_size = -{_CACHE >> 10}")
    connection.execute(f"PRAGMA wal_autocheckpoint = {_LOG >> 12}")  # pages of 4 KiB


def is_barred(path: Path) -> bool:
    """Whether a database has a write-ahead log that cannot be used where it is now.

    That is so where a file system cannot share memory between processes, as on most network drives.
    """
    connection = _open(path, "rw")
    try:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.OperationalError as error:
        return _bars(error)
    except sqlite3.DatabaseError:
        return False  # whoever opens it says what is wrong
    finally:
        connection.close()
    return False


def _bars(error: sqlite3.Error) -> bool:
    return primary_code(error) in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR)


def leave_log(path: Path) -> None:
    """Turn a database that is barred from its write-ahead log into one without; its sha256 changes."""
    with sqlite_errors(path):
        connection = _open(path, "rw")
        try:
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")  # memory need not be shared
            connection.execute("PRAGMA journal_mode = TRUNCATE")
        finally:
            connection.close()


def _reading_mode(path: Path) -> str:
    """Read-write where that is allowed, so that a reader can put a killed writer's log in order."""
    if may_write(path):
        return "rw"
    return "ro" if log_size(path) else _UNCHANGING


def may_write(path: Path) -> bool:
    """Whether this process may write a database, and the files that SQLite puts beside it."""
    return os.access(path.parent, os.W_OK) and os.access(path, os.W_OK)


def log_size(path: Path) -> int:
    """Bytes in a database's write-ahead log."""
    return log_marks(path)[0]


def log_marks(path: Path) -> tuple[int, int]:
    """Size and date of a database's write-ahead log; zeros where there is none."""
    try:
        status = path.with_name(path.name + "-wal").stat()
    except FileNotFoundError:
        return 0, 0
    return status.st_size, status.st_mtime_ns


def _check_size(path: Path) -> None:
    """Refuse what SQLite would take for an empty database."""
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        raise ModelError(f"{path} is missing: restore a backup") from None
    if size < _SMALLEST:
        raise ModelError(f"{path} is damaged: it ends after {size} bytes. Restore a backup")


def _check_schema(connection: sqlite3.Connection, path: Path) -> None:
    """The format is known, and the tables are ours to the letter: no trigger of another hand, and no damage.

    Raises:
        ModelError: another program's, of another format, or damaged.
    """
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    if application != _APPLICATION:
        raise ModelError(f"{path} is damaged, or a database of another program. Restore a backup")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version != FORMAT:
        newer = "upgrade anglehash, or " if version > FORMAT else ""
        raise ModelError(
            f"{path} has the format {version}, this anglehash reads {FORMAT}: {newer}index the images again"
        )
    query = "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL"
    found = sorted(str(row[0]) for row in connection.execute(query))
    if found != sorted(SCHEMA):
        raise ModelError(f"{path} is damaged: its tables are not those of a gallery. Restore a backup")


def write_state(connection: sqlite3.Connection, state: State) -> None:
    """Replace the state, inside the caller's transaction."""
    facts = json.dumps(asdict(state), sort_keys=True)
    crc = zlib.crc32(facts.encode())
    connection.execute("INSERT OR REPLACE INTO state VALUES (1, ?, ?)", (facts, crc))


def read_state(connection: sqlite3.Connection, path: Path) -> State:
    """The state.

    Raises:
        ModelError: it is damaged.
    """
    rows = connection.execute("SELECT facts, crc FROM state").fetchall()
    try:
        ((facts, crc),) = rows
        if zlib.crc32(facts.encode()) != crc:
            raise ValueError
        state = State(**json.loads(facts))
        wrong = [n for n, kind in _KINDS.items() if type(getattr(state, n)) is not kind]
        counts = (state.generation, state.last_row, state.live, state.dead, state.dead_digest)
        if wrong or not all(0 <= n < 2**62 for n in counts):
            raise ValueError
        return state
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise ModelError(
            f"{path} is damaged: its state does not match its crc. Run anglehash repair, or restore a backup"
        ) from None


def content_digest(connection: sqlite3.Connection) -> str:
    """The sha256 of the database as this connection sees it; after a checkpoint, that of the file's bytes."""
    return hashlib.sha256(connection.serialize()).hexdigest()


def file_digest(path: Path) -> str:
    """The sha256 of the file's bytes, for what is too large to be in memory; by a process apart.

    Raises:
        OSError: it cannot be read.
    """
    hashing = "import hashlib, sys; print(hashlib.file_digest(open(sys.argv[1], 'rb'), 'sha256').hexdigest())"
    command = [sys.executable, "-I", "-c", hashing, os.fspath(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise OSError(errno.EIO, (done.stderr.splitlines() or ["it cannot be read"])[-1], str(path))
    return done.stdout.strip()


def checkpoint(connection: sqlite3.Connection, path: Path) -> bool:
    """Bring the write-ahead log into the database file; whether nothing of it is left."""
    busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return not busy and log_size(path) == 0
