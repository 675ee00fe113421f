"""What a gallery has open: one generation, its indexes, and the items that were answered lately."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from threading import Condition, RLock

import numpy as np
from numpy.typing import NDArray

from anglehash.codes import Codes, width
from anglehash.data.image_hash import Picture
from anglehash.encode.unknown_level import Level
from anglehash.errors import DataError
from anglehash.gallery.filter_cache import FilterCache, FilteredItems
from anglehash.gallery.filters import Filter
from anglehash.gallery.store.database import read_state
from anglehash.gallery.store.items import Item, Seen, Stored, name_bytes, seen_of
from anglehash.gallery.store.layout import file_of, read_receipt
from anglehash.gallery.store.reader import Snapshot, joined, load
from anglehash.gallery.store.segments import Rows
from anglehash.gallery.store.sqlite import sqlite_errors, transaction
from anglehash.index import CodeIndex, make_index

_KEPT_ITEMS = 100_000

NAMED = """SELECT row FROM items WHERE id = ?1 AND died = 0
           UNION ALL SELECT row FROM items WHERE id = ?1 AND died > 0"""
"""The rows that an id has or had. Each half has an index of its own; without them all items would be looked at."""

_SAME_BYTES, _SAME_PIXELS = (
    f"SELECT row FROM items WHERE {key} != x'' AND substr({key}, 1, 8) = ? AND {key} = ?"  # noqa: S608
    for key in ("content", "pixels")
)
"""The rows with these keys, of whatever generation; each is looked up in an index."""


class Built:
    """An index and what its rows are in the store.

    Attributes:
        index: of all items.
        rows: the store's row of each row of the index; only ever longer.
    """

    def __init__(self, engine: str, view: View) -> None:
        self._idle, self._searches = Condition(), 0
        parts = view.snapshot.parts
        self.rows: Rows = view.rows
        self.index: CodeIndex = make_index(engine, parts[0].codes if parts else view.codes, view.bits)
        for part in parts[1:]:  # one by one: joining them would take the memory of all of them again
            self.index.add(part.codes)
        view.snapshot.release()

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """While this lasts the index stays what it is."""
        with self._idle:
            self._searches += 1
        try:
            yield
        finally:
            with self._idle:
                self._searches -= 1
                self._idle.notify_all()

    def follow(self, view: View) -> None:
        """Go on to a later generation of the same store, once no search is under way: none sees half of it."""
        with self._idle:
            self._idle.wait_for(lambda: self._searches == 0)
            self._follow(view)

    def _follow(self, view: View) -> None:
        old, last = self.rows, int(self.rows[-1]) if len(self.rows) else 0
        kept = int(np.searchsorted(view.rows, last, side="right"))  # those that are new come after it
        unchanged = kept == len(old)
        self.rows = view.rows if unchanged else np.concatenate([old, view.rows[kept:]])
        for part in view.snapshot.parts:
            if int(part.rows[-1]) > last:
                self.index.add(part.codes[np.searchsorted(part.rows, last, side="right") :])
        if not unchanged and len(gone := np.flatnonzero(~np.isin(old, view.rows))):
            self.index.remove(gone)


class View:
    """One generation of a gallery; several threads may use it at once.

    Attributes:
        snapshot: what was read.
        bits: length of a code.
        rows: ``(n,)`` the row of each item, ascending.
    """

    def __init__(self, snapshot: Snapshot, lock: RLock | None = None) -> None:
        self.snapshot = snapshot
        self.bits = snapshot.state.bits
        self.rows: Rows = snapshot.rows
        self._lock = lock or RLock()  # one connection, one user at a time
        self._built: dict[str, Built] = {}
        self._filter_cache = FilterCache(snapshot, self._lock)
        self._items: dict[int, Stored] = {}

    @cached_property
    def codes(self) -> Codes:
        """``(n, ceil(bits / 8))`` packed codes of all items."""
        none = np.empty((0, width(self.bits)), np.uint8)
        return joined([part.codes for part in self.snapshot.parts], none)

    @cached_property
    def level(self) -> Level | None:
        """The level that the gallery's copy of its model states."""
        return Level.in_folder(self.snapshot.store.model, self.snapshot.state.model)

    def close(self) -> None:
        """Let go of the truth."""
        self._filter_cache.close()
        with self._lock:
            self.snapshot.connection.close()

    def newer(self, path: Path) -> View | None:
        """The view of the newest generation, or ``None`` where this is it.

        What was built stays built: indexes receive what was added and removed.
        """
        with self._lock:
            if self._is_newest(path):
                return None
            snapshot = load(path, self.snapshot)
            if snapshot.connection is not self.snapshot.connection:
                return View(snapshot)  # another store
            view = View(snapshot, self._lock)
            for built in self._built.values():
                built.follow(view)
            view._built, self._built = self._built, {}
            view._filter_cache = self._filter_cache.later(snapshot)
            return view

    def is_replaced(self) -> bool:
        """Whether another file has taken the place of the one that this looks into."""
        return file_of(self.snapshot.store) != self.snapshot.file

    def _is_newest(self, path: Path) -> bool:
        store, _ = read_receipt(path)
        if (store, file_of(store)) != (self.snapshot.store, self.snapshot.file):
            return False
        with sqlite_errors(store.database):
            return read_state(self.snapshot.connection, store.database) == self.snapshot.state

    @contextmanager
    def index(self, engine: str, where: Filter) -> Iterator[tuple[Built, FilteredItems | None]]:
        """An index of all items, and the rows of it that pass a filter; a refresh waits until it is given back."""
        matching = self.matching(where)  # before the lock: others search meanwhile
        with ExitStack() as use:
            with self._lock:
                if engine not in self._built:  # built at the first search: opening stays quick
                    self._built[engine] = Built(engine, self)
                built = self._built[engine]
                use.enter_context(built.in_use())
            yield built, None if matching is None else self._within(built, matching)

    def matching(self, where: Filter) -> FilteredItems | None:
        """The positions of the items that pass a filter; ``None`` for all."""
        return self._filter_cache.of(where) if where else None

    def codes_of(self, rows: NDArray[np.integer]) -> Codes:
        """The codes of these rows, ``(n, ceil(bits / 8))``."""
        parts = self.snapshot.parts
        codes = np.empty((len(rows), width(self.bits)), np.uint8)
        part_of = np.searchsorted([int(part.rows[0]) for part in parts], rows, side="right") - 1
        for number in np.unique(part_of).tolist():
            part, own = parts[number], part_of == number
            codes[own] = part.codes[np.searchsorted(part.rows, rows[own].astype(part.rows.dtype))]
        return codes

    def same(self, picture: Picture, where: Filter) -> NDArray[np.int64]:
        """The rows of the items that are this picture and pass a filter: equal bytes, or equal pixels; ascending.

        Galleries that were made from codes know neither.
        """
        database = self.snapshot.store.database
        with self._lock, sqlite_errors(database):
            found = [
                row
                for key, query in zip(picture, (_SAME_BYTES, _SAME_PIXELS), strict=True)
                if key
                for (row,) in self.snapshot.connection.execute(query, (key[:8], key))
            ]
        rows = np.intersect1d(np.array(found, self.rows.dtype), self.rows, assume_unique=False)
        matching = self.matching(where) if len(rows) else None
        if matching is not None:
            rows = rows[np.isin(np.searchsorted(self.rows, rows), matching)]
        return rows.astype(np.int64)

    def _within(self, built: Built, matching: FilteredItems) -> FilteredItems:
        """The rows of an index of these items."""
        same = built.rows is self.rows
        return matching if same else np.searchsorted(built.rows, self.rows[matching])

    def items(self, rows: list[int]) -> list[Stored]:
        """The items of these rows.

        Raises:
            ModelError: a row is damaged.
            PurgedError: a writer has removed one of them for good since.
        """
        with self._lock:
            if len(self._items) > _KEPT_ITEMS:
                self._items.clear()
            lacking = list({row for row in rows if row not in self._items})
            for row, found in zip(lacking, self.snapshot.items(lacking), strict=True):
                self._items[row] = found
            return [self._items[row] for row in rows]

    def named(self, name: str) -> tuple[int, Stored]:
        """The position and the item of this id.

        Raises:
            DataError: there is none in this generation.
        """
        database = self.snapshot.store.database
        with self._lock, sqlite_errors(database):
            rows = [row for (row,) in self.snapshot.connection.execute(NAMED, (name_bytes(name),))]
        for row in rows:
            position = int(np.searchsorted(self.rows, self.rows.dtype.type(row)))  # else all of them are cast
            if position < len(self.rows) and self.rows[position] == row:
                return position, self.items([row])[0]
        raise DataError(f"no item {name!r} in {self.snapshot.store.path.parent}: see anglehash list")

    def listed(self, where: Filter, limit: int | None, after_row: int) -> tuple[list[Item], int | None]:
        """Items that pass, in order, and the last one's row where there are more."""
        matching = self.matching(where)
        positions = np.arange(len(self.rows)) if matching is None else matching
        positions = positions[self.rows[positions] > after_row]
        shown = positions[:limit]
        rows = self.rows[shown].tolist()
        with self._lock:
            found = self.snapshot.items(rows)
        following = rows[-1] if len(shown) < len(positions) else None
        return [stored.item for stored in found], following

    def files(self) -> list[Seen]:
        """Every file that was seen, by id, as of now."""
        with self._lock:
            return list(_files(self.snapshot))

    def __repr__(self) -> str:
        return f"<generation {self.snapshot.state.generation} of {self.snapshot.store.path}>"


def _files(snapshot: Snapshot) -> Iterator[Seen]:
    database = snapshot.store.database
    with transaction(snapshot.connection, database):
        for record in snapshot.connection.execute("SELECT * FROM files ORDER BY id"):
            yield seen_of(record, database)
