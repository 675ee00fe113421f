"""Answers: from a query to hits with ids, and to pages of them; :mod:`~anglehash.gallery.ranking` has their order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from anglehash.asymmetric import SURE, Weights, bit_weights, check_weights
from anglehash.codes import Codes, check_codes, hamming, pack
from anglehash.data.image_hash import Picture
from anglehash.encode.unknown_level import Level
from anglehash.errors import CodeMismatchError, ConfigError, DataError
from anglehash.gallery.cursor import Cursor, search_key
from anglehash.gallery.filters import Filter
from anglehash.gallery.ranking import Found, Near, Nearest, Numbers, Query, ranked
from anglehash.gallery.snapshot import View
from anglehash.gallery.store.items import Metadata
from anglehash.index import ENGINES, check_k, check_radius
from anglehash.index._asymmetric import distances_to, nearest


class Hit(NamedTuple):
    """One answer to a query.

    Attributes:
        rank: 1 for the first.
        id: the item's id.
        distance: Hamming distance to the query, in bits; in an asymmetric search a fraction.
        labels: the item's labels; empty where it has none.
        metadata: its further columns.
        code: its packed code.
        same_picture: whether it has the bytes or the pixels of the query's image; then it comes first.
    """

    rank: int
    id: str
    distance: float
    labels: tuple[str, ...]
    metadata: Metadata = MappingProxyType({})
    code: bytes = b""
    same_picture: bool = False


class Hits(list[Hit]):
    """The answers to one query, best first.

    Attributes:
        tied_at_last: how many items, shown or not, are as far away as the last answer; 0 without an answer,
            ``None`` where that is not counted.
        unknown: whether nothing in the whole gallery looks like the query: its nearest item is farther away than the
            level of the gallery's model. ``None`` without a level or an item.
        nearest: of an unknown query, the distance of that item in bits.
        level: the level; ``None`` where the gallery has none, as one that was made from codes.
    """

    unknown: bool | None = None
    nearest: int | None = None
    level: Level | None = None

    def __init__(self, hits: Iterable[Hit] = (), tied_at_last: int | None = None) -> None:
        super().__init__(hits)
        self.tied_at_last = tied_at_last


class Page(NamedTuple):
    """Some answers to a query.

    Attributes:
        hits: the answers.
        cursor: where the next page begins; ``None`` after the last.
    """

    hits: Hits
    cursor: str | None


class Ask(NamedTuple):
    """What is asked of a gallery; see :meth:`anglehash.gallery.gallery.Gallery.search`."""

    k: int | None
    radius: int | None
    engine: str
    where: Filter
    asymmetric: bool = False
    pictures: Sequence[Picture] = ()
    without: Sequence[str | None] = ()
    level: Level | None = None

    def key(self, asked: Asked, model_id: str) -> str:
        """What stands for this search, of one query, in its cursors."""
        query = [None if part is None else part.tobytes().hex() for part in asked]
        pictures = [[key.hex() for key in picture] for picture in self.pictures]
        options = self.asymmetric, self.radius, self.where.facts()
        return search_key(query, pictures, list(self.without), *options, model_id)


Queries = Codes | NDArray[np.floating]
"""Packed codes ``(q, ceil(bits / 8))``, or logits ``(q, bits)`` of a real type."""


class Asked(NamedTuple):
    """Queries: ``(q, ceil(bits / 8))`` codes and, where logits are known, ``(q, bits)`` what each bit weighs."""

    codes: Codes
    weights: Weights | None


def search(view: View, queries: Queries, ask: Ask) -> list[Hits]:
    """The hits of every query.

    Raises:
        PurgedError: an item is gone for good since this generation.
    """
    found = _find(view, asked_of(queries, view.bits), ask)
    return [_hits(view, one, ask) for one in found]


def page(view: View, query: Queries, ask: Ask, cursor: str | None) -> Page:
    """``ask.k`` hits of one query after those that the cursor stands for.

    Raises:
        ConfigError: the cursor is of another search, or none.
        PurgedError: an item is gone for good since this generation.
    """
    size, asked = check_k(ask.k or 0), check_one(asked_of(query, view.bits))
    key = ask.key(asked, view.snapshot.state.model)
    shown = window(lambda k: _find(view, asked, ask._replace(k=k))[0], size, key, cursor)
    return Page(_hits(view, shown.found, ask, first=shown.first), shown.cursor)


class Window(NamedTuple):
    """The part of the answers that a page shows.

    Attributes:
        found: the answers.
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
        key: of the search (:func:`~anglehash.gallery.cursor.search_key`).
        cursor: where the page before ended.

    Raises:
        ConfigError: the cursor is of another search, or none.
    """
    after = Cursor.parse(cursor, key) if cursor else Cursor(key, -1, -1, -1, -1, 0)
    k = after.rank + size + 1
    while True:
        found = find(k)
        # Items may have come and gone since the last page: go by what was shown, not by its number.
        new = np.flatnonzero(_comes_after(found, after))
        if len(new) > size or len(found.rows) < k:
            break
        k *= 2
    shown, first = found.part(new[:size]), after.rank + 1
    if len(new) <= size:
        return Window(shown, first, None)
    last = Cursor._make((key, *(int(numbers[-1]) for numbers in _place(shown)), after.rank + size))
    return Window(shown, first, str(last))


def _place(found: Found) -> tuple[NDArray[Any], ...]:
    """Where answers are in the order of all, by its first rule, its second, and so on."""
    return ~found.same, found.distances, found.unlikeness, found.rows


def _comes_after(found: Found, cursor: Cursor) -> NDArray[np.bool_]:
    """Which answers come after the one at which a page ended."""
    later = np.zeros(len(found.rows), np.bool_)
    level = np.ones(len(found.rows), np.bool_)
    for own, last in zip(_place(found), cursor[1:5], strict=True):
        later |= level & (own > last)
        level &= own == last
    return later


def asked_of(queries: Queries, bits: int) -> Asked:
    """Queries, checked.

    Raises:
        CodeMismatchError: they are not ``bits`` long, or neither packed codes nor logits.
        DataError: logits are not finite.
    """
    given: NDArray[Any] = np.asarray(queries)
    if np.issubdtype(given.dtype, np.floating):
        weights = check_weights(bit_weights(given), bits)
        return Asked(pack(given), weights)
    if given.ndim == 2 and given.shape[1] == bits:  # packed codes are shorter
        raise CodeMismatchError(
            f"queries are packed codes or float logits, got {given.dtype} of the shape {given.shape}: "
            "pack them (anglehash.codes.pack), or give the logits as floats"
        )
    return Asked(check_codes(given, bits), None)


def check_one(asked: Asked) -> Asked:
    """The same, if it is one query.

    Raises:
        DataError: it is not.
    """
    if len(asked.codes) != 1:
        raise DataError(
            f"a page has the answers to one query, got {len(asked.codes)}: use search for several"
        )
    return asked


def _find(view: View, asked: Asked, ask: Ask) -> list[Found]:
    """The answers to every query."""
    if ask.k is None and ask.radius is None:
        raise ConfigError("give k, radius, or both: how many neighbours, and how far away at most")
    k = None if ask.k is None else check_k(ask.k)
    radius = None if ask.radius is None else check_radius(ask.radius, view.bits)
    if ask.asymmetric and radius is not None:
        radius *= SURE
    queries = _queries(view, asked, ask)
    with _nearest(view, asked, ask) as found:
        return ranked(found, queries, k, radius)


def _queries(view: View, asked: Asked, ask: Ask) -> list[Query]:
    """What is known of each query beside its code."""
    check_counts(len(asked.codes), ask)
    queries = [Query()] * len(asked.codes)
    if asked.weights is not None and not ask.asymmetric:
        queries = [
            q._replace(unlikeness=_unlikeness(view, own))
            for q, own in zip(queries, asked.weights, strict=True)
        ]
    for place, picture in enumerate(ask.pictures):
        rows = view.same(picture, ask.where)
        if len(rows):
            codes = view.codes_of(rows)
            if ask.asymmetric and asked.weights is not None:
                distances = distances_to(asked.weights[place], codes)
            else:
                distances = hamming(asked.codes[place : place + 1], codes)[0].astype(np.int32)
            queries[place] = queries[place]._replace(same=Near(distances, rows))
    for place, name in enumerate(ask.without):
        if name is not None:
            queries[place] = queries[place]._replace(without=view.named(name)[1].row)
    return queries


def check_counts(count: int, ask: Ask) -> None:
    """Refuse pictures and items to leave out that are neither none nor one for each query.

    Raises:
        DataError: they are.
    """
    for name, given in (("pictures", ask.pictures), ("items to leave out", ask.without)):
        if len(given) not in (0, count):
            raise DataError(f"give none or as many {name} as queries: {count} queries, got {len(given)}")


def _unlikeness(view: View, weights: Weights) -> Callable[[Numbers], NDArray[np.int32]]:
    return lambda rows: distances_to(weights, view.codes_of(rows))


@contextmanager
def _nearest(view: View, asked: Asked, ask: Ask) -> Iterator[Nearest]:
    """What finds the nearest items, out of one generation."""
    if ask.asymmetric:
        if asked.weights is None:
            raise ConfigError("an asymmetric search wants float logits as queries, not codes")
        ENGINES[ask.engine]  # unknown names are refused, though none is asked
        yield _scan(view, asked.weights, ask.where)
        return
    with view.index(ask.engine, ask.where) as (built, within):

        def by_index(some: Numbers, k: int | None, radius: int | None) -> list[Near]:
            codes = asked.codes[some]
            if radius is None:
                distances, found = built.index.search(codes, k or 0, within=within)
                return [
                    Near(d, built.rows[f].astype(np.int64)) for d, f in zip(distances, found, strict=True)
                ]
            lims, near, found = built.index.search_radius(codes, radius, k=k, within=within)
            rows = built.rows[found].astype(np.int64)
            return [Near(near[a:b], rows[a:b]) for a, b in pairwise(lims)]

        yield by_index


def _scan(view: View, weights: Weights, where: Filter) -> Nearest:
    """What finds the items nearest to real-valued queries: distances in parts of a bit."""
    parts, within = [part.codes for part in view.snapshot.parts], view.matching(where)

    def by_scan(some: Numbers, k: int | None, radius: int | None) -> list[Near]:
        near = [nearest(own, parts, k=k, reach=radius, within=within) for own in weights[some]]
        return [Near(distances, view.rows[places].astype(np.int64)) for distances, places in near]

    return by_scan


def _hits(view: View, found: Found, ask: Ask, *, first: int = 1) -> Hits:
    items = [stored.item for stored in view.items(found.rows.tolist())]
    distances = found.distances / SURE if ask.asymmetric else found.distances
    ranked = zip(distances.tolist(), items, found.same.tolist(), strict=True)
    hits = (
        Hit(rank, item.id, distance, item.labels, item.metadata, item.code, same)
        for rank, (distance, item, same) in enumerate(ranked, start=first)
    )
    return Hits(hits, int(found.tied[-1]) if len(found.tied) else 0)
