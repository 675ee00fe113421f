"""All rows within a radius, compiled: through tables, or by a scan where that takes more than it may.

Codes are found first, and put in the order of their distance. So the rows of one distance come together, and only
they are put in order: mostly there are far more rows than codes, and writing them down is most of the work.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anglehash.evaluation.kernels import kernel
from anglehash.index.multi_index._front import Front, begin, cheapest, gather, go_on, met_before, new_front
from anglehash.index.multi_index._groups import Groups
from anglehash.index.multi_index._kernels import BLOCK, CHUNK, Words, distances, inlined, least, near
from anglehash.index.multi_index._tables import Tables

Numbers = NDArray[np.int32]
ROOM = 1024  # codes, at first
SHORT = 32  # so few rows are put in order here; numpy does so with more in a quarter of the time


class Close(NamedTuple):
    """Codes that are near a query, in arrays that have room for more.

    Attributes:
        codes: their numbers.
        away: their distances.
    """

    codes: Numbers
    away: Numbers


@kernel
def _longer(numbers: Numbers, used: int, length: int) -> Numbers:
    longer = np.empty(length, np.int32)
    longer[:used] = numbers[:used]
    return longer


@kernel
def _with_room(close: Close, used: int, more: int) -> Close:
    """Room for more behind the first ``used``: in longer arrays where there was none."""
    if used + more <= len(close.codes):
        return close
    length = 2 * (used + more)
    return Close(_longer(close.codes, used, length), _longer(close.away, used, length))


@kernel
def _probed(
    queries: Words, number: int, groups: Groups, tables: Tables, front: Front, radius: int, close: Close
) -> tuple[Close, int]:
    """The codes near a query, found through tables, and how many; -1 where that takes more than it may."""
    query, codes, found, away = queries[number], groups.codes, front.codes, front.distances
    own, reached, first, width = front.own, front.radius, tables.first, tables.width
    begin(front, queries, number, tables)
    used, left = 0, len(found) - 1
    for _ in range(radius + 1):  # a part goes one bit further: all codes within one bit more have been met
        part, looked = cheapest(front, tables, left)
        if part < 0:
            return close, -1
        left -= looked + front.cost[part]
        count = near(query, codes, found, gather(front, part, tables, query, codes, radius), radius, away)
        close = _with_room(close, used, count)
        for place in range(count):
            code = np.int64(found[place])
            close.codes[used], close.away[used] = code, away[place]
            used += not met_before(codes, code, own, reached, first, width)
        go_on(front, part, tables)
    return close, used


@kernel
def _scanned(
    query: Words, words: Words, radius: int, close: Close, used: int, base: int
) -> tuple[Close, int]:
    """Put the codes near a query, of all, behind the first ``used``, numbered from ``base`` on; how many are used."""
    found = np.empty(BLOCK, np.uint16)
    for start in range(0, words.shape[1], BLOCK):
        end = min(start + BLOCK, words.shape[1])
        distances(query, words, start, end, found)
        close = _with_room(close, used, BLOCK)
        for chunk in range(start, end, CHUNK):
            last = min(chunk + CHUNK, end)
            if np.int64(least(found[chunk - start : last - start])) > radius:
                continue
            for code in range(chunk, last):
                close.codes[used], close.away[used] = base + code, found[code - start]
                used += int(found[code - start] <= radius)
    return close, used


@kernel
def _by_distance(close: Close, used: int, ends: NDArray[np.int64], out: Numbers) -> None:
    """Write the first ``used`` codes, nearest first; ``ends`` is where those of each distance end."""
    ends[:] = 0
    for place in range(used):
        ends[close.away[place]] += 1
    for distance in range(1, len(ends)):
        ends[distance] += ends[distance - 1]
    for place in range(used - 1, -1, -1):
        ends[close.away[place]] -= 1
        out[ends[close.away[place]]] = close.codes[place]
    for distance in range(len(ends) - 1):
        ends[distance] = ends[distance + 1]
    ends[-1] = used


@inlined
def _list(codes: Numbers, groups: Groups, recent: Groups, out: Numbers) -> int:
    """Write the rows of codes, one code after the other; how many. After the codes of all groups come recent ones."""
    starts, rows, late, used, bound = groups.starts, groups.rows, recent.rows, 0, groups.codes.shape[1]
    for code in codes:
        if code >= bound:
            out[used] = late[code - bound]
            used += 1
        else:
            start, count = starts[code], starts[code + 1] - starts[code]
            for place in range(count):
                out[used + place] = rows[start + place]
            used += count
    return used


@inlined
def _only(allowed: NDArray[np.bool_], rows: Numbers, count: int) -> int:
    """Keep those of the first ``count`` rows that may come: how many."""
    kept = 0
    for place in range(count):
        rows[kept] = rows[place]
        kept += allowed[rows[kept]]
    return kept


@kernel
def _find(
    queries: Words, groups: Groups, recent: Groups, tables: Tables, radius: int, budget: int
) -> tuple[Numbers, NDArray[np.int64], int]:
    """The codes near each query, nearest first; where those of each distance end; the number of all their rows."""
    front, starts, bound = new_front(len(tables.first), budget), groups.starts, groups.codes.shape[1]
    close = Close(np.empty(ROOM, np.int32), np.empty(ROOM, np.int32))
    codes, ends = np.empty(ROOM, np.int32), np.empty((len(queries), radius + 1), np.int64)
    rows, used = 0, 0
    for number in range(len(queries)):
        close, count = _probed(queries, number, groups, tables, front, radius, close)
        if count < 0:
            close, count = _scanned(queries[number], groups.codes, radius, close, 0, 0)
        for code in close.codes[:count]:
            rows += int(starts[code + 1] - starts[code])
        before = count
        close, count = _scanned(queries[number], recent.codes, radius, close, count, bound)
        rows += count - before
        if used + count > len(codes):
            codes = _longer(codes, used, 2 * (used + count))
        _by_distance(close, count, ends[number], codes[used:])
        ends[number] += used
        used += count
    return codes, ends, rows


@kernel
def _insert_each(rows: Numbers) -> None:
    """Put a few rows in order."""
    for number in range(1, len(rows)):
        row, place = rows[number], number
        while place > 0 and rows[place - 1] > row:
            rows[place] = rows[place - 1]
            place -= 1
        rows[place] = row


@kernel
def _written(
    codes: Numbers,
    ends: NDArray[np.int64],
    total: int,
    groups: Groups,
    recent: Groups,
    allowed: NDArray[np.bool_],
) -> tuple[NDArray[np.int64], Numbers, Numbers, NDArray[np.int64]]:
    """The rows of codes that :func:`_find` found, as :func:`within_radius`, and which parts are in no order yet."""
    lims, away, rows = np.zeros(len(ends) + 1, np.int64), np.empty(total, np.int32), np.empty(total, np.int32)
    unsorted, parts, start, used = np.empty((ends.size, 2), np.int64), 0, 0, 0
    for number in range(len(ends)):
        for distance in range(ends.shape[1]):
            end = ends[number, distance]
            if start == end:
                continue
            count = _list(codes[start:end], groups, recent, rows[used:])
            if len(allowed):
                count = _only(allowed, rows[used:], count)
            away[used : used + count] = distance
            if count <= SHORT:
                _insert_each(rows[used : used + count])
            elif end - start > 1:  # those of one code ascend
                unsorted[parts, 0], unsorted[parts, 1] = used, used + count
                parts += 1
            start, used = end, used + count
        lims[number + 1] = used
    return lims, away[:used], rows[:used], unsorted[:parts]


def within_radius(
    queries: Words,
    groups: Groups,
    recent: Groups,
    tables: Tables,
    allowed: NDArray[np.bool_],
    radius: int,
    budget: int,
) -> tuple[NDArray[np.int64], Numbers, NDArray[np.int64]]:
    """All rows within a radius, in the order of answers: where those of a query begin, distances and ids."""
    codes, ends, total = _find(queries, groups, recent, tables, radius, budget)
    lims, away, rows, unsorted = _written(codes, ends, total, groups, recent, allowed)
    for start, end in unsorted.tolist():
        rows[start:end].sort()
    return lims, away, rows.astype(np.int64)
