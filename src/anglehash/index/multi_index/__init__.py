"""Our own engine: equal codes grouped, then multi-index hashing over the distinct ones, or a scan of them.

At first codes lie as they came, and a scan in numpy (:mod:`._plain`) answers: for a few questions that is less
work than building, and nothing is compiled. Once scans have cost a part of what building costs, it is built, in a
thread beside, while scans go on; a batch that alone is worth it waits for it.

Then each distinct code is kept once (:mod:`._groups`) and found through tables of its parts (:mod:`._tables`,
:mod:`._front`). A query that would touch too much of them is left to a scan, which passes over a block of codes
with all such queries. All ways are exact. For how many neighbours the tables pay at all is found when they are
built: some stored codes are searched for, and the work is counted. It is counted, not timed, so the same codes
get the same choice on a busy machine.

What was added since lies in a list of its own, which every search scans; what was removed is passed over. When
that has cost enough, too, all is rebuilt, again beside.
"""

from __future__ import annotations

import logging
from threading import Lock, RLock, Thread
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from anglehash.codes import Codes, check_bits, check_codes, width
from anglehash.errors import DataError
from anglehash.index import RadiusResult, Rows, SearchResult, check_k, check_radius, check_rows
from anglehash.index._sort_keys import ROW, SHIFT, Keys
from anglehash.index.multi_index._grouping import grouped_chunks, joined
from anglehash.index.multi_index._groups import (
    MOST_ROWS,
    Groups,
    one_each,
    places,
    words_of,
)
from anglehash.index.multi_index._plain import Chunk, merged, nearest, picked, within_radius

if TYPE_CHECKING:
    from anglehash.index.multi_index._compiled import Built

_log = logging.getLogger(__name__)

FEW = 4096
"""Below this many codes a linear scan is fastest."""
EARLY = 64
"""Building starts in the background after as many codes were scanned as in this many full scans."""
PAYS = 1000
"""A batch waits for the build when it would scan as many codes as this many full scans: a build costs about that."""
GONE = 8
"""The index is rebuilt when more than one row in this many was removed."""
THIN = 30
"""Subsets smaller than one row in this many are scanned, without the tables."""

_ALL = np.empty(0, dtype=np.bool_)


