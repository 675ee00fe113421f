"""The searches of an index that was built: through its tables, or by a scan of its distinct codes; both compiled.

Importing this brings numba, which compiles for some seconds the first time on a machine; see
:func:`anglehash.evaluation.kernels.kernel`.
"""

from __future__ import annotations

from math import log10
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anglehash.codes import width
from anglehash.index._sort_keys import SHIFT, Keys
from anglehash.index.multi_index._groups import MOST_ROWS, Groups
from anglehash.index.multi_index._nearest import probe, scan
from anglehash.index.multi_index._radius import within_radius
from anglehash.index.multi_index._tables import NO_TABLES, Tables, tables_of

TOUCH = 30
"""Codes that a scan passes in the time of one touch (a value looked up or a code met out of order).

That is for a million distinct codes or fewer, which caches hold; for ten million it is twice as much.
"""
ENTRY = 1500
"""Codes that a scan passes in the time that each neighbour asked for costs it more than it costs the tables."""
MEMORY = 4
"""Times the packed codes: what speeds a search up but is not needed is kept as long as all takes no more."""
TRIED = (1, 10, 100, 1000)
"""Numbers of neighbours that are tried when the tables are built."""

Words = NDArray[np.uint64]
_ALL = np.empty(0, dtype=np.bool_)


class Built(NamedTuple):
    """Distinct codes and what was built over them.

    Attributes:
        main: the codes.
        tables: the tables.
        most: up to this many neighbours the tables pay.
    """

    main: Groups
    tables: Tables
    most: int

    @property
    def nbytes(self) -> int:
        """Memory in bytes."""
        return self.main.nbytes + self.tables.nbytes

    def nearest(self, queries: Words, recent: Groups, allowed: NDArray[np.bool_], heaps: Keys) -> None:
        """Fill the heaps of queries, in ascending order.

        Args:
            queries: ``(q, w)``.
            recent: codes that are not among the others.
            allowed: which rows may come; all, where it is empty.
            heaps: ``(q, k)`` keys, filled with one that no answer reaches.
        """
        main, tables, k = self.main, self.tables, heaps.shape[1]
        every, unmet = np.arange(len(queries)), np.empty((len(queries), 0), dtype=np.int64)
        if len(recent.rows):
            scan(queries, every, recent, NO_TABLES, unmet, allowed, heaps)
        if k > self.most:
            scan(queries, every, main, NO_TABLES, unmet, allowed, heaps)
        else:
            left, radii, _ = probe(queries, main, tables, allowed, heaps, _budget(main, k))
            if len(left):
                scan(queries, left, main, tables, radii, allowed, heaps)
        heaps.sort(axis=1)

    def within_radius(
        self, queries: Words, recent: Groups, allowed: NDArray[np.bool_], radius: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int64]]:
        """All rows within a radius, in the order of answers: where those of a query begin, distances and ids."""
        budget = _budget(self.main, 0)
        return within_radius(queries, self.main, recent, self.tables, allowed, radius, budget)


def built(main: Groups, bits: int, *, few: int) -> Built:
    """Tables over distinct codes, if there are more than ``few``; all that will be needed is compiled."""
    room = MEMORY * len(main.rows) * width(bits) - main.nbytes
    tables = tables_of(main.codes, bits, room=room) if main.codes.shape[1] > few else NO_TABLES
    made = Built(main, tables, _worth(main, tables))
    one, nobody = (
        np.ascontiguousarray(main.codes[:, :1].T),
        np.zeros(int(main.rows.max(initial=0)) + 1, np.bool_),
    )
    for way in (made, made._replace(most=0)):  # they answer nothing, but are compiled when the first one asks
        way.nearest(one, main, nobody, np.full((len(one), 1), (bits + 1) << SHIFT, dtype=np.int64))
    made.within_radius(one, Groups(main.codes[:, :0].copy(), main.starts[:1], main.rows[:0]), nobody, 0)
    return made


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
