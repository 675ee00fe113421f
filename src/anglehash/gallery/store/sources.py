"""Sources: where items came from, so that they can be encoded again."""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from anglehash.errors import ModelError
from anglehash.gallery.store.database import connect
from anglehash.gallery.store.layout import Receipt, Store, read_steadily
from anglehash.gallery.store.sqlite import sqlite_errors

if TYPE_CHECKING:
    from anglehash.data.dataset import Dataset


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

    def name_of(self, item: str) -> str:
        """What one of its images is called in it, by the item's id: the way back from :meth:`id_of`.

        >>> Source("/photos", prefix="trip").name_of("trip/a/1.jpg"), Source("/photos").name_of("1.jpg")
        ('a/1.jpg', '1.jpg')
        """
        return item.removeprefix(f"{self.prefix}/") if self.prefix else item

    @property
    def is_set(self) -> bool:
        """Whether its images lie in a known set or a Parquet table, and not in files of their own.

        >>> Source("cifar10").is_set, Source("/data/t.parquet").is_set, Source("/photos").is_set
        (True, True, False)
        """
        from anglehash.data.sources.open import SETS  # a search needs none of it

        return self.data in SETS or Path(self.data).suffix.lower() == ".parquet"

    @property
    def folder(self) -> Path:
        """The folder that the files of a folder or manifest are relative to.

        >>> Source("/lists/a.csv", root="/photos").folder.as_posix()
        '/photos'
        """
        data = Path(self.data)
        return Path(self.root) if self.root else data.parent if data.is_file() else data

    def listed(self) -> tuple[Dataset, dict[str, int]]:
        """The images of a set, and the row of each by its name."""
        from anglehash.data.sources.open import list_images

        dataset = list_images(self.data, root=self.root or None)
        return dataset, {name: row for row, name in enumerate(dataset.ids)}

    def covers(self, name: str) -> bool:
        """Whether an id could be of one of its images.

        >>> Source("/photos", prefix="trip").covers("trip/1.jpg"), Source("/p", prefix="trip").covers("trip2/1.jpg")
        (True, False)
        """
        return name.startswith(f"{self.prefix}/") if self.prefix else True


def read_sources(connection: sqlite3.Connection, path: Path, root: str = "") -> dict[int, Source]:
    """All sources by their numbers.

    Args:
        connection: to the database.
        path: of it, for messages.
        root: where items without a source come from; their number is 0.

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
            source = Source(*json.loads(facts))
            if number < 1 or not all(isinstance(text, str) and "\0" not in text for text in source):
                raise ValueError
            found[number] = source
        except (ValueError, TypeError, AttributeError, RecursionError):
            raise ModelError(
                f"{path} is damaged: source {number} does not match its crc. Run anglehash repair"
            ) from None
    if root:
        found.setdefault(0, Source(root))
    return found


def sources_of(path: Path, root: str = "") -> dict[int, Source]:
    """All sources of the gallery in a folder, by their numbers; ``root`` as for :func:`read_sources`.

    Raises:
        ModelError: no gallery, or a source is damaged.
    """

    def read(store: Store, _: Receipt) -> dict[int, Source]:
        with closing(connect(store.database)) as connection:
            return read_sources(connection, store.database, root)

    return read_steadily(path, read)


def number_of(source: Source, known: Mapping[int, Source]) -> int:
    """The number of a source among those known, or, where it is new, the next one.

    >>> number_of(Source("/b"), {1: Source("/a"), 4: Source("/b")}), number_of(Source("/c"), {4: Source("/b")})
    (4, 5)
    """
    new = max(known, default=0) + 1
    return next((number for number, old in known.items() if old == source), new)


def write_source(connection: sqlite3.Connection, number: int, source: Source) -> None:
    """Note a source, inside the caller's transaction."""
    facts = json.dumps(list(source))
    crc = zlib.crc32(b"%d %s" % (number, facts.encode()))
    connection.execute("INSERT OR REPLACE INTO sources VALUES (?, ?, ?)", (number, facts, crc))
