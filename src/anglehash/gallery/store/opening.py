"""Opening a store for writing: a new one, one that is being built, or the one that a gallery has in use."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from anglehash.errors import ModelError
from anglehash.files import sync_directory, sync_tree
from anglehash.gallery.store import database
from anglehash.gallery.store.database import State
from anglehash.gallery.store.layout import Store, acknowledge, clean, file_lock, read_receipt, write_receipt
from anglehash.gallery.store.reader import load
from anglehash.gallery.store.sqlite import sqlite_errors
from anglehash.gallery.store.writer import Writer

LOCK_TIMEOUT = 10.0
"""Seconds that a writer waits for another."""


def make_store(store: Store, state: State, model: Path | None = None) -> None:
    """A new, empty store, which no manifest names yet.

    Args:
        store: where; nothing is there.
        state: its bits, model and root.
        model: a folder to copy into it.
    """
    store.make()
    acknowledge(store, state.generation)
    if model is not None:
        shutil.copytree(model, store.model)
    sync_tree(store.path)  # before the truth, which says that all else is there
    connection = database.create(store.database, state)
    with sqlite_errors(store.database):
        connection.close()
    sync_tree(store.path)
    sync_directory(store.path.parent)


@contextmanager
def attach(store: Store, *, lock_timeout: float = LOCK_TIMEOUT) -> Iterator[Writer]:
    """Write to a store that no manifest need name yet.

    Raises:
        ModelError: damaged, or another process writes to it.
    """
    with file_lock(store.lock, store.path.parent, lock_timeout):
        connection = _connect(store)
        try:
            with sqlite_errors(store.database):
                state = database.read_state(connection, store.database)
            yield Writer(store, connection, state)
        finally:
            connection.close()


def _connect(store: Store) -> sqlite3.Connection:
    if database.is_barred(store.database):
        gallery = store.path.parent
        with suppress(ModelError):  # a store that no manifest names yet
            named, receipt = read_receipt(gallery)
            if named == store:
                write_receipt(gallery, replace(receipt, database=None))
        database.leave_log(store.database)
    return database.connect(store.database, write=True)


@contextmanager
def open_writer(path: Path, *, lock_timeout: float = LOCK_TIMEOUT) -> Iterator[Writer]:
    """The one writer of a gallery; segments and manifest follow when the block ends without an error.

    Raises:
        ModelError: no gallery, damaged, or another process writes to it for longer than ``lock_timeout``.
    """
    store, receipt = read_receipt(path)
    while True:
        with attach(store, lock_timeout=lock_timeout) as writer:
            current, receipt = read_receipt(path)
            if current != store:  # it was re-encoded while we waited
                store = current
                continue
            clean(path, store.number)
            found = load(path)  # compares what is there with its hashes: nothing is built upon damage
            found.connection.close()
            if len(found.segments) == len(receipt.segments):
                writer.follow(path, receipt, list(found.segments.values()))
            else:
                writer.follow(path, replace(receipt, last_row=0), [])  # a damaged one: rebuild all
            yield writer
            writer.settle()
        return
