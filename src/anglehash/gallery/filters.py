"""Filters: which items of a gallery a search looks at, by label, path, date and metadata.

A filter is applied before the nearest are taken, so ``k`` answers come wherever ``k`` items pass it.
:mod:`~anglehash.gallery.filter_sql` finds those items.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, NamedTuple, Self

from anglehash.errors import ConfigError

_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_CONDITION = re.compile(r"\s*([^<>=!]+?)\s*(!=|<=|>=|=|<|>)\s*(.*?)\s*", re.DOTALL)


class Condition(NamedTuple):
    """A comparison with one column of the metadata.

    Numbers are compared as numbers where both sides are numbers, else as text; a list holds the condition
    where one of its values does; an item without the column never holds it.

    >>> Condition.parse("year >= 2019").holds({"year": "2020"}), Condition.parse("year=2019").holds({})
    (True, False)
    """

    column: str
    compare: str
    value: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """The condition that a text such as ``year>=2019`` states.

        Raises:
            ConfigError: it states none.
        """
        found = _CONDITION.fullmatch(text)
        if found is None:
            raise ConfigError(
                f"a condition is COLUMN=VALUE, or with !=, <, <=, > or >= in place of =, got {text!r}"
            )
        return cls(*found.groups())

    def holds(self, metadata: dict[str, Any]) -> bool:
        """Whether metadata fulfil it."""
        if self.column not in metadata:
            return False
        cell = metadata[self.column]
        return any(self._compared(value) for value in (cell if isinstance(cell, list) else [cell]))

    def _compared(self, value: Any) -> bool:
        sides: tuple[Any, Any] = ("" if value is None else str(value), self.value)
        with suppress(ValueError):
            sides = (float(sides[0]), float(sides[1]))
        return _COMPARE[self.compare](*sides)


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """What an item must be to be looked at; what is not given does not matter.

    Attributes:
        labels: it has at least one of these.
        path: its id matches this pattern: ``*`` any characters, ``/`` too, ``?`` one, ``[abc]`` one of these.
        after: its file was changed at or after this moment.
        before: its file was changed before this moment. An item without a date passes neither.
        where: conditions on its metadata, all of which hold.
    """

    labels: tuple[str, ...] = ()
    path: str | None = None
    after: datetime | None = None
    before: datetime | None = None
    where: tuple[Condition, ...] = ()

    def __bool__(self) -> bool:
        return self != Filter()

    def facts(self) -> dict[str, Any]:
        """The filter as JSON values, for messages and cursors."""
        return {
            key: str(value) if isinstance(value, datetime) else value for key, value in asdict(self).items()
        }


def nanoseconds(moment: datetime | None, default: int) -> int:
    """A moment in nanoseconds since 1970; one without a time zone is local."""
    return default if moment is None else int(moment.timestamp() * 1e6) * 1000
