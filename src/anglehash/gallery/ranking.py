"""Ranking: the order of a gallery's answers, which is finer than the order in which an index finds them.

An index gives the nearest codes in (distance, order of adding). Of a gallery's answers

1. those that are the same picture as the query come first: equal bytes, or equal pixels;
2. then the nearest;
3. of equally distant ones those that the query's logits are nearer to (:mod:`anglehash.asymmetric`), where logits
   are given;
4. then those that were added first.

Distances are whole bits, and many items are often as far away as the last answer. Where not all of them are
answers, all of them are looked at, or the third rule would only hold among those that an index happened to give.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Distances = NDArray[np.int32]
Numbers = NDArray[np.int64]

_AT_ONCE = 64  # queries of which all items up to the last distance are looked for together


class Found(NamedTuple):
    """Answers to one query, in order.

    Attributes:
        distances: ``(n,)``, in bits or parts of one.
        rows: ``(n,)`` rows of the store.
        unlikeness: ``(n,)`` the asymmetric distance to the query's logits; zeros where none are given.
        same: ``(n,)`` whether it is the query's own picture; those are the first.
        tied: ``(n,)`` how many items are as far away as this one, itself included, whether they are answers or not;
            of the query's own picture: how many of those.
    """

    distances: Distances
    rows: Numbers
    unlikeness: Distances
    same: NDArray[np.bool_]
    tied: Numbers

    def part(self, places: Numbers) -> Found:
        """Some of the answers."""
        return Found._make(values[places] for values in self)


class Near(NamedTuple):
    """Some items: distances and rows."""

    distances: Distances
    rows: Numbers

    def part(self, kept: NDArray[np.bool_] | Numbers) -> Near:
        """Some of them, by a mask or by their places."""
        return Near(self.distances[kept], self.rows[kept])


Nearest = Callable[[Numbers, int | None, int | None], list[Near]]
"""``nearest(queries, k, radius)``: the items nearest to some queries, in (distance, row) order."""


class Query(NamedTuple):
    """What is known of a query beside its code.

    Attributes:
        same: items that are its own picture, in any order.
        unlikeness: of items, by their rows, the less the better among equally distant ones; ``None`` where nothing
            tells them apart.
        without: the row of an item to leave out; -1 for none.
    """

    same: Near = Near(np.empty(0, np.int32), np.empty(0, np.int64))
    unlikeness: Callable[[Numbers], Distances] | None = None
    without: int = -1

    def within(self, radius: int | None) -> Query:
        """The same, where its own picture counts only if it may be an answer at all."""
        if not len(self.same.rows):
            return self
        kept = self.same.rows != self.without
        if radius is not None:
            kept &= self.same.distances <= radius
        return self._replace(same=self.same.part(kept))


def ranked(nearest: Nearest, queries: Sequence[Query], k: int | None, radius: int | None) -> list[Found]:
    """The answers to every query.

    Args:
        nearest: finds the nearest items, in (distance, row) order.
        queries: what is known of each.
        k: maximum number of answers to each.
        radius: none farther away.
    """
    every = np.arange(len(queries))
    queries = [query.within(radius) for query in queries]
    if k is None:
        found = nearest(every, None, radius)
    else:
        # Its own picture and items left out; one more shows whether all items as far away as the last are there.
        ahead = max((min(len(q.same.rows), k) + (q.without >= 0) for q in queries), default=0)
        found = nearest(every, k + ahead + 1, radius)
        last = np.array([_last(q, near, k) for q, near in zip(queries, found, strict=True)], np.int64)
        for reach in np.unique(last[last >= 0]).tolist():
            alike = np.flatnonzero(last == reach)
            for start in range(0, len(alike), _AT_ONCE):
                some = alike[start : start + _AT_ONCE]
                for place, near in zip(some.tolist(), nearest(some, None, reach), strict=True):
                    found[place] = near
    return [in_order(q, near, k) for q, near in zip(queries, found, strict=True)]


def _others(query: Query, near: Near) -> Near:
    """What an index found, without the query's own picture and without what is left out."""
    if len(query.same.rows):
        near = near.part(~np.isin(near.rows, query.same.rows))
    return near if query.without < 0 else near.part(near.rows != query.without)


def _last(query: Query, near: Near, k: int) -> int:
    """The distance of the last answer where an index may have left out items as far away; else -1."""
    distances, more = _others(query, near).distances, k - len(query.same.rows)
    if more <= 0 or len(distances) <= more or distances[more] > distances[more - 1]:
        return -1
    return int(distances[more])


def in_order(query: Query, near: Near, k: int | None) -> Found:
    """The answers to one query, out of what an index found: all items as near as the last of them, at least."""
    others, same = _others(query, near), query.same
    if not len(same.rows):
        return _best(others, others.distances, query, k)
    same = same.part(np.lexsort((same.rows, same.distances)))
    first = _best(same, same.distances, query, k)
    there = np.sort(np.concatenate([same.distances, others.distances]))
    rest = _best(others, there, query, None if k is None else k - len(first.rows))
    both: Iterable[Any] = zip(first, rest, strict=True)
    found = Found._make(map(np.concatenate, both))
    return found._replace(same=np.arange(len(found.rows)) < len(first.rows))


def _best(near: Near, there: Distances, query: Query, k: int | None) -> Found:
    """The ``k`` best of some items in (distance, row) order; ``there``: the distances of all that count as tied."""
    if query.unlikeness is None or not len(near.rows):
        unlikeness, order = np.zeros(len(near.rows), np.int32), np.arange(len(near.rows))[:k]
    else:
        unlikeness = query.unlikeness(near.rows)
        order = np.lexsort((near.rows, unlikeness, near.distances))[:k]
    distances = near.distances[order]
    tied = np.searchsorted(there, distances, "right") - np.searchsorted(there, distances)
    return Found(distances, near.rows[order], unlikeness[order], np.zeros(len(order), np.bool_), tied)
