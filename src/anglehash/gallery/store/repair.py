"""Repairing: what is derived is rebuilt from the truth; a damaged truth gives up what is still whole.

Nothing is thrown away: a damaged store is kept beside the new one, as ``N.damaged``.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from anglehash.errors import ModelError
from anglehash.gallery.store import database
from anglehash.gallery.store.checks import read_dead
from anglehash.gallery.store.database import State, connect, read_state
from anglehash.gallery.store.items import COLUMNS, Item, Record, Seen, is_intact, seen_of, stored
from anglehash.gallery.store.layout import (
    Receipt,
    Store,
    acknowledge,
    file_lock,
    keep_damaged,
    mark_damaged,
    read_receipt,
)
from anglehash.gallery.store.opening import LOCK_TIMEOUT, attach, make_store
from anglehash.gallery.store.segments import read_segment
from anglehash.gallery.store.sources import Source, read_sources
from anglehash.gallery.store.sqlite import sqlite_errors
from anglehash.gallery.store.verify import Fault, examine, verify
from anglehash.gallery.store.writer import CHUNK, Changes, Writer


class Repaired(NamedTuple):
    """What a repair did.

    Attributes:
        faults: what was wrong.
        items: how many items the gallery has now.
        lost: how many it had more, as far as that is known.
        kept: where the damaged store was put, if the truth was damaged.
    """

    faults: list[Fault]
    items: int
    lost: int
    kept: Path | None


def repair(path: Path, *, lock_timeout: float = LOCK_TIMEOUT) -> Repaired:
    """Make a gallery whole again; what cannot be saved is counted.

    Raises:
        ModelError: it is not a gallery; or its truth cannot be opened at all, or its model's copy is damaged, for
            both of which only a backup helps.
    """
    faults = verify(path)
    store, receipt = _find(path)
    model = [fault for fault in faults if fault.file == str(store.model)]
    if not faults:
        return Repaired([], _count(store), 0, None)
    with file_lock(store.lock, path, lock_timeout):
        if _find(path) != (store, receipt):
            raise ModelError(f"{path} was written while this waited: run it once more")
        if _is_sound(store):
            items, lost, kept = _derive(path, store, receipt), 0, None
        else:
            items, lost, kept = _salvage(path, store, receipt)
    if model:
        raise ModelError(f"{model[0].detail}. The rest is repaired; restore a backup, or encode with reindex")
    return Repaired(faults, items, lost, kept)


def _find(path: Path) -> tuple[Store, Receipt | None]:
    """The store in use, and its manifest where that can be read."""
    try:
        return read_receipt(path)
    except ModelError:
        numbers = sorted(int(p.parent.name) for p in path.glob("[0-9]*/items.db") if p.parent.name.isdigit())
        for number in reversed(numbers):
            store = Store(path / str(number))
            try:
                with closing(connect(store.database)) as connection, sqlite_errors(store.database):
                    complete = read_state(connection, store.database).complete
            except ModelError:
                complete = len(numbers) == 1
            if complete:
                return store, None
        raise


def _count(store: Store) -> int:
    with closing(connect(store.database)) as connection, sqlite_errors(store.database):
        return read_state(connection, store.database).live


def _is_sound(store: Store) -> bool:
    """Whether the truth is whole in itself, whatever manifest and receipt say."""
    try:
        with closing(connect(store.database)) as connection:
            with sqlite_errors(store.database):
                state = read_state(connection, store.database)
            own = Receipt(
                store=store.number, generation=state.generation, last_row=0, count=state.live,
                bits=state.bits, model=state.model,
            )  # fmt: skip
            acknowledge(store, state.generation)  # what is gone is gone: it was counted by verify
            return not examine(connection, store, state, own)
    except ModelError:
        return False


def _derive(path: Path, store: Store, receipt: Receipt | None) -> int:
    """Rewrite segments and manifest."""
    store.make()
    with closing(connect(store.database, write=True)) as connection:
        with sqlite_errors(store.database):
            state = read_state(connection, store.database)
        writer = Writer(store, connection, state)
        if receipt and state.generation < receipt.generation:  # so that no reader takes it for an old one
            writer.skip_to(receipt.generation)
        writer.publish(path)
        return writer.state.live


def _salvage(path: Path, store: Store, receipt: Receipt | None) -> tuple[int, int, Path]:
    """Copy what is whole into a new store, and name it."""
    with closing(_open(store)) as connection:
        state = _state(connection, store, receipt)
        highest = max(int(p.name) for p in path.iterdir() if p.name.isdigit())
        fresh = Store(path / str(highest + 1))
        blank = replace(state, generation=state.generation + 1, last_row=0, live=0, dead=0, dead_digest=0)
        make_store(fresh, blank, store.model if store.model.is_dir() else None)
        with attach(fresh) as writer:
            writer.commit(
                Changes(
                    seen=list(_files(connection, store)), sources=list(_sources(connection, store).items())
                )
            )
            codes = _codes(store, receipt)
            batch: dict[str, Item] = {}
            for item in _items(connection, store, state.last_row, codes):
                batch[item.id] = item
                if len(batch) == CHUNK:
                    writer.commit(Changes(list(batch.values())))
                    batch = {}
            writer.commit(Changes(list(batch.values())))
            mark_damaged(store)
            writer.publish(path)
            live = writer.state.live
    return live, max(0, state.live - live), keep_damaged(store.path)


def _open(store: Store) -> sqlite3.Connection:
    """A database that may be damaged: whatever can be read of it."""
    try:
        return connect(store.database)
    except ModelError:
        if not store.database.is_file():
            raise
        return database.connect_anyhow(store.database)


def _state(connection: sqlite3.Connection, store: Store, receipt: Receipt | None) -> State:
    """What the damaged store said of itself, or what the manifest and the rows say in its place."""
    try:
        with sqlite_errors(store.database):
            return read_state(connection, store.database)
    except ModelError:
        if receipt is None:
            raise
    try:
        ((last,),) = connection.execute("SELECT max(row) FROM items").fetchall()
    except sqlite3.Error:
        last = receipt.last_row + CHUNK
    return State(
        bits=receipt.bits, model=receipt.model, generation=receipt.generation,
        last_row=last or 0, live=receipt.count,
    )  # fmt: skip


def _codes(store: Store, receipt: Receipt | None) -> dict[int, bytes]:
    """The codes of whole segments: a row whose code alone was damaged can be made whole with them."""
    codes: dict[int, bytes] = {}
    for facts in receipt.segments if receipt else []:
        try:
            segment = read_segment(store.segments, facts, receipt.bits) if receipt else None
        except ModelError:
            continue
        if segment:
            codes |= {
                row: code.tobytes() for row, code in zip(segment.rows.tolist(), segment.codes, strict=True)
            }
    return codes


def _items(
    connection: sqlite3.Connection, store: Store, last_row: int, codes: dict[int, bytes]
) -> Iterator[Item]:
    """The live items that are whole, row by row: a damaged page takes only its own rows with it."""
    try:
        dead = set(read_dead(connection, store, read_state(connection, store.database)).tolist())
    except (ModelError, sqlite3.Error):
        dead = None
    query = f"SELECT {COLUMNS}, died FROM items NOT INDEXED WHERE row = ?"  # noqa: S608
    for row in range(1, last_row + 1):
        try:
            found = connection.execute(query, (row,)).fetchone()
        except sqlite3.Error:
            continue
        if found is None:
            continue
        record, died = _mended(found[:-1], codes), found[-1]
        if is_intact(record) and not (row in dead if dead is not None else died):
            yield stored(record, store.database).item


def _mended(record: Record, codes: dict[int, bytes]) -> Record:
    if is_intact(record) or record[0] not in codes:
        return record
    return (*record[:-2], codes[record[0]], record[-1])


def _files(connection: sqlite3.Connection, store: Store) -> Iterator[Seen]:
    try:
        for record in connection.execute("SELECT * FROM files"):
            with suppress(ModelError):
                yield seen_of(record, store.database)
    except sqlite3.Error:
        return  # a damaged page: what comes after it is seen again by the next sync


def _sources(connection: sqlite3.Connection, store: Store) -> dict[int, Source]:
    try:
        return read_sources(connection, store.database)
    except ModelError:
        return {}
