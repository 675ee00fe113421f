"""A remote gallery: what a local one offers, answered by an engine out of what it holds now."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from anglehash.codes import Codes, check_codes, width
from anglehash.errors import CodeMismatchError, ConfigError, DataError, ModelError
from anglehash.search.answers import Found, Hit, Page, Queries, others, window
from anglehash.search.engines import check_k, check_radius
from anglehash.search.filters import Filter
from anglehash.search.paging import search_key
from anglehash.search.remote.engine import Engine, Entry, Near
from anglehash.search.remote.models import fetched
from anglehash.search.remote.rows import key_of
from anglehash.search.remote.target import Target
from anglehash.search.remote.view import View
from anglehash.search.remote.writing import RemoteWriter
from anglehash.search.store.items import Item, Seen, Stored
from anglehash.search.store.sources import Source
from anglehash.search.store.writer import Applied, Changes


class RemoteGallery:
    """A gallery that an engine keeps; see :class:`anglehash.search.gallery.Gallery` for what it offers.

    Attributes:
        target: where it is.
        path: the target without its secrets, for messages.
        view: its rows, as the engine holds them.
    """

    def __init__(self, view: View) -> None:
        self.view, self.target, self.path = view, view.target, Path(str(view.target))

    @classmethod
    def open(cls, target: str | Target) -> Self:
        """Open a gallery.

        Raises:
            ModelError: there is none of this name, or a newer anglehash wrote it.
            RemoteError: the engine is down.
        """
        return cls(View.open(Target.parse(target) if isinstance(target, str) else target))

    @classmethod
    def create(cls, target: str | Target, *, bits: int, model_id: str, root: str = "") -> Self:
        """A new, empty gallery.

        Raises:
            ModelError: there is one of this name.
            RemoteError: the engine is down.
        """
        place = Target.parse(target) if isinstance(target, str) else target
        return cls(View.create(place, bits=bits, model_id=model_id, root=root))

    @property
    def engine(self) -> Engine:
        """Who keeps it."""
        return self.view.engine

    @property
    def entry(self) -> Entry:
        """What the catalogue said of it when it was opened, refreshed or changed."""
        return self.view.entry

    def refresh(self) -> bool:
        """Go on to the newest generation; whether there was a newer one."""
        return self.view.refresh()

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
        return (self.view.stored(row) for row in self.view.rows())

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
    def sources(self) -> dict[int, Source]:
        """Where the items come from, by the numbers that they hold; 0 is the root."""
        rooted = {0: Source(self.root)} if self.root else {}
        return rooted | dict(self.entry.sources)

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
        found = self.view.answer(lambda: list(self.view.named([key_of(name)])))
        if not found:
            raise DataError(f"there is no item {name!r} in {self.target}: see anglehash list")
        return self.view.stored(found[0])

    def listed(
        self, where: Filter | None = None, *, limit: int | None = None, after_row: int = 0
    ) -> tuple[list[Item], int | None]:
        """Items in the gallery's order; see :meth:`anglehash.search.gallery.Gallery.listed`."""
        kept = list[Stored]()
        for stored in self.view.passing(where or Filter(), after_row):
            if limit is not None and len(kept) == limit:
                return [one.item for one in kept], kept[-1].row
            kept.append(stored)
        return [one.item for one in kept], None

    def search(
        self,
        codes: Queries,
        k: int | None = None,
        *,
        radius: int | None = None,
        engine: str = "exact",
        where: Filter | None = None,
    ) -> list[list[Hit]]:
        """The nearest items of every query, as :meth:`anglehash.search.gallery.Gallery.search`.

        Args:
            codes: ``(q, ceil(bits / 8))`` packed codes of the queries; logits are refused.
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
            self._hits(self.view.near(code.tobytes(), k, radius, engine, where))
            for code in self._codes(codes)
        ]

    def _codes(self, queries: Queries) -> Codes:
        """Checked queries.

        Raises:
            CodeMismatchError: they are not ``bits`` long, or no codes.
        """
        given: NDArray[Any] = np.asarray(queries)
        if np.issubdtype(given.dtype, np.floating):
            raise CodeMismatchError(
                f"{self.target} is kept by an engine, which compares codes alone: pack the logits "
                "(anglehash.codes.pack), or pull the gallery into a folder"
            )
        return check_codes(given, self.bits)

    def page(
        self,
        code: Queries,
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
        query = self._codes(code)[0].tobytes()
        key = search_key(query.hex(), radius, where.facts(), self.model_id)
        near = dict[int, Near]()

        def find(k: int) -> Found:
            answers = self.view.near(query, k, radius, engine, where)
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

        Args:
            name: its id.
            k: at most so many answers.
            radius: none farther away than so many bits.
            engine: who searches.
            where: look only at items that pass.

        Raises:
            DataError: there is no item of this id.
        """
        code = np.frombuffer(self.item(name).item.code, np.uint8)[None]
        hits = self.search(code, check_k(k) + 1, radius=radius, engine=engine, where=where)[0]
        return others(hits, name, k)

    def change(self, changes: Changes) -> Applied:
        """Add, replace and remove items; see :meth:`~anglehash.search.remote.writing.RemoteWriter.commit`."""
        return RemoteWriter(self.view).commit(changes)

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

    def _hits(self, found: Iterable[Near], *, first: int = 1) -> list[Hit]:
        ranked = (
            (rank, distance, self.view.stored(row).item) for rank, (distance, row) in enumerate(found, first)
        )
        return [
            Hit(rank, item.id, distance, item.labels, item.metadata, item.code)
            for rank, distance, item in ranked
        ]
