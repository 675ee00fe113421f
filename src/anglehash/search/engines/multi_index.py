"""Our own engine: equal codes grouped, then multi-index hashing over the distinct ones, or a scan of them.

Each distinct code is kept once (:mod:`._groups`) and found through tables of its parts (:mod:`._tables`,
:mod:`._front`). A query that would touch too much of them is left to a scan, which passes over a block of codes
with all such queries. Both are exact. For how many neighbours the tables pay at all is found when they are
built: some stored codes are searched for, and the work is counted. It is counted, not timed, so the same codes
get the same choice on a busy machine.

What was added since lies in a list of its own, which every search scans; what was removed is passed over. When
either has grown long, the next search builds anew: a second for a million codes.
"""

from __future__ import annotations

from itertools import pairwise
from math import log10
from threading import RLock
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anglehash.codes import Codes, check_bits, check_codes, width
from anglehash.errors import DataError
from anglehash.search.engines import RadiusResult, Rows, SearchResult, check_k, check_radius, check_rows
from anglehash.search.engines._groups import MOST_ROWS, Groups, joined, one_each, places, words_of
from anglehash.search.engines._kernels import ROW, SHIFT, Keys
from anglehash.search.engines._nearest import probe, scan
from anglehash.search.engines._radius import within_radius
from anglehash.search.engines._tables import NO_TABLES, Tables, tables_of

FEW = 4096
"""So many codes are scanned in less time than it takes to think about it."""
TOUCH = 30
"""Codes that a scan passes in the time of one touch (a value looked up or a code met out of order).

That is for a million distinct codes or fewer, which caches hold; for ten million it is twice as much.
"""
ENTRY = 1500
"""Codes that a scan passes in the time that each neighbour asked for costs it more than it costs the tables."""
LONG = 32
"""The list of recent codes is long when it is more than one in so many of all."""
GONE = 8
"""Many rows are gone when they are more than one in so many of all."""
TRIED = (1, 10, 100, 1000)
"""Numbers of neighbours that are tried when the tables are built."""

_ALL = np.empty(0, dtype=np.bool_)


class _View(NamedTuple):
    """An index at one moment; nothing in it is changed afterwards.

    Attributes:
        main: the codes that the tables are over.
        tables: the tables.
        most: for up to so many neighbours the tables pay.
        recent: codes added since, a group for each row.
        there: a mask over all rows; empty when none was ever removed.
        gone: rows in the groups that are not there.
        present: number of rows that are there.
    """

    main: Groups
    tables: Tables
    most: int
    recent: Groups
    there: NDArray[np.bool_]
    gone: int
    present: int

    @property
    def allowed(self) -> NDArray[np.bool_]:
        return self.there if self.gone else _ALL


