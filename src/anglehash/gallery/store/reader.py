"""Reading: one whole generation of a gallery, whatever writers do meanwhile.

Segments hold the codes up to the manifest's generation; what was committed since is read from the truth in
one transaction. The manifest is read first and looked at again at the end: where it has changed, a writer
may have taken away what it named, and reading starts over.
"""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from anglehash.codes import Codes, check_codes, width
from anglehash.errors import CodeMismatchError, ModelError
from anglehash.gallery.store.checks import check_state, read_dead
from anglehash.gallery.store.database import State, connect, content_digest, file_digest, read_state
from anglehash.gallery.store.items import COLUMNS, Record, Stored, check, stored
from anglehash.gallery.store.layout import Receipt, Store, acknowledged, file_of, read_receipt, read_steadily
from anglehash.gallery.store.segments import Rows, Segment, read_segment
from anglehash.gallery.store.sqlite import sqlite_errors, transaction

_log = logging.getLogger(__name__)

SMALL = 64 * 2**20
"""A database up to this size is compared with its sha256 whenever it is opened (0.1 s); a larger one by
``verify``, while the crc of every row that is served is compared in any case."""

_PAGE = 4096  # items that are read at once


class PurgedError(Exception):
    """A row of this generation is gone: a writer has removed it for good since."""


class Part(NamedTuple):
    """Codes with the numbers of their rows."""

    rows: Rows
    codes: Codes


@dataclass(slots=True, eq=False)
class Snapshot:
    """One generation of a store.

    Attributes:
        store: where it is.
        receipt: the manifest that it was read by.
        state: what the store said of itself.
        segments: those that were found right, by name.
        parts: the codes of all items, in the order of their rows, as they lie in segments and in the truth.
        rows: ``(n,)`` row numbers of all items, ascending.
        connection: to look items up by their row.
        file: what tells the database's file from another one that takes its place.
        compared: rows of the truth up to this one were compared with a hash of theirs.
    """

    store: Store
    receipt: Receipt
    state: State
    segments: dict[str, Segment]
    parts: list[Part]
    rows: Rows
    connection: sqlite3.Connection
    file: tuple[int, ...]
    compared: int

    def release(self) -> None:
        """Let go of the memory that segments are mapped into; it comes back when it is looked at."""
        for segment in self.segments.values():
            segment.release()

    def compare(self, connection: sqlite3.Connection) -> None:
        """Compare the rows of the truth with their hashes, those that were not yet: a filter trusts all of them.

        That is the sha256 of the file where that holds (a second for a GB), else the crc of each row (three
        seconds for a million); both once only.

        Args:
            connection: to the truth; :attr:`connection`, or another that nobody uses meanwhile.

        Raises:
            ModelError: a row is damaged or missing.
        """
        if self.compared >= self.state.last_row:
            return
        if self._seal_matches(connection):
            self.compared = self.state.last_row
            return
        last = self.state.last_row
        query = f"SELECT {COLUMNS} FROM items WHERE row > ? ORDER BY row LIMIT {_PAGE}"  # noqa: S608
        lacking = self.rows[np.searchsorted(self.rows, self.compared, side="right") :]
        while self.compared < last:
            with sqlite_errors(self.store.database):
                records = connection.execute(query, (self.compared,)).fetchall()
            for record in records:
                check(record, self.store.database)
            until = records[-1][0] if len(records) == _PAGE else last
            wanted, lacking = np.split(lacking, [np.searchsorted(lacking, until, side="right")])
            if len(absent := np.setdiff1d(wanted, [record[0] for record in records])):
                raise self._purged(int(absent[0]))
            self.compared = until

    def _seal_matches(self, connection: sqlite3.Connection) -> bool:
        """Whether the file is still, byte for byte, what the manifest's sha256 was taken of."""
        if self.receipt.database is None or self.state.generation != self.receipt.generation:
            return False
        if _size(self.store) <= SMALL:
            return content_digest(connection) == self.receipt.database
        with suppress(OSError):  # then each row decides
            return file_digest(self.store.database) == self.receipt.database
        return False

    def items(self, rows: Sequence[int]) -> list[Stored]:
        """The items of these rows.

        Raises:
            ModelError: a row is damaged.
            PurgedError: a later writer has purged one of them.
        """
        query = f"SELECT {COLUMNS}, died FROM items WHERE row IN (SELECT value FROM json_each(?))"  # noqa: S608
        with sqlite_errors(self.store.database):
            records = self.connection.execute(query, (json.dumps(rows),)).fetchall()
        return self._in_order(rows, records)

    def everything(self) -> Iterator[list[Stored]]:
        """All items, in the order of their rows, some at a time; those of one list are all there or none.

        Raises:
            ModelError: a row is damaged.
            PurgedError: a later writer has purged one of them.
        """
        query = f"SELECT {COLUMNS}, died FROM items WHERE row BETWEEN ? AND ? ORDER BY row"  # noqa: S608
        for start in range(0, len(self.rows), _PAGE):
            wanted = self.rows[start : start + _PAGE].tolist()
            with sqlite_errors(self.store.database):
                records = self.connection.execute(query, (wanted[0], wanted[-1])).fetchall()
            yield self._in_order(wanted, records)

    def _in_order(self, rows: Sequence[int], records: Sequence[Record]) -> list[Stored]:
        """The items of these rows, out of records of them and possibly of others."""
        by_row, database = {record[0]: record for record in records}, self.store.database
        if absent := [row for row in rows if row not in by_row]:
            raise self._purged(absent[0])
        return [self._checked(by_row[row], database) for row in rows]

    def _purged(self, row: int) -> PurgedError:
        return PurgedError(
            f"{self.store.database} is damaged: row {row} is missing. Run anglehash repair, or restore a backup"
        )

    def _checked(self, record: Record, database: Path) -> Stored:
        *fields, died = record
        if died and died <= self.state.generation:
            raise ModelError(
                f"{database} is damaged: row {fields[0]} died before it was found. "
                "Run anglehash repair, or restore a backup"
            )
        return stored(tuple(fields), database)


