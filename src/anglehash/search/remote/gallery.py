"""A remote gallery: what a local one offers, answered by an engine.

It answers from what the engine holds now. What an engine cannot look for of a filter is looked for here: the rows
that pass are read once for each filter and generation, and their codes are searched in memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar

import numpy as np

from anglehash.codes import Codes, check_bits, check_codes, width
from anglehash.errors import CodeMismatchError, ConfigError, DataError, ModelError
from anglehash.search.answers import Found, Hit, Page, others, window
from anglehash.search.engines import ENGINES, check_k, check_radius, make_index
from anglehash.search.filters import Filter
from anglehash.search.paging import search_key
from anglehash.search.remote.engine import Engine, Entry, Near
from anglehash.search.remote.engines import REMOTE_ENGINES
from anglehash.search.remote.models import fetched
from anglehash.search.remote.rows import Row, in_order, key_of, row_of, stored_of
from anglehash.search.remote.target import Target
from anglehash.search.remote.wanted import ALL, passes, wanted
from anglehash.search.store.items import Item, Seen, Stored
from anglehash.search.store.writer import Applied, Changes

T = TypeVar("T")

_KEPT_SUBSETS = 8
_TRIES = 3
_AT_ONCE = 4096  # rows that are asked for by their numbers


class _Subset(NamedTuple):
    """The rows that pass a filter, ascending, and their codes."""

    rows: list[int]
    codes: Codes


def connect(target: Target) -> Engine:
    """The engine of a target.

    Raises:
        RemoteError: it is down.
        MissingExtraError: its client is not installed.
    """
    engine: Engine = REMOTE_ENGINES[target.engine].connect(target)
    return engine


class RemoteGallery:
    """A gallery that an engine keeps; see :class:`anglehash.search.gallery.Gallery` for what it offers.

    Attributes:
        target: where it is.
        path: the target without its secrets, for messages.
        engine: who keeps it.
        entry: what the catalogue said of it when it was opened, refreshed or changed.
    """

    def __init__(self, target: Target, engine: Engine, entry: Entry) -> None:
        self.target, self.engine, self.entry = target, engine, entry
        self.path = Path(str(target))
        self._subsets: dict[tuple[str, int, Filter], _Subset] = {}

    @classmethod
    def open(cls, target: str | Target) -> Self:
        """Open a gallery.

        Raises:
            ModelError: there is none of this name, or a newer anglehash wrote it.
            RemoteError: the engine is down.
        """
        target = Target.parse(target) if isinstance(target, str) else target
        engine = connect(target)
        try:
            return cls(target, engine, read_entry(engine, target))
        except BaseException:
            engine.close()
            raise

    @classmethod
    def create(cls, target: str | Target, *, bits: int, model_id: str, root: str = "") -> Self:
        """A new, empty gallery.

        Raises:
            ModelError: there is one of this name.
            RemoteError: the engine is down.
        """
        from anglehash.search.gallery import us

        target = Target.parse(target) if isinstance(target, str) else target
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
                    created_by=us(),
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

    def close(self) -> None:
        """Let go of the connection."""
        self.engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __len__(self) -> int:
        return self.entry.live

    def __iter__(self) -> Iterator[Stored]:
        """All items, in the gallery's order."""
        return (self.stored(row) for row in self.rows())

    def rows(self, *, after: int = 0) -> Iterator[Row]:
        """All rows after this number, as the engine holds them, in order."""
        pages = self.engine.read(self.entry.collection, ALL, after=after, last=self.entry.last_row)
        return (row for page in pages for row in page)

    @property
    def bits(self) -> int:
        """Length of a code."""
        return self.entry.bits

    @property
    def model_id(self) -> str:
        """The identity of the model that made the codes."""
        return self.entry.model

    @property
    def generation(self) -> int:
        """How many changes there were."""
        return self.entry.generation

    @property
    def root(self) -> str:
        """The folder that the ids are relative to, as it was named; empty where there is none."""
        return self.entry.root

    @property
    def created_by(self) -> str:
        """The library, with its version, that made the gallery."""
        return self.entry.created_by

    @property
    def codes(self) -> Codes:
        """``(n, ceil(bits / 8))`` packed codes, in the gallery's order; all of them are read."""
        joined = b"".join(stored.item.code for stored in self)
        return np.frombuffer(joined, np.uint8).reshape(-1, width(self.bits))

    @property
    def ids(self) -> tuple[str, ...]:
        """The id of each item."""
        return tuple(stored.item.id for stored in self)

    @property
    def labels(self) -> tuple[tuple[str, ...], ...]:
        """The labels of each item."""
        return tuple(stored.item.labels for stored in self)

    @property
    def files(self) -> list[Seen]:
        """A remote gallery keeps no list of files that were seen."""
        return []

    @property
    def problems(self) -> tuple[tuple[str, str, str], ...]:
        """A remote gallery keeps no list of files that gave no code."""
        return ()

    @property
    def model_folder(self) -> Path:
        """A copy of the gallery's model in the cache, fetched when it is first asked for."""
        return fetched(self.engine, self.model_id, self.target)

    def require_model(self, model_id: str) -> None:
        """Refuse codes of another model: equal bits, but with other meanings.

        Raises:
            ModelError: the gallery's codes were made by another model.
        """
        if model_id != self.model_id:
            raise ModelError(
                f"{self.target} holds codes of the model {self.model_id}, but these are of {model_id}: "
                "use the gallery's model, or push a gallery that was encoded again"
            )

    def item(self, name: str) -> Stored:
        """The item of this id.

        Raises:
            DataError: there is none.
        """
        found = self._answer(lambda: self.engine.named(self.entry.collection, [key_of(name)]))
        if not found:
            raise DataError(f"there is no item {name!r} in {self.target}: see anglehash list")
        return self.stored(found[0])

    def listed(
        self, where: Filter | None = None, *, limit: int | None = None, after_row: int = 0
    ) -> tuple[list[Item], int | None]:
        """Items in the gallery's order; see :meth:`anglehash.search.gallery.Gallery.listed`."""
        kept = list[Stored]()
        for stored in self._passing(where or Filter(), after_row):
            if limit is not None and len(kept) == limit:
                return [one.item for one in kept], kept[-1].row
            kept.append(stored)
        return [one.item for one in kept], None

    def search(
        self,
        codes: Codes,
        k: int | None = None,
        *,
        radius: int | None = None,
        engine: str = "exact",
        where: Filter | None = None,
    ) -> list[list[Hit]]:
        """The nearest items of every query, as :meth:`anglehash.search.gallery.Gallery.search`.

        Args:
            codes: ``(q, ceil(bits / 8))`` packed codes of the queries.
            k: at most so many for each query; without it, all within ``radius``.
            radius: none farther away than so many bits.
            engine: ``exact``, or an approximate index of the engine. A local engine's name means ``exact``,
                since those are exact too.
            where: look only at items that pass this filter.

        Raises:
            ConfigError: neither ``k`` nor ``radius`` is given, one is out of range, or there is no such index.
            CodeMismatchError: the queries are not ``bits`` long.
            ModelError: an item that would have been answered is damaged.
            RemoteError: the engine is down.
        """
        if k is None and radius is None:
            raise ConfigError("give k, radius, or both: how many neighbours, and how far away at most")
        k = None if k is None else check_k(k)
        radius = None if radius is None else check_radius(radius, self.bits)
        where = where or Filter()
        return [
            self._hits(self._near(code.tobytes(), k, radius, engine, where))
            for code in check_codes(codes, self.bits)
        ]

    def page(
        self,
        code: Codes,
        size: int,
        *,
        cursor: str | None = None,
        radius: int | None = None,
        engine: str = "exact",
        where: Filter | None = None,
    ) -> Page:
        """Some answers to one query, and a cursor to go on from.

        Raises:
            ConfigError: the cursor is of another search, or none.
        """
        size, where = check_k(size), where or Filter()
        radius = None if radius is None else check_radius(radius, self.bits)
        query = check_codes(code, self.bits)[0].tobytes()
        key = search_key(query.hex(), radius, where.facts(), self.model_id)
        near = dict[int, Near]()

        def find(k: int) -> Found:
            answers = self._near(query, k, radius, engine, where)
            near.update((one[1].row, one) for one in answers)
            distances, rows = ([one[0] for one in answers], [one[1].row for one in answers])
            return Found(np.array(distances, np.int32), np.array(rows, np.int64))

        shown = window(find, size, key, cursor)
        hits = self._hits((near[row] for row in shown.found.rows.tolist()), first=shown.first)
        return Page(hits, shown.cursor)

    def similar(
        self,
        name: str,
        k: int,
        *,
        radius: int | None = None,
        engine: str = "exact",
        where: Filter | None = None,
    ) -> list[Hit]:
        """More like an item of the gallery: the items nearest to it, itself left out.

        Raises:
            DataError: there is no item of this id.
        """
        code = np.frombuffer(self.item(name).item.code, np.uint8)[None]
        hits = self.search(code, check_k(k) + 1, radius=radius, engine=engine, where=where)[0]
        return others(hits, name, k)

    def change(self, changes: Changes) -> Applied:
        """Add, replace and remove items; ``seen`` and ``forget`` are passed over.

        PostgreSQL applies all or nothing, one writer after the other. Milvus has no transactions: each item is
        there or not, and two writers at a time may give one number to two rows, so let one write at a time.

        Raises:
            CodeMismatchError: a code does not have the gallery's bits.
            DataError: an id comes twice, or the engine cannot hold an item.
            RemoteError: the engine is down.
        """
        removed = [key_of(name) for name in dict.fromkeys(changes.remove)]
        with self.engine.exclusive(self.target.name):
            entry = read_entry(self.engine, self.target)
            rows = [row_of(item, entry.last_row + place) for place, item in enumerate(changes.add, 1)]
            _check_rows(rows, entry.bits)
            there = {row.key for row in self._by(entry, [*removed, *(row.key for row in rows)])}
            gone = [key for key in removed if key in there]
            replaced = [row.key for row in rows if row.key in there and row.key not in set(gone)]
            if gone:
                self.engine.remove(entry.collection, gone)
            if rows:
                self.engine.put(entry.collection, rows)
            live = entry.live - len(gone) + len(rows) - len(replaced)
            entry = replace(
                entry,
                generation=entry.generation + 1,
                last_row=entry.last_row + len(rows),
                live=live,
                checksum="",
            )
            self.engine.set_entry(self.target.name, entry.text())
        self.entry = entry
        return Applied(len(rows) - len(replaced), len(replaced), len(gone))

    def info(self) -> dict[str, Any]:
        """What the gallery is, as JSON values; all items are read."""
        labels, unique = Counter[str](), set[bytes]()
        for stored in self:
            labels.update(stored.item.labels)
            unique.add(stored.item.code)
        return {
            "kind": "gallery",
            "version": self.entry.format,
            "path": str(self.target),
            "items": len(self),
            "bits": self.bits,
            "model": self.model_id,
            "unique_codes": len(unique),
            "labels": dict(sorted(labels.items())),
            "skipped": 0,
            "root": self.root,
            "created_by": self.created_by,
            "generation": self.generation,
        }

    def _by(self, entry: Entry, keys: Sequence[str]) -> Iterator[Row]:
        for start in range(0, len(keys), _AT_ONCE):
            yield from self.engine.named(entry.collection, keys[start : start + _AT_ONCE])

    def _passing(self, where: Filter, after: int) -> Iterator[Stored]:
        want = wanted(where)
        for page in self.engine.read(self.entry.collection, want, after=after, last=self.entry.last_row):
            stored = (self.stored(row) for row in page)
            yield from (one for one in stored if want.complete or passes(where, one.item))

    def _near(self, code: bytes, k: int | None, radius: int | None, engine: str, where: Filter) -> list[Near]:
        want = wanted(where)
        if not want.complete:
            return self._answer(lambda: self._near_here(code, k, radius, where))
        if engine != "exact" and engine not in ENGINES:
            found = self._answer(
                lambda: self.engine.approximate(self.entry.collection, code, k or 1000, want, engine)
            )
            if found is None:
                raise ConfigError(
                    f"{self.target} has no index {engine!r}: leave --engine out for exact answers"
                )
            return [near for near in found if radius is None or near[0] <= radius]
        if radius is None:
            assert k is not None, "one of both is there"
            return self._answer(lambda: self.engine.nearest(self.entry.collection, code, k, want))
        if k is None:
            return self._answer(lambda: self.engine.within(self.entry.collection, code, radius, want))
        found = self._answer(lambda: self.engine.nearest(self.entry.collection, code, k, want))
        return [near for near in found if near[0] <= radius]

    def _near_here(self, code: bytes, k: int | None, radius: int | None, where: Filter) -> list[Near]:
        """Answers out of the rows that pass a filter, which the engine cannot state."""
        rows, codes = self._subset(where)
        if not rows:
            return []
        index, query = make_index("exact", codes, self.bits), np.frombuffer(code, np.uint8)[None]
        if radius is None:
            assert k is not None, "one of both is there"
            distances, found = (part[0] for part in index.search(query, k))
        else:
            _, distances, found = index.search_radius(query, radius, k=k)
        numbers = [rows[place] for place in found.tolist()]
        by_number = dict[int, Row]()
        for start in range(0, len(numbers), _AT_ONCE):
            part = self.engine.numbered(self.entry.collection, numbers[start : start + _AT_ONCE])
            by_number.update((row.row, row) for row in part)
        near = zip(distances.tolist(), numbers, strict=True)
        return in_order([(distance, by_number[row]) for distance, row in near if row in by_number])

    def _subset(self, where: Filter) -> _Subset:
        key = (self.entry.collection, self.entry.generation, where)
        if key not in self._subsets:
            passing = list(self._passing(where, 0))
            codes = np.frombuffer(b"".join(one.item.code for one in passing), np.uint8)
            while len(self._subsets) >= _KEPT_SUBSETS:
                self._subsets.pop(next(iter(self._subsets)), None)
            self._subsets[key] = _Subset([one.row for one in passing], codes.reshape(-1, width(self.bits)))
        return self._subsets[key]

    def _hits(self, found: Iterable[Near], *, first: int = 1) -> list[Hit]:
        ranked = (
            (rank, distance, self.stored(row).item) for rank, (distance, row) in enumerate(found, first)
        )
        return [
            Hit(rank, item.id, distance, item.labels, item.metadata, item.code)
            for rank, distance, item in ranked
        ]

    def stored(self, row: Row) -> Stored:
        """The item of a row, once its crc is found right."""
        return stored_of(row, self.target)

    def _answer(self, ask: Callable[[], T]) -> T:
        """An answer; where another push has taken the collection's place meanwhile, one from the new one."""
        for left in reversed(range(_TRIES)):
            try:
                return ask()
            except ConnectionError:
                if not left or not self.refresh():
                    raise
        raise AssertionError("the last try returns or raises")


def read_entry(engine: Engine, target: Target) -> Entry:
    """The catalogue's entry of a gallery.

    Raises:
        ModelError: there is no such gallery, or a newer anglehash wrote it.
    """
    text = engine.entry(target.name)
    if text is None:
        raise ModelError(f"there is no gallery {target}: make it with anglehash push GALLERY TARGET")
    return Entry.parse(text, target)


def _check_rows(rows: Sequence[Row], bits: int) -> None:
    size = width(bits)
    if any(len(row.code) != size for row in rows):
        raise CodeMismatchError(f"{bits}-bit codes have {size} bytes each")
    check_codes(np.frombuffer(b"".join(row.code for row in rows), np.uint8).reshape(-1, size), bits)
    twice = [key for key, count in Counter(row.key for row in rows).items() if count > 1]
    if twice:
        raise DataError(f"ids are unique in a gallery, but {twice[0]!r} comes twice")
