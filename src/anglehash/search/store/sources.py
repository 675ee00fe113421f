"""Sources: where items came from, so that they can be encoded again."""

from __future__ import annotations

import json
import sqlite3
import zlib
from pathlib import Path
from typing import NamedTuple

from anglehash.errors import ModelError
from anglehash.search.store.sqlite import sqlite_errors


class Source(NamedTuple):
    """What was given to ``index``, ``add`` or ``sync``.

    Attributes:
        data: a folder or manifest as an absolute path, or the name of a known set.
        root: where the files of a set or a manifest are, or nothing.
        prefix: what stands before each of its ids, or nothing.
    """

    data: str
    root: str = ""
    prefix: str = ""

    def id_of(self, name: str) -> str:
        """The id of one of its images.

        >>> Source("/photos", prefix="trip").id_of("a/1.jpg"), Source("/photos").id_of("1.jpg")
        ('trip/a/1.jpg', '1.jpg')
        """
        return f"{self.prefix}/{name}" if self.prefix else name

    def covers(self, name: str) -> bool:
        """Whether an id could be of one of its images.

        >>> Source("/photos", prefix="trip").covers("trip/1.jpg"), Source("/p", prefix="trip").covers("trip2/1.jpg")
        (True, False)
        """
        return name.startswith(f"{self.prefix}/") if self.prefix else True


def read_sources(connection: sqlite3.Connection, path: Path) -> dict[int, Source]:
    """All sources by their numbers.

    Raises:
        ModelError: one is damaged.
    """
    with sqlite_errors(path):
        rows = connection.execute("SELECT number, facts, crc FROM sources ORDER BY number").fetchall()
    found = {}
    for number, facts, crc in rows:
        try:
            if zlib.crc32(b"%d %s" % (number, facts.encode())) != crc:
                raise ValueError
            found[number] = Source(*json.loads(facts))
        except (ValueError, TypeError, AttributeError):
            raise ModelError(
                f"{path} is damaged: source {number} does not match its crc. Run anglehash repair"
            ) from None
    return found


def write_source(connection: sqlite3.Connection, number: int, source: Source) -> None:
    """Note a source, in a transaction of the caller or one of its own."""
    facts = json.dumps(list(source))
    crc = zlib.crc32(b"%d %s" % (number, facts.encode()))
    connection.execute("INSERT OR REPLACE INTO sources VALUES (?, ?, ?)", (number, facts, crc))
