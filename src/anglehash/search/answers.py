"""Answers: from the distances that an index finds to hits with ids, and to pages of them."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from anglehash.asymmetric import SURE, Weights, bit_weights, check_weights
from anglehash.codes import Codes
from anglehash.errors import CodeMismatchError, ConfigError, DataError
from anglehash.search.engines import ENGINES, check_k, check_radius
from anglehash.search.filters import Filter
from anglehash.search.paging import Cursor, search_key
from anglehash.search.store.items import Metadata
from anglehash.search.view import View
from anglehash.search.weighted import nearest


class Hit(NamedTuple):
    """One answer to a query.

    Attributes:
        rank: 1 for the nearest.
        id: the item's id.
        distance: Hamming distance to the query, in bits; of a real-valued query the asymmetric one, a fraction.
        labels: the item's labels; empty where it has none.
        metadata: its further columns.
        code: its packed code.
    """

    rank: int
    id: str
    distance: float
    labels: tuple[str, ...]
    metadata: Metadata = MappingProxyType({})
    code: bytes = b""


class Page(NamedTuple):
    """Some answers to a query.

    Attributes:
        hits: the answers.
        cursor: where the next page begins; ``None`` after the last.
    """

    hits: list[Hit]
    cursor: str | None


class Ask(NamedTuple):
    """What is asked of a gallery; see :meth:`anglehash.search.gallery.Gallery.search`.

    Attributes:
        k: at most so many answers to a query.
        radius: none farther away than so many bits.
        engine: who searches.
        where: look only at items that pass.
    """

    k: int | None
    radius: int | None
    engine: str
    where: Filter


Queries = Codes | NDArray[np.floating]
"""Packed codes, or logits ``(q, bits)`` of a real type: those are asked with asymmetrically."""


class Real(NamedTuple):
    """Real-valued queries: ``(q, bits)``, what each bit of theirs weighs."""

    weights: Weights


class Found(NamedTuple):
    """Answers to one query, nearest first: distances, in bits or parts of one, and rows of the store."""

    distances: NDArray[np.int32]
    rows: NDArray[np.integer]


def search(view: View, queries: Queries, ask: Ask) -> list[list[Hit]]:
    """The hits of every query.

    Raises:
        PurgedError: an item is gone for good since this generation.
    """
    asked = _asked(queries, view.bits)
    return [_hits(view, found, asked) for found in _find(view, asked, ask)]


def page(view: View, query: Queries, ask: Ask, cursor: str | None) -> Page:
    """``ask.k`` hits of one query after those that the cursor stands for.

    Raises:
        ConfigError: the cursor is of another search, or none.
        PurgedError: an item is gone for good since this generation.
    """
    size, asked = check_k(ask.k or 0), _asked(query, view.bits)
    own = asked.weights if isinstance(asked, Real) else asked
    if len(own) != 1:
        raise DataError(f"a page has the answers to one query, got {len(own)}: use search for several")
    key = search_key(own.tobytes().hex(), ask.radius, ask.where.facts(), view.snapshot.state.model)
    shown = window(lambda k: _find(view, asked, ask._replace(k=k))[0], size, key, cursor)
    return Page(_hits(view, shown.found, asked, first=shown.first), shown.cursor)


class Window(NamedTuple):
    """The part of the answers that a page shows.

    Attributes:
        found: distances and rows.
        first: rank of the first.
        cursor: where the next page begins; ``None`` after the last.
    """

    found: Found
    first: int
    cursor: str | None


def window(find: Callable[[int], Found], size: int, key: str, cursor: str | None) -> Window:
    """The ``size`` answers after those that the cursor stands for.

    Args:
        find: the ``k`` nearest answers, fewer where there are no more.
        size: answers of a page.
        key: of the search (:func:`~anglehash.search.paging.search_key`).
        cursor: where the page before ended.

    Raises:
        ConfigError: the cursor is of another search, or none.
    """
    after = Cursor.parse(cursor, key) if cursor else Cursor(key, -1, -1, 0)
    k = after.rank + size + 1
    while True:
        distances, rows = find(k)
        # Items may have come and gone since the last page: go by what was shown, not by its number.
        new = (distances > after.distance) | ((distances == after.distance) & (rows > after.row))
        if new.sum() > size or len(rows) < k:
            break
        k *= 2
    shown = np.flatnonzero(new)[:size]
    found, first = Found(distances[shown], rows[shown]), after.rank + 1
    if new.sum() <= size:
        return Window(found, first, None)
    last = Cursor(key, int(found.distances[-1]), int(found.rows[-1]), after.rank + size)
    return Window(found, first, str(last))


def others(hits: list[Hit], name: str, k: int) -> list[Hit]:
    """The first ``k`` hits without the item that was asked by, ranked anew."""
    kept = [hit for hit in hits if hit.id != name][:k]
    return [hit._replace(rank=rank) for rank, hit in enumerate(kept, start=1)]


def _asked(queries: Queries, bits: int) -> Codes | Real:
    """Packed codes as they are; what logits say of each bit."""
    given: NDArray[Any] = np.asarray(queries)
    if np.issubdtype(given.dtype, np.floating):
        return Real(check_weights(bit_weights(given), bits))
    if given.ndim == 2 and given.shape[1] == bits:  # packed codes are shorter
        raise CodeMismatchError(
            f"queries are packed codes or float logits, got {given.dtype} of the shape {given.shape}: "
            "pack them (anglehash.codes.pack), or give the logits as floats"
        )
    return given


def _find(view: View, asked: Codes | Real, ask: Ask) -> list[Found]:
    """Distances and rows of the answers to every query."""
    if ask.k is None and ask.radius is None:
        raise ConfigError("give k, radius, or both: how many neighbours, and how far away at most")
    k = None if ask.k is None else check_k(ask.k)
    radius = None if ask.radius is None else check_radius(ask.radius, view.bits)
    if isinstance(asked, Real):
        ENGINES[ask.engine]  # unknown names are refused, though none is asked
        return _find_real(view, asked, k, radius, ask.where)
    with view.index(ask.engine, ask.where) as (built, within):
        if radius is None:
            distances, found = built.index.search(asked, check_k(k or 0), within=within)
            return [Found(d, built.rows[f]) for d, f in zip(distances, found, strict=True)]
        lims, near, found = built.index.search_radius(asked, radius, k=k, within=within)
        return [Found(near[a:b], built.rows[found[a:b]]) for a, b in pairwise(lims)]


def _find_real(view: View, asked: Real, k: int | None, radius: int | None, where: Filter) -> list[Found]:
    """The answers to real-valued queries: distances in parts of a bit."""
    parts, within = [part.codes for part in view.snapshot.parts], view.passing(where)
    reach = None if radius is None else radius * SURE
    near = [nearest(own, parts, k=k, reach=reach, within=within) for own in asked.weights]
    return [Found(distances, view.rows[places]) for distances, places in near]


def _hits(view: View, found: Found, asked: Codes | Real, *, first: int = 1) -> list[Hit]:
    items = [stored.item for stored in view.items(found.rows.tolist())]
    distances = found.distances / SURE if isinstance(asked, Real) else found.distances
    ranked = zip(distances.tolist(), items, strict=True)
    return [
        Hit(rank, item.id, distance, item.labels, item.metadata, item.code)
        for rank, (distance, item) in enumerate(ranked, start=first)
    ]