def load(path: Path, previous: Snapshot | None = None) -> Snapshot:
    """The newest generation of a gallery.

    Args:
        path: the gallery's folder.
        previous: an older snapshot, whose segments and connection are used again where they fit.

    Raises:
        ModelError: no gallery, of another format, or damaged.
    """

    def read(store: Store, receipt: Receipt) -> Snapshot:
        found = _load(store, receipt, previous)
        if read_receipt(path)[1] == receipt and file_of(store) == found.file:
            return found
        if previous is None or found.connection is not previous.connection:
            found.connection.close()
        raise FileNotFoundError(f"what {path} named is replaced")

    return read_steadily(path, read)


def _load(store: Store, receipt: Receipt, previous: Snapshot | None) -> Snapshot:
    file = file_of(store)
    last = previous if previous and (previous.store, previous.file) == (store, file) else None
    segments, lost = _segments(store, receipt, last.segments if last else {})
    noted = acknowledged(store)  # before the state, which is never behind it
    connection = last.connection if last else connect(store.database)
    try:
        with transaction(connection, store.database):
            state = read_state(connection, store.database)
            check_state(store, receipt, state, noted)
            matches = _check_seal(connection, store, receipt, state)
            dead = read_dead(connection, store, state)
            parts = [Part(s.rows, s.codes) for s in segments.values()]
            parts += [read_part(connection, store, span, receipt.bits) for span in lost]
            parts.append(read_part(connection, store, (receipt.last_row + 1, state.last_row), receipt.bits))
        parts = _alive(parts, dead, receipt.bits)
        rows = joined([part.rows for part in parts], np.empty(0, np.uint32))
        if len(rows) != state.live:
            raise ModelError(
                f"{store.database} is damaged: {len(rows)} items were found, but it holds {state.live}. "
                "Run anglehash repair, or restore a backup"
            )
    except BaseException:
        if last is None:
            connection.close()
        raise
    compared = state.last_row if matches else last.compared if last else 0
    return Snapshot(store, receipt, state, segments, parts, rows, connection, file, compared)


def _segments(
    store: Store, receipt: Receipt, known: dict[str, Segment]
) -> tuple[dict[str, Segment], list[tuple[int, int]]]:
    """The segments that are right, and the spans of rows of those that are not."""
    segments, lost = {}, []
    for facts in receipt.segments:
        name = facts["name"]
        if name in known and known[name].sha256 == facts["sha256"]:
            segments[name] = known[name]
            continue
        try:
            segments[name] = read_segment(store.segments, facts, receipt.bits)
        except ModelError as error:
            _log.warning("%s; its codes are read from %s: run anglehash repair", error, store.database.name)
            lost.append((facts["first"], facts["last"]))
    return segments, lost


def _size(store: Store) -> int:
    return store.database.stat().st_size


def _check_seal(connection: sqlite3.Connection, store: Store, receipt: Receipt, state: State) -> bool:
    """Compare a small database with its sha256, if nothing was committed since that was taken; whether it was."""
    if receipt.database is None or state.generation != receipt.generation or _size(store) > SMALL:
        return False
    if content_digest(connection) != receipt.database:
        raise ModelError(
            f"{store.database} is damaged: its sha256 is not the manifest's. "
            "Run anglehash repair, or restore a backup"
        )
    return True


def read_part(connection: sqlite3.Connection, store: Store, span: tuple[int, int], bits: int) -> Part:
    """The codes of a span of rows, dead ones too, from the truth.

    Raises:
        ModelError: a row is damaged.
    """
    query = f"SELECT {COLUMNS} FROM items WHERE row BETWEEN ? AND ? ORDER BY row"  # noqa: S608
    rows, codes, path = [], [], store.database
    for record in connection.execute(query, span):
        check(record, path)
        rows.append(record[0])
        codes.append(record[-2])
    packed = np.frombuffer(b"".join(codes), np.uint8)
    if any(len(code) != width(bits) for code in codes):
        raise ModelError(f"{store.database} holds codes of another length than {bits} bits")
    return Part(np.array(rows, np.uint32), packed.reshape(-1, width(bits)))


def _alive(parts: Sequence[Part], dead: Rows, bits: int) -> list[Part]:
    """The parts in the order of their rows, without the dead; one that has none of them is not copied.

    Raises:
        ModelError: a code is longer than its bits.
    """
    alive = []
    for rows, codes in sorted((p for p in parts if len(p.rows)), key=lambda part: int(part.rows[0])):
        gone = dead[(dead >= rows[0]) & (dead <= rows[-1])]
        if len(gone):
            kept = ~np.isin(rows, gone)
            rows, codes = rows[kept], codes[kept]
        if not len(rows):
            continue
        try:
            alive.append(Part(rows, check_codes(codes, bits)))
        except CodeMismatchError as error:
            raise ModelError(f"these are no {bits}-bit codes: {error}") from error
    return alive


def joined(arrays: Sequence[NDArray[Any]], empty: NDArray[Any]) -> NDArray[Any]:
    """Arrays one after the other; no copy where there is but one."""
    if len(arrays) == 1:
        return arrays[0]
    return np.concatenate(arrays) if arrays else empty
