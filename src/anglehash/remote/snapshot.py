"""A view: what an engine holds of a gallery now, its rows and the nearest of them.

What an engine cannot look for of a filter is looked for here: the rows that pass are read once for each filter and
generation, and their codes are searched in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Self, TypeVar

import numpy as np

from anglehash.codes import Codes, check_bits, width
from anglehash.data.image_hash import Picture
from anglehash.errors import ConfigError, ModelError
from anglehash.gallery.filters import Filter
from anglehash.gallery.store.items import Stored
from anglehash.gallery.target import BACKENDS, Target
from anglehash.index import ENGINES, make_index
from anglehash.remote.backend import Backend, Entry, Near
from anglehash.remote.pushdown import ALL, passes, wanted
from anglehash.remote.rows import Row, in_order, picture_tags, stored_of

T = TypeVar("T")

_KEPT_SUBSETS = 8
_TRIES = 3
_AT_ONCE = 4096  # rows that are asked for by their numbers or keys


class _Subset(NamedTuple):
    """The rows that pass a filter, ascending, and their codes."""

    rows: list[int]
    codes: Codes


def connect(target: Target) -> Backend:
    """The engine of a target.

    Raises:
        RemoteError: it is down.
        MissingExtraError: its client is not installed.
    """
    engine: Backend = BACKENDS[target.engine].connect(target)
    return engine


class RemoteView:
    """What an engine holds of a gallery.

    Attributes:
        target: where the gallery is.
        engine: who keeps it.
        entry: what the catalogue said of it when it was opened, refreshed or changed.
    """

    def __init__(self, target: Target, engine: Backend, entry: Entry) -> None:
        self.target, self.engine, self.entry = target, engine, entry
        self._subsets: dict[tuple[str, int, Filter], _Subset] = {}

    @classmethod
    def open(cls, target: Target) -> Self:
        """Connect, and read the catalogue.

        Raises:
            ModelError: no gallery of this name, or a newer anglehash wrote it.
            RemoteError: the engine is down.
        """
        engine = connect(target)
        try:
            return cls(target, engine, read_entry(engine, target))
        except BaseException:
            engine.close()
            raise

    @classmethod
    def create(cls, target: Target, *, bits: int, model_id: str, root: str = "") -> Self:
        """A new, empty gallery.

        Raises:
            ModelError: there is one of this name.
            RemoteError: the engine is down.
        """
        from anglehash.gallery.store.layout import library

        engine = connect(target)
        try:
            with engine.exclusive(target.name):
                if engine.entry(target.name) is not None:
                    raise ModelError(f"{target} is there already: choose another name, or push with --force")
                entry = Entry(
                    collection=f"{target.name}_0",
                    bits=check_bits(bits),
                    model=model_id,
                    root=root,
                    created_by=library(),
                )
                engine.drop(entry.collection)
                engine.make(entry.collection, bits)
                engine.finish(entry.collection)
                engine.set_entry(target.name, entry.text())
        except BaseException:
            engine.close()
            raise
        return cls(target, engine, entry)

    def refresh(self) -> bool:
        """Go on to the newest generation; whether there was a newer one."""
        before, self.entry = self.entry, read_entry(self.engine, self.target)
        return before != self.entry

    def rows(self, *, after: int = 0) -> Iterator[Row]:
        """All rows after this number, as the engine holds them, in order."""
        pages = self.engine.read(self.entry.collection, ALL, after=after, last=self.entry.last_row)
        return (row for page in pages for row in page)

    def matching(self, where: Filter, after: int) -> Iterator[Stored]:
        """The items after this row that pass a filter, in order."""
        want = wanted(where)
        for page in self.engine.read(self.entry.collection, want, after=after, last=self.entry.last_row):
            stored = (self.stored(row) for row in page)
            yield from (one for one in stored if want.complete or passes(where, one.item))

    def named(self, keys: Sequence[str]) -> Iterator[Row]:
        """The rows of these keys, as far as they are there, in any order."""
        for start in range(0, len(keys), _AT_ONCE):
            yield from self.engine.named(self.entry.collection, keys[start : start + _AT_ONCE])

    def numbered(self, numbers: Sequence[int]) -> Iterator[Row]:
        """The rows of these numbers, as far as they are there, in any order."""
        for start in range(0, len(numbers), _AT_ONCE):
            yield from self.engine.numbered(self.entry.collection, numbers[start : start + _AT_ONCE])

    def same(self, picture: Picture, where: Filter) -> list[Row]:
        """The rows that are this picture and pass a filter, in order: equal bytes, or equal pixels."""
        if not (tags := picture_tags(picture)):
            return []
        want = wanted(where)
        want = want._replace(groups=(*want.groups, tags))
        pages = self.engine.read(self.entry.collection, want, after=0, last=self.entry.last_row)
        return [
            row for page in pages for row in page if want.complete or passes(where, self.stored(row).item)
        ]

    def stored(self, row: Row) -> Stored:
        """The item of a row, once its crc is found right."""
        return stored_of(row, self.target)

    def near(self, code: bytes, k: int | None, radius: int | None, engine: str, where: Filter) -> list[Near]:
        """The nearest rows that pass a filter, in (distance, row) order.

        Args:
            code: the query's.
            k: maximum number of answers; without it, all within ``radius``.
            radius: none farther away.
            engine: ``exact``, a local engine's name, which means the same, or an index of the engine.
            where: the filter.

        Raises:
            ConfigError: no such index.
        """
        want = wanted(where)
        if not want.complete:
            return self.answer(lambda: self._near_here(code, k, radius, where))
        if engine != "exact" and engine not in ENGINES:
            found = self.answer(
                lambda: self.engine.approximate(self.entry.collection, code, k or 1000, want, engine)
            )
            if found is None:
                raise ConfigError(
                    f"{self.target} has no index {engine!r}: leave --engine out for exact answers"
                )
            return [near for near in found if radius is None or near[0] <= radius]
        if radius is None:
            assert k is not None, "one of both is there"
            return self.answer(lambda: self.engine.nearest(self.entry.collection, code, k, want))
        if k is None:
            return self.answer(lambda: self.engine.within(self.entry.collection, code, radius, want))
        found = self.answer(lambda: self.engine.nearest(self.entry.collection, code, k, want))
        return [near for near in found if near[0] <= radius]

    def _near_here(self, code: bytes, k: int | None, radius: int | None, where: Filter) -> list[Near]:
        """Answers out of the rows that pass a filter, which the engine cannot state."""
        rows, codes = self._subset(where)
        if not rows:
            return []
        index, query = make_index("exact", codes, self.entry.bits), np.frombuffer(code, np.uint8)[None]
        if radius is None:
            assert k is not None, "one of both is there"
            distances, found = (part[0] for part in index.search(query, k))
        else:
            _, distances, found = index.search_radius(query, radius, k=k)
        numbers = [rows[place] for place in found.tolist()]
        by_number = {row.row: row for row in self.numbered(numbers)}
        near = zip(distances.tolist(), numbers, strict=True)
        return in_order([(distance, by_number[row]) for distance, row in near if row in by_number])

    def _subset(self, where: Filter) -> _Subset:
        key = (self.entry.collection, self.entry.generation, where)
        if key not in self._subsets:
            matching = list(self.matching(where, 0))
            codes = np.frombuffer(b"".join(one.item.code for one in matching), np.uint8)
            while len(self._subsets) >= _KEPT_SUBSETS:
                self._subsets.pop(next(iter(self._subsets)), None)
            self._subsets[key] = _Subset(
                [one.row for one in matching], codes.reshape(-1, width(self.entry.bits))
            )
        return self._subsets[key]

    def answer(self, ask: Callable[[], T]) -> T:
        """An answer; where another push has taken the collection's place meanwhile, one from the new one."""
        for left in reversed(range(_TRIES)):
            try:
                return ask()
            except ConnectionError:
                if not left or not self.refresh():
                    raise
        raise AssertionError("the last try returns or raises")


def read_entry(engine: Backend, target: Target) -> Entry:
    """The catalogue's entry of a gallery.

    Raises:
        ModelError: no such gallery, or a newer anglehash wrote it.
    """
    text = engine.entry(target.name)
    if text is None:
        raise ModelError(f"no gallery {target}: make it with anglehash push GALLERY TARGET")
    return Entry.parse(text, target)
