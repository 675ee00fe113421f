"""Multi-index hashing, step by step and compiled: how far the search of a query has come, and where it continues.

The work of a query is counted in touches: values looked up, and codes whose distance is computed.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from anglehash.evaluation.kernels import kernel, popcount
from anglehash.index.multi_index._kernels import Number, Words, bits_between, inlined
from anglehash.index.multi_index._tables import Tables, folded

NEVER = 1 << 60
"""More than any budget."""


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
def new_front(parts: int, budget: int) -> Front:
    """Room for the search of one query after the other."""
    return Front(
        np.zeros(parts, np.uint64),
        np.zeros(parts, np.int64),
        np.zeros(parts, np.int64),
        np.zeros(parts, np.bool_),
        np.empty(budget + 1, np.int32),
        np.empty(budget + 1, np.int32),
    )


@inlined
def begin(front: Front, queries: Words, number: int, tables: Tables) -> None:
    """Start with a query, one of ``(q, w)``: nothing has been looked up."""
    for part in range(len(tables.first)):
        front.own[part] = bits_between(queries.T, number, tables.first[part], tables.width[part])
        front.radius[part], front.cost[part], front.known[part] = -1, 1, False


@inlined
def cheapest(front: Front, tables: Tables, budget: int) -> tuple[int, int]:
    """The part that is cheapest to widen, -1 where none fits the budget; and the values looked up to know."""
    cost, known, offsets = front.cost, front.known, tables.offsets
    spent = 0
    while len(cost):
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
    return -1, 0  # there are no tables


@inlined
def gather(front: Front, part: int, tables: Tables, query: Words, codes: Words, reach: int) -> int:
    """The codes one bit further in a part, but for some that are certainly out of reach: how many.

    What is in order in memory says so: the first words of codes for the first part, and folds for the others.
    """
    masks, base, own, offsets = tables.masks[part], tables.bases[part], front.own[part], tables.offsets
    out, listed, word = front.codes, tables.lists[max(part - 1, 0)], codes[0]  # the first part has no list
    folds, fold = tables.folds[max(part - 1, 0)], folded(query)
    ring = front.radius[part] + 1
    found: Any = 0
    for mask in range(tables.rings[part, ring], tables.rings[part, ring + 1]):
        value = base + np.int64(own ^ masks[mask])
        start, end = offsets[value], offsets[value + 1]
        if part == 0:
            for place in range(start, end):
                out[found] = place
                found += np.int64(popcount(word[place] ^ query[0])) <= reach
        elif len(folds):
            before = found
            for place in range(start, end):
                out[found] = place
                found += np.int64(popcount(np.uint64(folds[place]) ^ fold)) <= reach
            for kept in range(before, found):  # few: most of the list is not read
                out[kept] = listed[out[kept]]
        else:
            for place in range(start, end):
                out[found] = listed[place]
                found += 1
    return int(found)


@inlined
def met_before(
    codes: Words,
    code: Number,
    own: NDArray[np.uint64],
    radius: NDArray[np.int64],
    first: NDArray[np.int64],
    width: NDArray[np.int64],
) -> bool:
    """Whether a code has been met: in some part it is not farther away than the search has come."""
    for part in range(len(own)):
        if radius[part] >= 0:
            value = bits_between(codes, code, first[part], width[part])
            if np.int64(popcount(value ^ own[part])) <= radius[part]:
                return True
    return False


@inlined
def go_on(front: Front, part: int, tables: Tables) -> None:
    """Note that a part has been searched one bit further."""
    front.radius[part] += 1
    front.known[part], front.cost[part] = False, NEVER
    ring, rings = front.radius[part] + 1, tables.rings
    if ring + 1 < rings.shape[1] and rings[part, ring + 1] > rings[part, ring]:
        front.cost[part] = rings[part, ring + 1] - rings[part, ring]
