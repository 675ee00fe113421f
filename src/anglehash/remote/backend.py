"""What an engine has to offer to keep galleries, and the catalogue's entry of a gallery."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import Protocol, Self

from anglehash.errors import ModelError
from anglehash.gallery.store.sources import Source
from anglehash.remote.pushdown import Pushdown
from anglehash.remote.rows import Row

FORMAT = 2  # 1 had no sources

Near = tuple[int, Row]
"""A distance in bits, and the row that is so far away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What the catalogue says of a gallery: one text, replaced as a whole, and written last.

    Attributes:
        collection: the engine's collection that holds the rows.
        bits: length of a code.
        model: identity of the model that made the codes.
        root: the folder that the ids are relative to; empty where there is none.
        created_by: the library, with its version, that made the gallery.
        generation: number of changes.
        last_row: the highest number that a row was ever given.
        live: items.
        checksum: of the rows, as they were pushed; empty once they were changed here.
        sources: where items come from, by the numbers that they hold.
        format: version of all this.
    """

    collection: str
    bits: int
    model: str
    root: str = ""
    created_by: str = ""
    generation: int = 1
    last_row: int = 0
    live: int = 0
    checksum: str = ""
    sources: tuple[tuple[int, Source], ...] = ()
    format: int = FORMAT

    def text(self) -> str:
        """The entry as ASCII JSON."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def parse(cls, text: str, where: object) -> Self:
        """The entry that a text is.

        Raises:
            ModelError: it is none, or of a newer anglehash.
        """
        try:
            facts = json.loads(text)
            newer = int(facts["format"]) > FORMAT
            sources = ((int(number), Source(*source)) for number, source in facts.pop("sources", ()))
            found = None if newer else cls(**facts, sources=tuple(sources))
        except (ValueError, TypeError, KeyError):
            raise ModelError(
                f"{where} is damaged: its catalogue entry cannot be read. Push it again"
            ) from None
        if found is None:
            raise ModelError(f"{where} was written by a newer anglehash: upgrade anglehash")
        return found


class Backend(Protocol):
    """An engine, connected. Several threads may use it at once.

    Every method raises :class:`~anglehash.errors.RemoteError` where the engine is down or fails, with one line
    that names it.
    """

    def entry(self, name: str) -> str | None:
        """The catalogue's text of a gallery; ``None`` without such a gallery."""
        ...

    def set_entry(self, name: str, text: str | None) -> None:
        """Replace the catalogue's text of a gallery, or take it out; when this returns, every client sees it."""
        ...

    def exclusive(self, name: str) -> AbstractContextManager[None]:
        """Changes inside are made together, and by one writer at a time, where the engine can do so."""
        ...

    def collections(self) -> list[str]:
        """The names of all collections."""
        ...

    def make(self, collection: str, bits: int) -> None:
        """An empty collection of rows; one that is there stays as it is."""
        ...

    def drop(self, collection: str) -> None:
        """Remove a collection, if it is there."""
        ...

    def put(self, collection: str, rows: Sequence[Row]) -> None:
        """Add rows; each replaces one of the same key. When this returns, every client sees them."""
        ...

    def remove(self, collection: str, keys: Sequence[str]) -> None:
        """Remove rows by key; a key that is not there is passed over."""
        ...

    def finish(self, collection: str) -> None:
        """Make ready for searching, once all rows are there."""
        ...

    def count(self, collection: str) -> int:
        """Number of rows."""
        ...

    def named(self, collection: str, keys: Sequence[str]) -> list[Row]:
        """The rows of these keys, as far as they are there, in any order."""
        ...

    def numbered(self, collection: str, numbers: Sequence[int]) -> list[Row]:
        """The rows of these numbers, as far as they are there, in any order."""
        ...

    def read(self, collection: str, want: Pushdown, *, after: int, last: int) -> Iterator[list[Row]]:
        """All rows in ``after < row <= last`` that have what is wanted, in order, some at a time."""
        ...

    def nearest(self, collection: str, code: bytes, k: int, want: Pushdown) -> list[Near]:
        """The ``k`` nearest rows that have what is wanted, in (distance, row) order, exactly."""
        ...

    def within(self, collection: str, code: bytes, radius: int, want: Pushdown) -> list[Near]:
        """All rows at most ``radius`` bits away that have what is wanted, in (distance, row) order."""
        ...

    def approximate(
        self, collection: str, code: bytes, k: int, want: Pushdown, engine: str
    ) -> list[Near] | None:
        """As :meth:`nearest`, by an approximate index of that name; ``None`` where the engine has none of it."""
        ...

    def put_file(self, owner: str, name: str, data: bytes) -> None:
        """Keep a file; it replaces one of the same owner and name."""
        ...

    def file(self, owner: str, name: str) -> bytes | None:
        """A file that was kept; ``None`` where there is none."""
        ...

    def close(self) -> None:
        """Let go of the connection."""
        ...