class Index:
    """Distinct codes, the tables over them, and a list of recent additions.

    >>> index = Index(bits=8)
    >>> index.add(np.array([[0b11110000], [0b11110001], [0b11110000]], dtype=np.uint8))
    >>> distances, ids = index.search(np.array([[0b11110000]], dtype=np.uint8), k=3)
    >>> distances.tolist(), ids.tolist()
    ([[0, 0, 1]], [[0, 2, 1]])
    """

    def __init__(self, bits: int) -> None:
        self.bits = check_bits(bits)
        nothing = one_each(np.empty((-(-width(bits) // 8), 0), np.uint64), np.empty(0, np.int32))
        self._view = _View(nothing, NO_TABLES, 0, nothing, _ALL, 0, 0)
        self._added: list[NDArray[np.uint64]] = []  # not in the view yet: (w, n) each
        self._rows = 0
        self._place: tuple[Groups, NDArray[np.int32]] | None = None
        self._lock = RLock()

    def __len__(self) -> int:
        with self._lock:
            return self._view.present + sum(int(part.shape[1]) for part in self._added)

    @property
    def rows(self) -> int:
        """Number of codes ever added."""
        return self._rows

    @property
    def nbytes(self) -> int:
        """Memory in bytes."""
        with self._lock:
            view = self._view
            arrays = [view.there, *self._added, *([self._place[1]] if self._place else [])]
            kept = view.main.nbytes + view.tables.nbytes + view.recent.nbytes
            return kept + sum(array.nbytes for array in arrays)

    def add(self, codes: Codes) -> None:
        """Append codes: at once, whatever their number; it is the next search that sorts them in."""
        words = words_of(check_codes(codes, self.bits)).T.copy()
        with self._lock:
            if self._rows + words.shape[1] > MOST_ROWS:
                raise DataError(
                    f"an index holds {MOST_ROWS} rows, got {self._rows + words.shape[1]}: use several"
                )
            self._added.append(words)
            self._rows += words.shape[1]

    def remove(self, rows: Rows) -> None:
        """Take items out, by id."""
        with self._lock:
            view = self._listed()
            out = check_rows(rows, self._rows)
            before = view.there if len(view.there) else np.ones(self._rows, dtype=np.bool_)
            there = before & ~out
            count = int(there.sum())
            self._view = view._replace(there=there, gone=view.gone + view.present - count, present=count)

    def search(self, queries: Codes, k: int, *, within: Rows | None = None) -> SearchResult:
        """The ``k`` nearest items of every query, in (distance, id) order."""
        keys = self._nearest(check_codes(queries, self.bits), check_k(k), self.bits, within)
        return SearchResult((keys >> SHIFT).astype(np.int32), keys & ROW)

    def search_radius(
        self, queries: Codes, radius: int, *, k: int | None = None, within: Rows | None = None
    ) -> RadiusResult:
        """All items within ``radius`` of every query, in (distance, id) order."""
        queries, radius = check_codes(queries, self.bits), check_radius(radius, self.bits)
        if k is not None:
            keys = self._nearest(queries, check_k(k), radius, within)
            found = keys >> SHIFT <= radius
            lims = np.concatenate([[0], np.cumsum(found.sum(axis=1))])
            keys = keys[found]
        else:
            view, allowed = self._seen(within)
            budget = _budget(view.main, 0)
            lims, keys = within_radius(
                words_of(queries), view.main, view.recent, view.tables, allowed, radius, budget
            )
            for start, end in pairwise(lims):
                keys[start:end].sort()  # numpy's sort is several times faster than a compiled one
        return RadiusResult(lims, (keys >> SHIFT).astype(np.int32), keys & ROW)

    def _nearest(self, queries: Codes, k: int, radius: int, within: Rows | None) -> Keys:
        """The keys of the nearest, ``(q, k)`` in order; greater ones than the radius has stand for nothing."""
        view, allowed = self._seen(within)
        words, k = words_of(queries), min(k, view.present)
        heaps = np.full((len(words), k), (radius + 1) << SHIFT, dtype=np.int64)
        if k == 0:
            return heaps
        every, unmet = np.arange(len(words)), np.empty((len(words), 0), dtype=np.int64)
        if len(view.recent.rows):
            scan(words, every, view.recent, NO_TABLES, unmet, allowed, heaps)
        if k > view.most:
            scan(words, every, view.main, NO_TABLES, unmet, allowed, heaps)
            return np.sort(heaps, axis=1)
        left, radii, _ = probe(words, view.main, view.tables, allowed, heaps, _budget(view.main, k))
        if len(left):
            scan(words, left, view.main, view.tables, radii, allowed, heaps)
        return np.sort(heaps, axis=1)

    def _seen(self, within: Rows | None) -> tuple[_View, NDArray[np.bool_]]:
        """What a search goes over, and which rows of it may come (all, where that is empty)."""
        with self._lock:
            self._view = view = self._settled(self._listed())
            if within is None:
                return view, view.allowed
            allowed = check_rows(within, self._rows)
            if len(view.there):
                allowed = allowed & view.there
            count = int(np.count_nonzero(allowed))
            if count * TOUCH > len(view.main.starts):
                return view._replace(present=count), allowed
            return self._only(view, np.flatnonzero(allowed).astype(np.int32)), _ALL

    def _only(self, view: _View, rows: NDArray[np.int32]) -> _View:
        """A view of a few rows: less work than passing over all others."""
        if self._place is None or self._place[0] is not view.main:
            place = np.full(int(view.main.rows.max(initial=-1)) + 1, -1, dtype=np.int32)
            place[view.main.rows] = places(view.main)
            self._place = view.main, place
        place = self._place[1]
        old, new = rows[rows < len(place)], rows[rows >= len(place)]
        recent = np.searchsorted(view.recent.rows, new)  # each row of it has a code of its own, in order
        codes = np.concatenate([view.main.codes[:, place[old]], view.recent.codes[:, recent]], axis=1)
        nothing = view.main._replace(codes=view.main.codes[:, :0].copy(), starts=np.zeros(1, np.int32))
        return _View(nothing, NO_TABLES, 0, one_each(codes, rows), _ALL, 0, len(rows))

    def _listed(self) -> _View:
        """The view with what was added in its list of recent codes."""
        view, added = self._view, self._added
        if added:
            new = sum(part.shape[1] for part in added)
            rows = np.arange(self._rows - new, self._rows, dtype=np.int32)
            codes = np.concatenate([view.recent.codes, *added], axis=1)
            recent = one_each(codes, np.concatenate([view.recent.rows, rows]))
            there = np.concatenate([view.there, np.ones(new, np.bool_)]) if len(view.there) else view.there
            self._added = []
            self._view = view._replace(recent=recent, there=there, present=view.present + new)
        return self._view

    def _settled(self, view: _View) -> _View:
        """The view, built anew where too much has changed since."""
        held = len(view.main.rows) + len(view.recent.rows)
        if len(view.recent.rows) <= max(FEW, held // LONG) and view.gone <= max(FEW, held // GONE):
            return view
        main, nothing = joined(view.main, view.recent, view.allowed), view.recent.codes[:, :0]
        tables = tables_of(main.codes, self.bits) if main.codes.shape[1] > FEW else NO_TABLES
        recent = one_each(nothing, np.empty(0, np.int32))
        return _View(main, tables, _worth(main, tables), recent, view.there, 0, view.present)


def _budget(groups: Groups, k: int) -> int:
    """Touches of a query for ``k`` neighbours: when they are spent, a scan would have been as quick."""
    count = groups.codes.shape[1]
    touch = TOUCH * (1 + log10(max(count / 1_000_000, 1)))
    return int((count + ENTRY * min(k, max(TRIED))) / touch)


def _worth(groups: Groups, tables: Tables) -> int:
    """For up to how many neighbours tables save work: stored codes, searched for through them."""
    if not len(tables.first):
        return 0
    count, most = groups.codes.shape[1], 0
    chosen = np.random.default_rng(0).integers(0, count, 32)
    queries = np.ascontiguousarray(groups.codes[:, chosen].T)
    for k in TRIED:
        heaps = np.full((len(queries), k), (64 * len(groups.codes) + 1) << SHIFT, dtype=np.int64)
        budget = _budget(groups, k)
        left, _, touches = probe(queries, groups, tables, _ALL, heaps, budget)
        if touches + budget * len(left) > budget * len(queries):
            return most
        most = k
    return int(MOST_ROWS)  # what is not certain within its budget is scanned anyway
