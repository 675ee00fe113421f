"""Multi-index hashing, compiled: the tables are searched wider and wider, until the answer is certain.

The work of a query is counted in touches: values looked up, and codes whose distance is computed. A query
that needs more of them than its budget is left to a scan.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from anglehash.evaluation.kernels import _popcount as popcount
from anglehash.evaluation.kernels import kernel
from anglehash.search.engines._groups import Groups
from anglehash.search.engines._kernels import (
    CHUNK,
    SHIFT,
    Keys,
    Number,
    Words,
    bits_between,
    distances,
    inlined,
    least,
    near,
    offer,
    reach_of,
)
from anglehash.search.engines._tables import Tables

BLOCK = 2048  # codes that stay in the fastest cache while all queries pass over them
NEVER = 1 << 60


class Front(NamedTuple):
    """How far the search of one query has come in each of ``m`` parts, and room to work in.

    Attributes:
        own: ``(m,)`` the query's value.
        radius: ``(m,)`` how many bits away from it all values have been looked up; -1 at first.
        cost: ``(m,)`` touches to go one bit further; without the codes there, until ``known``.
        known: ``(m,)`` whether the codes one bit further have been counted.
        codes: ``(budget,)`` numbers of codes.
        distances: ``(budget,)`` their distances.
    """

    own: NDArray[np.uint64]
    radius: NDArray[np.int64]
    cost: NDArray[np.int64]
    known: NDArray[np.bool_]
    codes: NDArray[np.int32]
    distances: NDArray[np.int32]


@kernel
def _new_front(parts: int, budget: int) -> Front:
    return Front(
        np.zeros(parts, np.uint64),
        np.zeros(parts, np.int64),
        np.zeros(parts, np.int64),
        np.zeros(parts, np.bool_),
        np.empty(budget + 1, np.int32),
        np.empty(budget + 1, np.int32),
    )


@inlined
def _begin(front: Front, queries: Words, number: int, tables: Tables) -> None:
    for part in range(len(tables.first)):
        front.own[part] = bits_between(queries.T, number, tables.first[part], tables.width[part])
        front.radius[part], front.cost[part], front.known[part] = -1, 1, False


@inlined
def _cheapest(front: Front, tables: Tables, budget: int) -> tuple[int, int]:
    """The part that is cheapest to widen, -1 where none fits the budget; and the values looked up to know."""
    cost, known, offsets = front.cost, front.known, tables.offsets
    spent = 0
    while True:
        part = 0
        for other in range(1, len(cost)):
            if cost[other] < cost[part]:
                part = other
        if cost[part] > budget - spent:
            return -1, spent
        if known[part]:
            return part, spent
        ring = front.radius[part] + 1
        start, end = tables.rings[part, ring], tables.rings[part, ring + 1]
        masks, base, own = tables.masks[part], tables.bases[part], front.own[part]
        codes: Any = 0
        for mask in range(start, end):
            value = base + np.int64(own ^ masks[mask])
            codes += np.int64(offsets[value + 1]) - np.int64(offsets[value])
        spent += end - start
        cost[part], known[part] = codes, True


@inlined
def _gather(front: Front, part: int, tables: Tables) -> int:
    """The codes one bit further in a part: how many."""
    masks, base, own, offsets = tables.masks[part], tables.bases[part], front.own[part], tables.offsets
    out, codes = front.codes, tables.lists[max(part - 1, 0)]
    ring, found = front.radius[part] + 1, 0
    for mask in range(tables.rings[part, ring], tables.rings[part, ring + 1]):
        value = base + np.int64(own ^ masks[mask])
        start, end = offsets[value], offsets[value + 1]
        if part == 0:
            for place in range(start, end):
                out[found] = place
                found += 1
        else:
            for place in range(start, end):
                out[found] = codes[place]
                found += 1
    return found


@inlined
def met_before(
    codes: Words,
    code: Number,
    own: NDArray[np.uint64],
    radius: NDArray[np.int64],
    first: NDArray[np.int64],
    width: NDArray[np.int64],
) -> bool:
    """Whether a code has been met: in some part it is no farther away than the search has come."""
    for part in range(len(own)):
        if radius[part] >= 0:
            value = bits_between(codes, code, first[part], width[part])
            if np.int64(popcount(value ^ own[part])) <= radius[part]:
                return True
    return False


@inlined
def _go_on(front: Front, part: int, tables: Tables) -> None:
    """Note that a part has been searched one bit further."""
    front.radius[part] += 1
    front.known[part], front.cost[part] = False, NEVER
    ring, rings = front.radius[part] + 1, tables.rings
    if ring + 1 < rings.shape[1] and rings[part, ring + 1] > rings[part, ring]:
        front.cost[part] = rings[part, ring + 1] - rings[part, ring]


@kernel
def probe(
    queries: Words, groups: Groups, tables: Tables, allowed: NDArray[np.bool_], heaps: Keys, budget: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """Fill the heaps of queries.

    Args:
        queries: ``(q, w)``.
        groups: the codes.
        tables: the tables over them.
        allowed: which rows may come; all, where it is empty.
        heaps: ``(q, k)``.
        budget: touches of a query.

    Returns:
        The queries that are not certain yet, how far the search of each query has come ``(q, m)``, and the
        touches of all.
    """
    front = _new_front(len(tables.first), budget)
    left, uncertain, touches = np.empty(len(queries), np.int64), 0, 0
    radii = np.empty((len(queries), len(tables.first)), np.int64)
    codes, starts, rows, found, away = groups.codes, groups.starts, groups.rows, front.codes, front.distances
    own, radius, first, width = front.own, front.radius, tables.first, tables.width
    for number in range(len(queries)):
        query, heap = queries[number], heaps[number]
        _begin(front, queries, number, tables)
        sure, spent = -1, 0  # all codes within so many bits have been met
        while reach_of(heap) > sure:
            part, looked = _cheapest(front, tables, budget - spent)
            spent += looked
            if part < 0:
                left[uncertain] = number
                uncertain += 1
                break
            spent += front.cost[part]
            count = near(query, codes, found, _gather(front, part, tables), reach_of(heap), away)
            distance = sure + 1 if sure >= 0 else 0
            while distance <= reach_of(heap):  # the nearest first: they shut the rest out
                for place in range(count):
                    code = np.int64(found[place])
                    if away[place] == distance and not met_before(codes, code, own, radius, first, width):
                        offer(heap, distance, code, starts, rows, allowed)
                distance += 1
            _go_on(front, part, tables)
            sure += 1
        touches += spent
        radii[number] = front.radius
    return left[:uncertain], radii, touches


@kernel
def scan(
    queries: Words,
    which: NDArray[np.int64],
    groups: Groups,
    tables: Tables,
    radii: NDArray[np.int64],
    allowed: NDArray[np.bool_],
    heaps: Keys,
) -> None:
    """Offer every code to the heaps of some queries, but for those that :func:`probe` met, as ``radii`` says."""
    found, close = np.empty(BLOCK, np.uint16), np.empty(CHUNK, np.int64)
    codes, starts, rows, first, width = groups.codes, groups.starts, groups.rows, tables.first, tables.width
    own = np.zeros((len(queries), len(tables.first)), np.uint64)
    for number in which:
        for part in range(len(tables.first)):
            own[number, part] = bits_between(
                queries[number : number + 1].T, 0, tables.first[part], tables.width[part]
            )
    for start in range(0, codes.shape[1], BLOCK):
        end = min(start + BLOCK, codes.shape[1])
        for number in which:
            heap = heaps[number]
            distances(queries[number], codes, start, end, found)
            for chunk in range(start, end, CHUNK):
                last = min(chunk + CHUNK, end)
                if np.int64(least(found[chunk - start : last - start])) > reach_of(heap):
                    continue
                reach, kept = reach_of(heap), 0
                for code in range(chunk, last):
                    close[kept] = code
                    kept += np.int64(found[code - start]) <= reach
                for code in close[:kept]:
                    distance = np.int64(found[code - start])
                    if distance <= reach_of(heap) and not met_before(
                        codes, code, own[number], radii[number], first, width
                    ):
                        offer(heap, distance, code, starts, rows, allowed)


@kernel
def _with_room(keys: Keys, used: int, more: Number) -> Keys:
    """The keys, with room for ``more`` behind the first ``used``: in a longer array where there was none."""
    if used + more <= len(keys):
        return keys
    longer = np.empty(2 * used + more, np.int64)
    longer[:used] = keys[:used]
    return longer


@inlined
def _list_rows(
    keys: Keys,
    used: int,
    distance: Number,
    code: Number,
    starts: NDArray[np.int32],
    rows: NDArray[np.int32],
    allowed: NDArray[np.bool_],
) -> tuple[Keys, int]:
    """Write the keys of a code's rows behind the first ``used``."""
    start, end = starts[code], starts[code + 1]
    keys = _with_room(keys, used, end - start)
    for place in range(start, end):
        row = rows[place]
        if len(allowed) == 0 or allowed[row]:
            keys[used] = (np.int64(distance) << SHIFT) | np.int64(row)
            used += 1
    return keys, used


