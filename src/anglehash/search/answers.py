"""Answers: from the distances that an index finds to hits with ids, and to pages of them."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anglehash.codes import Codes
from anglehash.errors import ConfigError
from anglehash.search.engines import check_k, check_radius
from anglehash.search.filters import Filter
from anglehash.search.paging import Cursor, search_key
from anglehash.search.store.items import Metadata
from anglehash.search.view import View


class Hit(NamedTuple):
    """One answer to a query.

    Attributes:
        rank: 1 for the nearest.
        id: the item's id.
        distance: Hamming distance to the query, in bits.
        labels: the item's labels; empty where it has none.
        metadata: its further columns.
        code: its packed code.
    """

    rank: int
    id: str
    distance: int
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


class Found(NamedTuple):
    """Answers to one query, nearest first: distances in bits, and rows of the store."""

    distances: NDArray[np.int32]
    rows: NDArray[np.integer]


def search(view: View, codes: Codes, ask: Ask) -> list[list[Hit]]:
    """The hits of every query.

    Raises:
        PurgedError: an item is gone for good since this generation.
    """
    return [_hits(view, found) for found in _find(view, codes, ask)]


def page(view: View, code: Codes, ask: Ask, cursor: str | None) -> Page:
    """``ask.k`` hits of one query after those that the cursor stands for.

    Raises:
        ConfigError: the cursor is of another search, or none.
        PurgedError: an item is gone for good since this generation.
    """
    size = check_k(ask.k or 0)
    key = search_key(
        np.asarray(code).tobytes().hex(), ask.radius, ask.where.facts(), view.snapshot.state.model
    )
    shown = window(lambda k: _find(view, code, ask._replace(k=k))[0], size, key, cursor)
    return Page(_hits(view, shown.found, first=shown.first), shown.cursor)


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


def _find(view: View, codes: Codes, ask: Ask) -> list[Found]:
    """Distances and rows of the answers to every query."""
    if ask.k is None and ask.radius is None:
        raise ConfigError("give k, radius, or both: how many neighbours, and how far away at most")
    if ask.radius is None:
        k = check_k(ask.k or 0)
        with view.index(ask.engine, ask.where) as (built, within):
            distances, found = built.index.search(codes, k, within=within)
            return [Found(d, built.rows[f]) for d, f in zip(distances, found, strict=True)]
    radius = check_radius(ask.radius, view.bits)
    with view.index(ask.engine, ask.where) as (built, within):
        lims, near, found = built.index.search_radius(codes, radius, k=ask.k, within=within)
        return [Found(near[a:b], built.rows[found[a:b]]) for a, b in pairwise(lims)]


def _hits(view: View, found: Found, *, first: int = 1) -> list[Hit]:
    items = [stored.item for stored in view.items(found.rows.tolist())]
    ranked = zip(found.distances.tolist(), items, strict=True)
    return [
        Hit(rank, item.id, distance, item.labels, item.metadata, item.code)
        for rank, (distance, item) in enumerate(ranked, start=first)
    ]
