"""Verifying: every byte of a gallery against what it should be, and every row of the truth against its crc."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np

from anglehash.errors import ModelError
from anglehash.gallery.store.checks import check_state, read_dead
from anglehash.gallery.store.database import State, connect, content_digest, file_digest, log_size, read_state
from anglehash.gallery.store.items import COLUMNS, check, seen_of
from anglehash.gallery.store.layout import Receipt, Store, acknowledged, file_of, read_receipt
from anglehash.gallery.store.plausible import row_fault, state_fault
from anglehash.gallery.store.reader import SMALL
from anglehash.gallery.store.segments import Segment, read_segment
from anglehash.gallery.store.sources import read_sources
from anglehash.gallery.store.sqlite import sqlite_errors, transaction
from anglehash.manifest import NAME, kind_of, read_manifest

_ENCODERS = ("model", "bundle")
_TRIES = 50


class Fault(NamedTuple):
    """Something that is not as it should be.

    Attributes:
        file: which file.
        detail: what is wrong, in one line.
    """

    file: str
    detail: str


def verify(path: Path) -> list[Fault]:
    """Everything that is wrong with a gallery; nothing is changed.

    Raises:
        ModelError: it is not a gallery at all, or one of a newer format.
    """
    for _ in range(_TRIES):
        try:
            store, receipt = read_receipt(path)
        except ModelError as error:
            if not any(path.glob("[0-9]*/items.db")):
                raise
            return [Fault(str(path / NAME), str(error))]
        faults: list[Fault] = []
        file = file_of(store)
        try:
            segments = list(_segments(store, receipt, faults))
            faults += _receipt(store)
            faults += _database(path, store, receipt, segments)
            faults += model_faults(store, receipt.model, receipt.bits)
        except FileNotFoundError as error:
            faults.append(Fault(str(error.filename), "it is missing"))
        if not faults or (read_receipt(path)[1] == receipt and file_of(store) == file):
            return faults
    raise ModelError(f"{path} changes faster than it can be verified: try again")


def _segments(store: Store, receipt: Receipt, faults: list[Fault]) -> Iterator[Segment]:
    for facts in receipt.segments:
        try:
            yield read_segment(store.segments, facts, receipt.bits)
        except ModelError as error:
            faults.append(Fault(str(store.segments / facts["name"]), str(error)))


def _receipt(store: Store) -> list[Fault]:
    try:
        acknowledged(store)
    except ModelError as error:
        return [Fault(str(store.receipt), str(error))]
    return []


def _database(path: Path, store: Store, receipt: Receipt, segments: list[Segment]) -> list[Fault]:
    """What is wrong with the truth, and where segments do not agree with it."""
    faults: list[Fault] = []
    try:
        connection = connect(store.database)
    except ModelError as error:
        return [Fault(str(store.database), str(error))]
    try:
        with transaction(connection, store.database):
            state = read_state(connection, store.database)
            if state.generation == receipt.generation and receipt.database:
                faults += _broken_seal(path, connection, store, receipt)
            faults += examine(connection, store, state, receipt)
            if not faults:  # else a segment would be named for what the truth has lost
                faults += _disagreements(connection, store, segments)
    except ModelError as error:
        faults.append(Fault(str(store.database), str(error)))
    finally:
        connection.close()
    return faults


def _broken_seal(path: Path, connection: sqlite3.Connection, store: Store, receipt: Receipt) -> list[Fault]:
    """Whether the database's bytes are not those of the manifest, though nothing was committed since."""
    small = store.database.stat().st_size <= SMALL
    digest = content_digest(connection) if small else file_digest(store.database)
    (pages,), (page,) = (
        connection.execute(f"PRAGMA {name}").fetchone() for name in ("page_count", "page_size")
    )
    further = store.database.stat().st_size - pages * page
    # Outside this transaction a writer may have gone on; then the file is another one, and no fault.
    with closing(connect(store.database)) as another, sqlite_errors(store.database):
        state = read_state(another, store.database)
    undisturbed = state.generation == receipt.generation and read_receipt(path)[1] == receipt
    if digest != receipt.database and (small or undisturbed):
        return [Fault(str(store.database), "its sha256 is not the manifest's")]
    if further and undisturbed and not log_size(store.database):
        return [Fault(str(store.database), f"{further} bytes follow its end")]
    return []


