"""Wanted: what of a filter an engine can look for itself.

Engines look for labels, for values that a column equals, for dates, and for how a path begins. What else a
filter says is tested here, item by item, by :func:`passes`, which is also the definition of a filter.
"""

from __future__ import annotations

import re
from fnmatch import translate
from functools import lru_cache
from typing import NamedTuple

from anglehash.gallery.filters import Filter, nanoseconds
from anglehash.gallery.store.items import Item
from anglehash.remote.rows import key_of, label_tag, value_tag

_MAGIC = re.compile(r"[*?\[]")
_PLAIN = re.compile(r"[\w/. \-]*")
_LAST = 2**63 - 1


class Pushdown(NamedTuple):
    """What a row must have.

    Attributes:
        groups: of each group of tags at least one.
        after: its date is this or later; ``None`` if that does not matter.
        before: its date is earlier; ``None`` if that does not matter.
        prefix: its key begins so. Letters, digits, ``/``, ``.``, ``-`` and spaces only.
        complete: whether that is all that the filter says.
    """

    groups: tuple[tuple[str, ...], ...] = ()
    after: int | None = None
    before: int | None = None
    prefix: str = ""
    complete: bool = True


ALL = Pushdown()


def wanted(where: Filter | None) -> Pushdown:
    """What an engine can look for of a filter.

    >>> from anglehash.gallery.filters import Condition
    >>> wanted(Filter(labels=("cat",), path="d1/*", where=(Condition("iso", ">", "400"),)))
    Pushdown(groups=(('label=cat',),), after=None, before=None, prefix='d1/', complete=False)
    """
    if not where:
        return ALL
    groups, complete = list[tuple[str, ...]](), True
    if where.labels:
        groups.append(tuple(map(label_tag, where.labels)))
    for condition in where.where:
        tag = value_tag(condition.column, condition.value) if condition.compare == "=" else None
        if tag:
            groups.append((tag,))
        else:
            complete = False
    prefix = ""
    if where.path is not None:
        prefix, whole = _prefix(where.path)
        complete = complete and whole
    after = before = None
    if where.after or where.before:
        after, before = nanoseconds(where.after, 1), nanoseconds(where.before, _LAST)
    return Pushdown(tuple(groups), None if after is None else max(after, 1), before, prefix, complete)


def _prefix(path: str) -> tuple[str, bool]:
    """How every path that a pattern matches begins, and whether every path that begins so matches it."""
    magic = _MAGIC.search(path)
    literal = path[: magic.start()] if magic else path
    plain = _PLAIN.match(literal)
    prefix = plain[0] if plain else ""
    prefix = prefix.replace("_", "\0").split("\0")[0]  # a wildcard in LIKE
    if not prefix.isprintable():
        prefix = ""
    return key_of(prefix), path == f"{prefix}*"


def passes(where: Filter, item: Item) -> bool:
    """Whether an item passes a filter: the definition."""
    if where.labels and not set(where.labels) & set(item.labels):
        return False
    if where.path is not None and not _matcher(where.path).match(item.id):
        return False
    if (where.after or where.before) and not (
        item.date > 0 and nanoseconds(where.after, 0) <= item.date < nanoseconds(where.before, _LAST)
    ):
        return False
    return all(condition.holds(dict(item.metadata)) for condition in where.where)


@lru_cache(maxsize=64)
def _matcher(path: str) -> re.Pattern[str]:
    return re.compile(translate(path))
