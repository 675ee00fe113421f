"""Pages: the answers to one query, some at a time, by a cursor that any process can go on from.

A cursor says after which answer the next page begins, by the place of that answer in the order of all
(:class:`anglehash.gallery.ranking.Found`). It holds that and nothing else, so nothing is kept between pages, and where
the gallery changes in between, no answer that stays comes twice.
"""

from __future__ import annotations

import base64
import json
import zlib
from typing import NamedTuple, Self

from anglehash.errors import ConfigError
from anglehash.files import sha256_json


class Cursor(NamedTuple):
    """Where a page ended.

    Attributes:
        search: what stands for the query and its filters; a cursor of another search is refused.
        other: 0 where the last answer is the query's own picture, 1 where it is another.
        distance: of the last answer.
        unlikeness: of the last answer.
        row: of the last answer.
        rank: of the last answer.
    """

    search: str
    other: int
    distance: int
    unlikeness: int
    row: int
    rank: int

    def __str__(self) -> str:
        data = json.dumps(list(self), separators=(",", ":")).encode()
        return base64.urlsafe_b64encode(zlib.crc32(data).to_bytes(4, "big") + data).decode().rstrip("=")

    @classmethod
    def parse(cls, text: str, search: str) -> Self:
        """The cursor that a text is.

        Args:
            text: what :meth:`__str__` gave.
            search: what stands for the search that is to go on.

        Raises:
            ConfigError: not such a text, or of another search.
        """
        try:
            raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
            if zlib.crc32(raw[4:]) != int.from_bytes(raw[:4], "big"):
                raise ValueError
            name, *numbers = json.loads(raw[4:])
            if not isinstance(name, str) or not all(isinstance(n, int) for n in numbers):
                raise TypeError
            cursor = cls(name, *numbers)
        except (ValueError, TypeError, RecursionError):
            raise ConfigError("this cursor was not given by a search: begin again without one") from None
        if name != search:
            raise ConfigError("this cursor belongs to another search: begin again without one")
        return cursor


def search_key(*facts: object) -> str:
    """What stands for a search in its cursors."""
    return sha256_json(facts)[:16]