def examine(connection: sqlite3.Connection, store: Store, state: State, receipt: Receipt) -> list[Fault]:
    """What is wrong inside the truth: its structure, its counts, its rows."""
    file, faults = str(store.database), []
    with sqlite_errors(store.database):
        for (line,) in connection.execute("PRAGMA integrity_check(20)"):
            if line != "ok":
                faults.append(Fault(file, line.splitlines()[0]))
        checks = (
            lambda: check_state(store, receipt, state, _noted(store)),
            lambda: read_dead(connection, store, state),
            lambda: read_sources(connection, store.database),
        )
        for one in checks:
            try:
                one()
            except ModelError as error:
                faults.append(Fault(file, str(error)))
        (live,) = connection.execute("SELECT count(*) FROM items NOT INDEXED WHERE died = 0").fetchone()
        if live != state.live:
            faults.append(Fault(file, f"{live} items are there, {state.live} are counted"))
        fault = state_fault(state)
        faults += [Fault(file, fault)] if fault else _bad_rows(connection, store, state)
    return faults


def _noted(store: Store) -> int:
    try:
        return acknowledged(store)
    except ModelError:
        return 0  # a fault of its own


def _bad_rows(connection: sqlite3.Connection, store: Store, state: State) -> list[Fault]:
    faults, file = [], str(store.database)
    for *fields, died in connection.execute(f"SELECT {COLUMNS}, died FROM items NOT INDEXED"):  # noqa: S608
        record = tuple(fields)
        try:
            check(record, store.database)
            if fault := row_fault(record, died, state):
                faults.append(Fault(file, f"{store.database} is not one that anglehash wrote: {fault}"))
        except ModelError as error:
            faults.append(Fault(file, str(error)))
    for record in connection.execute("SELECT * FROM files"):
        try:
            seen_of(record, store.database)
        except ModelError as error:
            faults.append(Fault(str(store.database), str(error)))
    return faults


def _disagreements(connection: sqlite3.Connection, store: Store, segments: list[Segment]) -> list[Fault]:
    """Segments whose codes are not those of the truth: both checksums match, so one of them was forged."""
    faults = []
    for segment in segments:
        if not len(segment.rows):
            continue
        span = (int(segment.rows[0]), int(segment.rows[-1]))
        query = "SELECT row, code FROM items WHERE row BETWEEN ? AND ?"
        truth = dict(connection.execute(query, span).fetchall())
        codes = zip(segment.rows.tolist(), np.ascontiguousarray(segment.codes), strict=True)
        wrong = [row for row, code in codes if truth.get(row) != code.tobytes()]
        if wrong:
            detail = f"{len(wrong)} of its codes are not those of items.db (first: row {wrong[0]})"
            faults.append(Fault(str(store.segments / segment.name), detail))
    return faults


def model_faults(store: Store, model_id: str, bits: int) -> list[Fault]:
    """What is wrong with the copy of the gallery's model; one without a manifest is nobody's promise."""
    if not (store.model / NAME).exists():
        return []
    kind = kind_of(store.model)
    try:
        facts = read_manifest(store.model, kind if kind in _ENCODERS else "model", sys.maxsize)
    except ModelError as error:
        return [Fault(str(store.model), str(error))]
    said = facts.get("id", model_id), facts.get("bits", bits)
    if said != (model_id, bits):
        wanted = f"the codes are of {model_id}, of {bits} bits"
        return [Fault(str(store.model), f"it is the model {said[0]!r} of {said[1]!r} bits, but {wanted}")]
    named = {NAME, *facts["files"]}
    if further := sorted(entry.name for entry in store.model.iterdir() if entry.name not in named):
        return [Fault(str(store.model), f"its manifest does not name {further[0]!r}")]
    return []
