"""All rows within a radius, compiled: through tables, or by a scan where that takes more than it may."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from anglehash.evaluation.kernels import kernel
from anglehash.search.engines._front import begin, cheapest, gather, go_on, met_before, new_front
from anglehash.search.engines._groups import SHIFT, Groups, Keys
from anglehash.search.engines._kernels import (
    BLOCK,
    CHUNK,
    Number,
    Words,
    distances,
    inlined,
    least,
    near,
)
from anglehash.search.engines._tables import Tables


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
    """All rows within a radius, query after query, in no order: where they begin, and their keys."""
    front = new_front(len(tables.first), budget)
    codes, starts, rows, found, away = groups.codes, groups.starts, groups.rows, front.codes, front.distances
    first, width = tables.first, tables.width
    lims, keys, used = np.zeros(len(queries) + 1, np.int64), np.empty(1024, np.int64), 0
    for number in range(len(queries)):
        query, before = queries[number], used
        begin(front, queries, number, tables)
        sure, left = -1, budget  # all codes within so many bits have been met
        while sure < radius:
            part, looked = cheapest(front, tables, left)
            if part < 0:
                break
            left -= looked + front.cost[part]
            count = near(query, codes, found, gather(front, part, tables), radius, away)
            for place in range(count):
                code = np.int64(found[place])
                if not met_before(codes, code, front.own, front.radius, first, width):
                    keys, used = _list_rows(keys, used, away[place], code, starts, rows, allowed)
            go_on(front, part, tables)
            sure += 1
        if sure < radius:  # what was found comes again
            keys, used = _list_scanned(keys, before, query, groups, allowed, radius)
        keys, used = _list_scanned(keys, used, query, recent, allowed, radius)
        lims[number + 1] = used
    return lims, keys[:used]
