"""FilterCache: the items of a gallery that pass a filter, found once for each filter, beside the searches.

A search without a filter waits for nothing here. Several that ask for the same filter at once wait for one that
works it out. What a row says never changes, so a later generation asks for the rows that came since.
"""

from __future__ import annotations

import sqlite3
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from threading import Lock, RLock
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from anglehash.errors import ModelError
from anglehash.gallery.filter_sql import matching
from anglehash.gallery.filters import Filter
from anglehash.gallery.store.database import connect
from anglehash.gallery.store.layout import file_of
from anglehash.gallery.store.reader import PurgedError, Snapshot
from anglehash.gallery.store.segments import Rows
from anglehash.gallery.store.sqlite import sqlite_errors

FilteredItems = NDArray[np.int64]
"""The positions of some items in the gallery's order, ascending."""

_KEPT = 8


class _Known(NamedTuple):
    """What is known of a filter.

    Attributes:
        until: rows up to this one were looked at.
        rows: those that pass, of whatever generation.
    """

    until: int
    rows: Rows


_NOTHING = _Known(0, np.empty(0, np.uint32))


class _Own:
    """A connection to the truth that filters have for themselves; opened for the first of them."""

    def __init__(self) -> None:
        self.busy = Lock()
        self.connection: sqlite3.Connection | None = None

    def close(self) -> None:
        """Let go of the truth, once no filter is being worked out."""
        with self.busy:
            if self.connection is not None:
                self.connection.close()


class FilterCache:
    """The subsets of one generation. Several threads may ask at once.

    Args:
        snapshot: the generation.
        lock: of its connection, which is used where the truth's file was replaced and no other can be opened.
    """

    def __init__(self, snapshot: Snapshot, lock: RLock) -> None:
        self._snapshot, self._shared = snapshot, lock
        self._own = _Own()
        self._lock = Lock()
        self._known: dict[Filter, _Known] = {}
        self._found: OrderedDict[Filter, Future[FilteredItems]] = OrderedDict()

    def of(self, where: Filter) -> FilteredItems:
        """The positions of the items that pass.

        Raises:
            ModelError: the truth is damaged.
            PurgedError: a writer has removed an item for good since this generation.
        """
        with self._lock:
            future = self._found.get(where)
            ours = future is None
            if future is None:
                future = self._found[where] = Future()
                while len(self._found) > _KEPT:
                    self._found.popitem(last=False)
            self._found.move_to_end(where)
        if ours:
            self._find(where, future)
        return future.result()

    def later(self, snapshot: Snapshot) -> Self:
        """The subsets of a later generation of the same store, which continues from what is known here."""
        after = type(self)(snapshot, self._shared)
        after._own = self._own
        with self._lock:
            after._known = {where: self._known[where] for where in self._found if where in self._known}
        return after

    def close(self) -> None:
        """Let go of the truth."""
        self._own.close()

    def _find(self, where: Filter, future: Future[FilteredItems]) -> None:
        try:
            future.set_result(self._positions(where))
        except BaseException as error:
            with self._lock:
                if self._found.get(where) is future:
                    del self._found[where]  # whoever comes next tries again
            future.set_exception(error)

    def _positions(self, where: Filter) -> FilteredItems:
        snapshot = self._snapshot
        known, last = self._known.get(where, _NOTHING), snapshot.state.last_row
        with self._connection() as connection, sqlite_errors(snapshot.store.database):
            snapshot.compare(connection)  # or a damaged label would leave its item out
            fresh = matching(connection, where, known.until, last)
            self._check_whole(connection)
        rows = np.concatenate([known.rows, fresh.astype(known.rows.dtype)])
        with self._lock:
            self._known = {old: found for old, found in self._known.items() if old in self._found}
            self._known[where] = _Known(last, rows)
        among = np.zeros(last + 1, np.bool_)
        among[rows] = True
        return np.flatnonzero(among[snapshot.rows])

    def _check_whole(self, connection: sqlite3.Connection) -> None:
        """The rows of this generation were all there: one that a writer has purged meanwhile cannot have passed."""
        state, count = self._snapshot.state, "SELECT count(*) FROM items"  # without WHERE it is quick
        (there,) = connection.execute(count).fetchone()
        (later,) = connection.execute(f"{count} WHERE row > ?", (state.last_row,)).fetchone()
        query = f"{count} WHERE died > 0 AND died <= ?"
        (dead,) = connection.execute(query, (state.generation,)).fetchone()
        if (found := there - later - dead) != state.live:
            raise PurgedError(
                f"{self._snapshot.store.database} is damaged: of {state.live} items it has {found}. "
                "Run anglehash repair, or restore a backup"
            )

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """A connection, for one filter at a time."""
        own, store = self._own, self._snapshot.store
        with own.busy:
            if own.connection is None and file_of(store) == self._snapshot.file:
                with suppress(ModelError):  # taken away between the two
                    own.connection = connect(store.database)
                if own.connection and file_of(store) != self._snapshot.file:  # replaced between the two
                    own.connection.close()
                    own.connection = None
            if own.connection is not None:
                yield own.connection
                return
        with self._shared:
            yield self._snapshot.connection