@kernel
def _list_scanned(
    keys: Keys, used: int, query: Words, groups: Groups, allowed: NDArray[np.bool_], radius: int
) -> tuple[Keys, int]:
    found = np.empty(BLOCK, np.uint16)
    codes, starts, rows = groups.codes, groups.starts, groups.rows
    for start in range(0, codes.shape[1], BLOCK):
        end = min(start + BLOCK, codes.shape[1])
        distances(query, codes, start, end, found)
        for chunk in range(start, end, CHUNK):
            last = min(chunk + CHUNK, end)
            if np.int64(least(found[chunk - start : last - start])) > radius:
                continue
            for code in range(chunk, last):
                if np.int64(found[code - start]) <= radius:
                    keys, used = _list_rows(keys, used, found[code - start], code, starts, rows, allowed)
    return keys, used


@kernel
def within_radius(
    queries: Words,
    groups: Groups,
    recent: Groups,
    tables: Tables,
    allowed: NDArray[np.bool_],
    radius: int,
    budget: int,
) -> tuple[NDArray[np.int64], Keys]:
    """All rows within a radius, query after query, each query's in order: where they begin, and their keys."""
    front = _new_front(len(tables.first), budget)
    codes, starts, rows, found, away = groups.codes, groups.starts, groups.rows, front.codes, front.distances
    first, width = tables.first, tables.width
    lims, keys, used = np.zeros(len(queries) + 1, np.int64), np.empty(1024, np.int64), 0
    for number in range(len(queries)):
        query, before = queries[number], used
        _begin(front, queries, number, tables)
        sure, left = -1, budget
        while sure < radius and left >= 0:
            part, looked = -1, 0
            if len(front.cost) > 0:
                part, looked = _cheapest(front, tables, left)
            if part < 0:
                left = -1
                break
            left -= looked + front.cost[part]
            count = near(query, codes, found, _gather(front, part, tables), radius, away)
            for place in range(count):
                code = np.int64(found[place])
                if not met_before(codes, code, front.own, front.radius, first, width):
                    keys, used = _list_rows(keys, used, away[place], code, starts, rows, allowed)
            _go_on(front, part, tables)
            sure += 1
        if sure < radius:  # what was found comes again
            keys, used = _list_scanned(keys, before, query, groups, allowed, radius)
        keys, used = _list_scanned(keys, used, query, recent, allowed, radius)
        keys[before:used].sort()
        lims[number + 1] = used
    return lims, keys[:used]
