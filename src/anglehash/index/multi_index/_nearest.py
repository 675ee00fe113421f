"""The ``k`` nearest, compiled: through tables until the answer is certain, or by a scan of all codes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from anglehash.evaluation.kernels import kernel
from anglehash.index._sort_keys import Keys
from anglehash.index.multi_index._front import begin, cheapest, gather, go_on, met_before, new_front
from anglehash.index.multi_index._groups import Groups
from anglehash.index.multi_index._kernels import (
    BLOCK,
    CHUNK,
    Words,
    bits_between,
    distances,
    least,
    near,
    offer,
    reach_of,
)
from anglehash.index.multi_index._tables import Tables


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
    front = new_front(len(tables.first), budget)
    left, uncertain, touches = np.empty(len(queries), np.int64), 0, 0
    radii = np.empty((len(queries), len(tables.first)), np.int64)
    codes, starts, rows, found, away = groups.codes, groups.starts, groups.rows, front.codes, front.distances
    own, radius, first, width = front.own, front.radius, tables.first, tables.width
    for number in range(len(queries)):
        query, heap = queries[number], heaps[number]
        begin(front, queries, number, tables)
        sure, spent = -1, 0  # all codes within this distance have been met
        while reach_of(heap) > sure:
            part, looked = cheapest(front, tables, budget - spent)
            spent += looked
            if part < 0:
                left[uncertain] = number
                uncertain += 1
                break
            spent += front.cost[part]
            reach = reach_of(heap)
            count = near(query, codes, found, gather(front, part, tables, query, codes, reach), reach, away)
            distance = 0 if sure < 0 else sure + 1
            while count > 0 and distance <= reach_of(heap):  # the nearest first: they shut the rest out
                more = 0
                for place in range(count):
                    code, more = np.int64(found[place]), more + (away[place] > distance)
                    if away[place] == distance and not met_before(codes, code, own, radius, first, width):
                        offer(heap, distance, code, starts, rows, allowed)
                distance, count = distance + 1, count if more else 0
            go_on(front, part, tables)
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
            own[number, part] = bits_between(queries.T, number, first[part], width[part])
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
