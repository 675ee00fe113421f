"""Writing: commits to the truth, and then the segments and the manifest that follow from it.

The order is what makes a commit safe: one SQLite transaction, its receipt, and only then the caller hears of
it. Segments come later, each written whole under a new name; the manifest that names them is swapped last.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np

from anglehash.gallery.store import database
from anglehash.gallery.store.commits import Applied, Changes, apply, codes_of
from anglehash.gallery.store.database import State
from anglehash.gallery.store.items import COLUMNS, Item, Seen, Stored, name_bytes, name_text, seen_of, stored
from anglehash.gallery.store.layout import Receipt, Store, acknowledge, write_receipt
from anglehash.gallery.store.reader import SMALL, Part, read_part
from anglehash.gallery.store.segments import Segment, write_segment
from anglehash.gallery.store.sources import Source, number_of, read_sources
from anglehash.gallery.store.sqlite import sqlite_errors, transaction

__all__ = ["CHUNK", "LONG_TAIL", "TAIL", "Applied", "Changes", "Writer"]

_log = logging.getLogger(__name__)

TAIL = 4096
"""Number of rows that may lack a segment when a writer closes: reading them from the database takes 20 ms."""

CHUNK = 16_384
"""Items of one commit where there are many to add."""

LONG_TAIL = 1 << 16
"""Number of rows at which segments are written while the writer continues."""


class Writer:
    """The one writer of a store. :func:`~anglehash.gallery.store.opening.open_writer` opens one.

    Attributes:
        store: where it writes.
        state: of the last commit.
        connection: to the truth.
    """

    def __init__(self, store: Store, connection: sqlite3.Connection, state: State) -> None:
        self.store = store
        self.connection = connection
        self.state = state
        self._file = store.database
        self._segments: list[Segment] = []
        self._covered = 0  # the last row that a segment covers
        self._fresh: list[Part] = []  # what was committed since, by this writer
        self._grown = False  # segments were written since the writer was opened
        self._gallery: Path | None = None  # whose manifest names this store

    def follow(self, gallery: Path, receipt: Receipt, segments: Sequence[Segment]) -> None:
        """Go on from a manifest and its segments; without this, all segments are rebuilt."""
        self._gallery, self._covered, self._segments = gallery, receipt.last_row, list(segments)

    def commit(self, changes: Changes) -> Applied:
        """Apply changes, all or none; when this returns they are on disk.

        Raises:
            CodeMismatchError: a code does not have the gallery's bits.
            DataError: an id comes twice, or is not a file name.
            OSError: the disk is full or fails; nothing was changed.
        """
        codes = codes_of(changes.add, self.state.bits)
        before, applied = self.state.last_row, Applied()

        def change(state: State) -> State:
            nonlocal applied
            after, applied = apply(self.connection, state, changes)
            return after

        self._advance(change)
        if changes.add:
            rows = np.arange(before + 1, self.state.last_row + 1, dtype=np.uint32)
            self._fresh.append(Part(rows, codes))
        if self._gallery and self.state.last_row - self._covered >= LONG_TAIL:
            self.settle(seal=False)
        return applied

    def _advance(self, change: Callable[[State], State]) -> None:
        """Make the next generation in one transaction, and acknowledge it. Nothing else here writes to the truth.

        The manifest's sha256 holds for one generation, so every transaction must make another.

        Args:
            change: changes the tables; returns the state to be written, whose generation is raised where it is not.
        """
        with transaction(self.connection, self._file, write=True):
            after = change(self.state)
            if after.generation <= self.state.generation:
                after = replace(after, generation=self.state.generation + 1)
            database.write_state(self.connection, after)
        self.state = after
        acknowledge(self.store, after.generation)

    def commit_all(self, items: Iterable[Item]) -> None:
        """Add items, however many, some at a time: after an error those of earlier commits are there.

        Raises:
            CodeMismatchError, DataError, OSError: as for :meth:`commit`.
        """
        rest = iter(items)
        while part := list(islice(rest, CHUNK)):
            self.commit(Changes(part))

    def settle(self, *, seal: bool = True) -> None:
        """Write segments and manifest; should that fail, commits are safe in the truth and it is tried again.

        Args:
            seal: as for :meth:`publish`.
        """
        if self._gallery is None:
            return
        try:
            self.publish(self._gallery, seal=seal)
        except OSError as error:
            _log.warning("segments of %s are not written, searching continues: %s", self.store.path, error)

    def publish(self, gallery: Path, *, seal: bool = True) -> None:
        """Write segments as needed, then the manifest of ``gallery``, which names this store from now on.

        Args:
            gallery: its folder.
            seal: take the sha256 of a large database where it has grown: a second for a GB, so not in between.

        Raises:
            OSError: the disk is full or fails; the old manifest and its segments are still there.
        """
        tail, crowded = self.state.last_row - self._covered, self.state.dead > max(TAIL, self.state.live // 4)
        grown = tail > TAIL or (not self._segments and tail > 0) or crowded
        if grown:
            self._write_segments(whole=crowded)
        self._grown |= grown
        self._name(gallery, seal=seal and self._grown and not crowded)
        if crowded:
            self._purge()
            self._name(gallery, seal=seal)
        named = {segment.name for segment in self._segments}
        for path in self.store.segments.glob("*.codes"):
            if path.name not in named:
                with suppress(OSError):  # Windows keeps what a reader has open
                    path.unlink()

    def skip_to(self, generation: int) -> None:
        """Go on from a later generation, where one that was acknowledged is lost."""
        self._advance(lambda state: replace(state, generation=generation + 1))

    def add_source(self, source: Source) -> int:
        """The number of a source; a new one is noted."""
        known = read_sources(self.connection, self._file)
        number = number_of(source, known)
        if number not in known:
            self.commit(Changes(sources=[(number, source)]))
        return number

    @property
    def model_id(self) -> str:
        """The identity of the model that made the codes."""
        return self.state.model

    @property
    def model_folder(self) -> Path:
        """The folder with the gallery's copy of its model."""
        return self.store.model

    def items(self, names: Iterable[str]) -> dict[str, Stored]:
        """The items of these ids, as far as they are there."""
        return {name: found for name in names if (found := self.item(name))}

    def item(self, name: str) -> Stored | None:
        """The item of this id, if it is there."""
        query = f"SELECT {COLUMNS} FROM items WHERE id = ? AND died = 0"  # noqa: S608
        with sqlite_errors(self._file):
            found = self.connection.execute(query, (name_bytes(name),)).fetchone()
        return None if found is None else stored(found, self._file)

    def item_at(self, row: int) -> Stored | None:
        """The item of this row, if it is there."""
        query = f"SELECT {COLUMNS} FROM items WHERE row = ? AND died = 0"  # noqa: S608
        with sqlite_errors(self._file):
            found = self.connection.execute(query, (row,)).fetchone()
        return None if found is None else stored(found, self._file)

    def seen(self, name: str) -> Seen | None:
        """What is known of the file of this id, if it was ever seen."""
        with sqlite_errors(self._file):
            found = self.connection.execute(
                "SELECT * FROM files WHERE id = ?", (name_bytes(name),)
            ).fetchone()
        return None if found is None else seen_of(found, self._file)

    def ids(self) -> list[str]:
        """The ids of all items."""
        with sqlite_errors(self._file):
            found = self.connection.execute("SELECT id FROM items WHERE died = 0").fetchall()
        return [name_text(name) for (name,) in found]

    def files(self) -> list[str]:
        """The ids of all files that were seen."""
        with sqlite_errors(self._file):
            return [name_text(name) for (name,) in self.connection.execute("SELECT id FROM files").fetchall()]

    def complete(self, generation: int) -> None:
        """Mark a store that was built beside the one in use, now in this generation, as fit to be named."""
        after = (
            max(generation, self.state.generation) + 1
        )  # no number that a reader knows from the other store
        self._advance(lambda state: replace(state, complete=True, generation=after))

    def _write_segments(self, *, whole: bool) -> None:
        """Segments up to the last row: a new one, merged with its neighbours until each is twice the next."""
        last, fresh = self.state.last_row, [] if whole else self._fresh
        first = 0 if whole else self._covered + 1
        until = int(fresh[0].rows[0]) - 1 if fresh else last
        with transaction(self.connection, self._file):
            dead = [row for (row,) in self.connection.execute("SELECT row FROM items WHERE died > 0")]
            older = read_part(self.connection, self.store, (first, until), self.state.bits)
        kept = [] if whole else list(self._segments)
        parts = [older, *fresh]
        while kept and len(kept[-1].rows) < 2 * sum(len(part.rows) for part in parts):
            last_kept = kept.pop()
            parts.insert(0, Part(last_kept.rows, last_kept.codes))
        rows = np.concatenate([part.rows for part in parts])
        codes = np.concatenate([part.codes for part in parts])
        alive = ~np.isin(rows, np.array(dead, np.uint32))
        generation, bits = self.state.generation, self.state.bits
        if alive.any():
            made = write_segment(self.store.segments, generation, rows[alive], codes[alive], bits)
            kept.append(made)
        self._segments, self._covered, self._fresh = kept, last, []

    def _name(self, gallery: Path, *, seal: bool) -> None:
        """Write the manifest; with the database's sha256 where it is small or ``seal`` says so."""
        path, digest = self._file, None
        with sqlite_errors(path):
            whole = database.checkpoint(self.connection, path)
        if whole and path.stat().st_size <= SMALL:
            digest = database.content_digest(self.connection)
        elif whole and seal:
            digest = database.file_digest(path)
        receipt = Receipt(
            store=self.store.number,
            generation=self.state.generation,
            last_row=self._covered,
            count=self.state.live,
            bits=self.state.bits,
            model=self.state.model,
            segments=[segment.facts() for segment in self._segments],
            database=digest,
        )
        write_receipt(gallery, receipt)

    def _purge(self) -> None:
        """Delete dead rows, which no segment holds any more."""

        def purge(state: State) -> State:
            self.connection.execute("DELETE FROM items WHERE died > 0")
            return replace(state, dead=0, dead_digest=0)

        self._advance(purge)