class _View(NamedTuple):
    """An index at one moment; nothing in it is changed afterwards.

    Attributes:
        chunks: all codes as they came, while nothing is built; afterwards none.
        built: what was built, if it was.
        recent: codes added since, a group for each row.
        there: a mask over all rows; empty when none was ever removed.
        gone: rows that are held and not there.
        present: number of rows that are there.
    """

    chunks: tuple[Chunk, ...]
    built: Built | None
    recent: Groups
    there: NDArray[np.bool_]
    gone: int
    present: int

    @property
    def allowed(self) -> NDArray[np.bool_]:
        return self.there if self.gone else _ALL

    @property
    def unsorted(self) -> int:
        """Rows that every search scans."""
        return len(self.recent.rows) if self.built else self.gone + self.present

    @property
    def is_crowded(self) -> bool:
        """Whether many rows are passed over."""
        return self.built is not None and self.gone > max(FEW, (self.gone + self.present) // GONE)

    @property
    def is_settled(self) -> bool:
        """Whether there is nothing to be rebuilt."""
        return self.built is not None and self.unsorted <= FEW and not self.is_crowded


class Index:
    """Codes as they came, then distinct codes, the tables over them, and a list of recent additions.

    >>> index = Index(bits=8)
    >>> index.add(np.array([[0b11110000], [0b11110001], [0b11110000]], dtype=np.uint8))
    >>> distances, ids = index.search(np.array([[0b11110000]], dtype=np.uint8), k=3)
    >>> distances.tolist(), ids.tolist()
    ([[0, 0, 1]], [[0, 2, 1]])
    """

    def __init__(self, bits: int) -> None:
        self.bits = check_bits(bits)
        nothing = one_each(np.empty((-(-width(bits) // 8), 0), np.uint64), np.empty(0, np.int32))
        self._view = _View((), None, nothing, _ALL, 0, 0)
        self._added: list[NDArray[np.uint64]] = []  # not in the view yet: (w, n) each
        self._rows = 0
        self._place: tuple[Groups, NDArray[np.int32]] | None = None
        self._scanned = 0  # codes, since what is there was built
        self._lock = RLock()
        self._building, self._builder = Lock(), Thread()

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
            arrays += [chunk.codes for chunk in view.chunks]
            kept = (view.built.nbytes if view.built else 0) + view.recent.nbytes
            return kept + sum(array.nbytes for array in arrays)

    def add(self, codes: Codes) -> None:
        """Append codes: at once, whatever their number."""
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
            return RadiusResult(lims, (keys[found] >> SHIFT).astype(np.int32), keys[found] & ROW)
        view, allowed = self._seen(within, len(queries))
        if view.built is not None:
            return RadiusResult(*view.built.within_radius(words_of(queries), view.recent, allowed, radius))
        lims, keys = within_radius(words_of(queries), view.chunks, allowed, radius)
        return RadiusResult(lims, (keys >> SHIFT).astype(np.int32), keys & ROW)

    def build(self) -> None:
        """Build now what searches would have built in time; they go on meanwhile."""
        with self._building:
            with self._lock:
                view, until = self._listed(), self._rows
            if view.is_settled:
                return
            from anglehash.index.multi_index import _compiled  # numba, which scans in numpy do without

            made = _compiled.built(_sorted(view), self.bits, few=FEW)
            with self._lock:
                self._adopt(made, until)

    def _adopt(self, made: Built, until: int) -> None:
        """Continue with what was built of the rows before ``until``; others came, and some went, meanwhile."""
        view = self._listed()
        if view.built is None:
            rows = np.arange(until, self._rows, dtype=np.int32)
            codes = picked(view.chunks, rows.astype(np.int64)) if view.chunks else view.recent.codes
        else:
            first = int(np.searchsorted(view.recent.rows, until))
            codes, rows = view.recent.codes[:, first:], view.recent.rows[first:]
        gone = len(made.main.rows) + len(rows) - view.present
        self._view = _View((), made, one_each(codes, rows), view.there, gone, view.present)
        self._scanned = 0

    def _build_beside(self) -> None:
        try:
            self.build()
        except Exception:  # a lack of memory, say: scans have the same answers
            _log.warning("the index cannot be built; searches go on more slowly", exc_info=True)
            with self._lock:
                self._scanned = 0

    def _build_if_due(self, queries: int) -> None:
        """Begin to build where searching has cost, or will cost, enough to make it worth while."""
        with self._lock:
            view = self._listed()
            held, work = view.gone + view.present, queries * view.unsorted
            self._scanned += work
            if not view.is_crowded and (view.unsorted <= FEW or self._scanned <= EARLY * held):
                return
            if work < PAYS * held:
                if not self._builder.is_alive():
                    self._builder = Thread(target=self._build_beside, name="anglehash index")
                    self._builder.start()
                return
        self.build()

    def _nearest(self, queries: Codes, k: int, radius: int, within: Rows | None) -> Keys:
        """The keys of the nearest, ``(q, k)`` in order; greater ones than the radius has stand for nothing."""
        view, allowed = self._seen(within, len(queries))
        words, k = words_of(queries), min(k, view.present)
        heaps = np.full((len(words), k), (radius + 1) << SHIFT, dtype=np.int64)
        if k == 0:
            return heaps
        if view.built is None:
            nearest(words, view.chunks, allowed, heaps)
        else:
            view.built.nearest(words, view.recent, allowed, heaps)
        return heaps

    def _seen(self, within: Rows | None, queries: int) -> tuple[_View, NDArray[np.bool_]]:
        """What a search goes over, and which rows of it may come (all, where that is empty)."""
        self._build_if_due(queries)
        with self._lock:
            view = self._listed()
            if within is None:
                return view, view.allowed
            allowed = check_rows(within, self._rows)
            if len(view.there):
                allowed = allowed & view.there
            count = int(np.count_nonzero(allowed))
            if count * THIN > (len(view.built.main.starts) if view.built else len(allowed)):
                return view._replace(present=count), allowed
            return self._only(view, np.flatnonzero(allowed)), _ALL

    def _only(self, view: _View, rows: NDArray[np.int64]) -> _View:
        """A view of a few rows: less work than skipping all others."""
        if view.built is None:
            codes = picked(view.chunks, rows) if view.chunks else view.recent.codes
        else:
            main, place = view.built.main, self._places(view.built.main)
            old, new = rows[rows < len(place)], rows[rows >= len(place)]
            recent = np.searchsorted(view.recent.rows, new)  # each row of it has a code of its own, in order
            codes = np.concatenate([main.codes[:, place[old]], view.recent.codes[:, recent]], axis=1)
        return view._replace(
            chunks=(Chunk(codes, rows.astype(np.int32)),), built=None, gone=0, present=len(rows)
        )

    def _places(self, main: Groups) -> NDArray[np.int32]:
        """Where the code of each row is."""
        if self._place is None or self._place[0] is not main:
            place = np.full(int(main.rows.max(initial=-1)) + 1, -1, dtype=np.int32)
            place[main.rows] = places(main)
            self._place = main, place
        return self._place[1]

    def _listed(self) -> _View:
        """The view with what was added in it."""
        view, added = self._view, self._added
        if not added:
            return view
        new = sum(part.shape[1] for part in added)
        first = self._rows - new
        there = np.concatenate([view.there, np.ones(new, np.bool_)]) if len(view.there) else view.there
        if view.built is None:
            chunks = list(view.chunks)
            for part in added:
                chunks.append(Chunk(part, first))
                first += part.shape[1]
            view = view._replace(chunks=merged(chunks))
        else:
            rows = np.concatenate([view.recent.rows, np.arange(first, self._rows, dtype=np.int32)])
            codes = np.concatenate([view.recent.codes, *added], axis=1)
            view = view._replace(recent=one_each(codes, rows))
        self._added = []
        self._view = view._replace(there=there, present=view.present + new)
        return self._view


def _sorted(view: _View) -> Groups:
    """All that is there, each distinct code once."""
    if view.built is not None:
        return joined(view.built.main, view.recent, view.allowed)
    if not view.chunks:
        return view.recent
    return grouped_chunks(view.chunks, view.allowed)
