"""Writing to a remote gallery: what a :class:`~anglehash.gallery.store.writer.Writer` offers, done by an engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from anglehash.gallery.store.commits import Applied, Changes, codes_of
from anglehash.gallery.store.items import Seen, Stored
from anglehash.gallery.store.sources import Source, number_of
from anglehash.remote.backend import Entry
from anglehash.remote.models import fetched
from anglehash.remote.rows import key_of, row_of
from anglehash.remote.snapshot import RemoteView, read_entry


class RemoteWriter:
    """Changes a remote gallery.

    PostgreSQL applies each commit whole or not at all, one writer after the other. Milvus has no transactions: each
    item is there or not, and two writers at a time may give one number to two rows, so let one write at a time.
    A writer that died in the middle of a commit leaves a number of items that is wrong: the next one mends it.

    Args:
        view: of the gallery; it shows what was committed.
    """

    def __init__(self, view: RemoteView) -> None:
        self._view = view

    @property
    def model_id(self) -> str:
        """The identity of the model that made the gallery's codes."""
        return self._view.entry.model

    @property
    def model_folder(self) -> Path:
        """A copy of the gallery's model in the cache, fetched when it is first asked for."""
        return fetched(self._view.engine, self.model_id, self._view.target)

    def commit(self, changes: Changes) -> Applied:
        """Add, replace and remove items; ``seen`` and ``forget`` are passed over.

        Raises:
            CodeMismatchError: a code does not have the gallery's bits.
            DataError: an id comes twice, or the engine cannot hold an item.
            RemoteError: the engine is down.
        """
        view, engine = self._view, self._view.engine
        removed = [key_of(name) for name in dict.fromkeys(changes.remove)]
        with engine.exclusive(view.target.name):
            view.entry = entry = read_entry(engine, view.target)
            codes_of(changes.add, entry.bits)  # checks them
            rows = [row_of(item, entry.last_row + place) for place, item in enumerate(changes.add, 1)]
            added = {row.key for row in rows}
            there = {row.key for row in view.named([*removed, *added])}
            gone = [key for key in removed if key in there]
            # First the numbers are taken, so that no row of a writer that dies here is given one of them again.
            entry = self._note(replace(entry, last_row=entry.last_row + len(rows), checksum=""))
            if gone:
                engine.remove(entry.collection, gone)
            if rows:
                engine.put(entry.collection, rows)
            live = engine.count(entry.collection)
            self._note(replace(entry, live=live, generation=entry.generation + 1))
        replaced = len(there & added - set(gone))
        return Applied(len(rows) - replaced, replaced, len(gone))

    def add_source(self, source: Source) -> int:
        """The number of a source; a new one is noted."""
        view = self._view
        with view.engine.exclusive(view.target.name):
            entry = read_entry(view.engine, view.target)
            known = dict(entry.sources)
            number = number_of(source, known)
            if number not in known:
                self._note(replace(entry, sources=(*entry.sources, (number, source))))
        return number

    def items(self, names: Sequence[str]) -> dict[str, Stored]:
        """The items of these ids, as far as they are there."""
        found = (self._view.stored(row) for row in self._view.named([key_of(name) for name in names]))
        return {stored.item.id: stored for stored in found}

    def item(self, name: str) -> Stored | None:
        """The item of this id, if it is there."""
        return self.items([name]).get(name)

    def seen(self, name: str) -> Seen | None:
        """Nothing: an engine keeps no list of files, so whether one is unchanged depends on its content."""
        return None

    def ids(self) -> list[str]:
        """The ids of all items; all rows are read."""
        return [self._view.stored(row).item.id for row in self._view.rows()]

    def files(self) -> list[str]:
        """Nothing, as for :meth:`seen`."""
        return []

    def mend(self) -> None:
        """Put the number of items right, where a writer has died in the middle of a commit."""
        view = self._view
        with view.engine.exclusive(view.target.name):
            entry = read_entry(view.engine, view.target)
            live = view.engine.count(entry.collection)
            if live != entry.live:
                self._note(replace(entry, live=live, generation=entry.generation + 1))

    def close(self) -> None:
        """Let go of the connection."""
        self._view.engine.close()

    def _note(self, entry: Entry) -> Entry:
        self._view.engine.set_entry(self._view.target.name, entry.text())
        self._view.entry = entry
        return entry
