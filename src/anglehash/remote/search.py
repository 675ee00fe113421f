"""One query to an engine: its own picture first, then what the engine gives, in (distance, order of adding)."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from anglehash.codes import hamming
from anglehash.gallery.filters import Filter
from anglehash.gallery.query import Ask, Hit, Hits
from anglehash.gallery.ranking import Found, Near, Query, in_order
from anglehash.remote.rows import Row, key_of
from anglehash.remote.snapshot import RemoteView


class Search:
    """One query; it remembers the rows that the engine gave.

    Args:
        view: what is searched.
        code: the packed code of the query.
        ask: what is asked.
        place: which of the queries of ``ask`` this is.
    """

    def __init__(self, view: RemoteView, code: bytes, ask: Ask, place: int) -> None:
        self._view, self._code, self._ask, self._place = view, code, ask, place
        self._rows = dict[int, Row]()
        same, without = list[Row](), ask.without[place] if ask.without else None
        if ask.pictures:
            same = view.answer(lambda: view.same(ask.pictures[place], ask.where))
        codes = np.frombuffer(b"".join(row.code for row in same), np.uint8).reshape(-1, len(code))
        distances = hamming(np.frombuffer(code, np.uint8)[None], codes)[0]
        near = self._near(zip(distances.tolist(), same, strict=True))
        left_out = -1
        if without is not None:
            left_out = next((row.row for row in view.answer(lambda: list(view.named([key_of(without)])))), -1)
        self._query = Query(near, without=left_out).within(ask.radius)

    def find(self, k: int | None) -> Found:
        """The ``k`` best answers."""
        ask, query = self._ask, self._query
        more = None if k is None else k + min(len(query.same.rows), k) + (query.without >= 0)
        near = self._view.near(self._code, more, ask.radius, ask.engine, ask.where)
        return in_order(query, self._near(near), k)

    def nearest(self) -> int | None:
        """How far away the nearest row is, filtered or not; 0 where one is the query's own picture."""
        ask, everything = self._ask, Filter()
        if ask.pictures:
            picture = ask.pictures[self._place]
            if self._view.answer(lambda: self._view.same(picture, everything)):
                return 0
        near = self._view.near(self._code, 1, None, ask.engine, everything)
        return near[0][0] if near else None

    def hits(self, k: int | None) -> Hits:
        """The ``k`` best answers, as hits."""
        return self.hits_of(self.find(k))

    def hits_of(self, found: Found, *, first: int = 1) -> Hits:
        """Some answers as hits, ranked from ``first``."""
        ranked = zip(found.distances.tolist(), found.rows.tolist(), found.same.tolist(), strict=True)
        hits = []
        for rank, (distance, row, same) in enumerate(ranked, first):
            item = self._view.stored(self._rows[row]).item
            hits.append(Hit(rank, item.id, distance, item.labels, item.metadata, item.code, same))
        return Hits(hits)

    def _near(self, answers: Iterable[tuple[int, Row]]) -> Near:
        given = list(answers)
        self._rows.update((row.row, row) for _, row in given)
        return Near(
            np.array([distance for distance, _ in given], np.int32),
            np.array([row.row for _, row in given], np.int64),
        )
