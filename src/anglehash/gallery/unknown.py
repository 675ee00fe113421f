"""Whether anything in a gallery looks like a query: its nearest item is within the level of the gallery's model.

That is a fact of the query and of all of the gallery, whatever part of it is searched and shown.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from anglehash.codes import Codes
from anglehash.gallery import query as answers
from anglehash.gallery.filters import Filter
from anglehash.gallery.query import Ask, Hits, Page, Queries, asked_of
from anglehash.gallery.snapshot import View

Nearest = Callable[[list[int]], Sequence[int | None]]
"""``nearest(queries)``: how far away the nearest item of each is, in bits; 0 where its own picture is an item,
``None`` where there are no items."""


def search(view: View, queries: Queries, ask: Ask) -> list[Hits]:
    """The hits of every query, as :func:`anglehash.gallery.query.search` gives them, each with ``unknown``."""
    found = answers.search(view, queries, ask)
    _set_here(view, found, queries, ask)
    return found


def page(view: View, query: Queries, ask: Ask, cursor: str | None) -> Page:
    """A page of hits, as :func:`anglehash.gallery.query.page` gives it, with ``unknown``."""
    found = answers.page(view, query, ask, cursor)
    _set_here(view, [found.hits], query, ask)
    return found


def _set_here(view: View, found: Sequence[Hits], queries: Queries, ask: Ask) -> None:
    if ask.level is None:
        return
    codes = asked_of(queries, view.bits).codes

    def nearest(doubtful: list[int]) -> list[int | None]:
        if not len(view.rows):
            return [None] * len(doubtful)
        with view.index(ask.engine, Filter()) as (built, _):
            distances, _ = built.index.search(codes[doubtful], 1)
        own = [bool(ask.pictures) and len(view.same(ask.pictures[q], Filter())) > 0 for q in doubtful]
        return [0 if is_item else int(d) for is_item, d in zip(own, distances[:, 0], strict=True)]

    set_unknown(found, codes, ask, nearest)


def set_unknown(found: Sequence[Hits], codes: Codes, ask: Ask, nearest: Nearest) -> None:
    """Say of each query whether it is unknown, where the model's level is known.

    Args:
        found: the answers to each query.
        codes: ``(q, w)`` packed codes of the queries.
        ask: what was asked.
        nearest: asked for the queries whose first answer is too far away: others may have been left out.
    """
    level = ask.level
    if level is None:
        return
    doubtful = []
    for place, (hits, code) in enumerate(zip(found, codes, strict=True)):
        hits.level, hits.unknown = level, False
        an_item = bool(ask.without) and ask.without[place] is not None
        if not an_item and not (hits and _is_like(hits, code.tobytes(), level.bits)):
            doubtful.append(place)
    for place, distance in zip(doubtful, nearest(doubtful) if doubtful else (), strict=True):
        hits = found[place]
        hits.unknown = None if distance is None else distance > level.bits
        hits.nearest = distance if hits.unknown else None


def _is_like(hits: Hits, code: bytes, level: int) -> bool:
    """Whether the first answer is the query's picture, or near enough.

    >>> from anglehash.gallery.query import Hit
    >>> hits = Hits([Hit(1, "a.jpg", 2.5, (), code=bytes([0b1100]))])
    >>> _is_like(hits, bytes([0b0000]), 2), _is_like(hits, bytes([0b0010]), 2)
    (True, False)
    """
    first = hits[0]
    return first.same_picture or (int.from_bytes(first.code) ^ int.from_bytes(code)).bit_count() <= level
