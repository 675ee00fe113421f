"""What one commit does to the truth's tables, inside the transaction of its caller."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from anglehash.codes import Codes, check_codes, width
from anglehash.errors import CodeMismatchError, DataError
from anglehash.gallery.store.database import State, death
from anglehash.gallery.store.items import COLUMNS, Item, Record, Seen, name_bytes, record_of, seen_record
from anglehash.gallery.store.sources import Source, write_source


class Changes(NamedTuple):
    """What one commit changes.

    Attributes:
        add: new items; one whose id is there replaces it.
        remove: ids of items to remove; what was noted of their files goes too.
        forget: ids of files of which nothing more is to be noted.
        seen: files that were seen, whether they gave a code or not; they are noted last.
        sources: where items come from: number and source.
    """

    add: Sequence[Item] = ()
    remove: Sequence[str] = ()
    seen: Sequence[Seen] = ()
    forget: Sequence[str] = ()
    sources: Sequence[tuple[int, Source]] = ()


class Applied(NamedTuple):
    """What a commit did: numbers of items."""

    added: int = 0
    replaced: int = 0
    removed: int = 0


def codes_of(items: Sequence[Item], bits: int) -> Codes:
    """The codes of items that can be added together, ``(n, ceil(bits / 8))``.

    Raises:
        CodeMismatchError: a code has another length.
        DataError: an id comes twice.
    """
    size = width(bits)
    if any(len(item.code) != size for item in items):
        raise CodeMismatchError(f"{bits}-bit codes have {size} bytes each")
    joined = np.frombuffer(b"".join(item.code for item in items), np.uint8)
    codes = check_codes(joined.reshape(-1, size), bits)
    seen: set[str] = set()
    for item in items:
        if item.id in seen:
            raise DataError(f"ids are unique in a gallery, but {item.id!r} comes twice")
        seen.add(item.id)
    return codes


def apply(connection: sqlite3.Connection, state: State, changes: Changes) -> tuple[State, Applied]:
    """Change the tables; the state that is to be written, and what was done.

    Raises:
        DataError: an id is not a file name.
    """
    generation, first = state.generation + 1, state.last_row + 1
    removed = set(_rows(connection, changes.remove))
    _bury(connection, removed, generation)
    records = [record_of(item, row, generation) for row, item in enumerate(changes.add, first)]
    replaced = _insert(connection, records, generation)
    gone = removed | replaced
    forgotten = ((name_bytes(name),) for name in (*changes.forget, *changes.remove))
    connection.executemany("DELETE FROM files WHERE id = ?", forgotten)
    seen = map(seen_record, changes.seen)
    connection.executemany("INSERT OR REPLACE INTO files VALUES (?,?,?,?,?,?,?)", seen)
    for number, source in changes.sources:
        write_source(connection, number, source)
    digest = state.dead_digest
    for row in gone:
        digest ^= death(row, generation)
    after = replace(
        state,
        generation=generation,
        last_row=state.last_row + len(changes.add),
        live=state.live + len(changes.add) - len(gone),
        dead=state.dead + len(gone),
        dead_digest=digest,
    )
    fresh = len(changes.add) - len(replaced)
    return after, Applied(fresh, len(replaced), len(gone) - len(replaced))


def _insert(connection: sqlite3.Connection, records: Sequence[Record], generation: int) -> set[int]:
    """Insert rows; the rows of items that they replace."""
    insert = f"INSERT INTO items ({COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?)"  # noqa: S608
    connection.execute("SAVEPOINT fresh")
    try:  # most often all are new, and looking for each of them first would take as long again
        connection.executemany(insert, records)
        replaced = set[int]()
    except sqlite3.IntegrityError:
        connection.execute("ROLLBACK TO fresh")
        replaced = set(_live_rows(connection, (record[4] for record in records)))
        _bury(connection, replaced, generation)
        connection.executemany(insert, records)
    connection.execute("RELEASE fresh")
    return replaced


def _bury(connection: sqlite3.Connection, rows: set[int], generation: int) -> None:
    died = ((generation, row) for row in rows)
    connection.executemany("UPDATE items SET died = ? WHERE row = ?", died)


def _rows(connection: sqlite3.Connection, names: Sequence[str]) -> list[int]:
    """The rows of those of these ids that are there."""
    return _live_rows(connection, map(name_bytes, names))


def _live_rows(connection: sqlite3.Connection, names: Iterable[bytes]) -> list[int]:
    query = "SELECT row FROM items WHERE id = ? AND died = 0"
    found = (connection.execute(query, (name,)).fetchone() for name in names)
    return [int(row[0]) for row in found if row is not None]
