"""A remote gallery: what a local one offers, answered by an engine out of what it holds now."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np

from anglehash.codes import Codes, width
from anglehash.data.image_hash import Picture
from anglehash.encode.unknown_level import Level
from anglehash.errors import ConfigError, DataError
from anglehash.gallery.filters import Filter
from anglehash.gallery.interface import AnyGallery
from anglehash.gallery.query import (
    Ask,
    Asked,
    Hits,
    Page,
    Queries,
    asked_of,
    check_counts,
    check_one,
    window,
)
from anglehash.gallery.store.items import Item, Seen, Stored
from anglehash.gallery.store.sources import Source
from anglehash.gallery.store.writer import Applied, Changes
from anglehash.gallery.target import Target
from anglehash.gallery.unknown import set_unknown
from anglehash.index import check_k, check_radius
from anglehash.manifest import NAME as MANIFEST
from anglehash.remote.backend import Backend, Entry
from anglehash.remote.models import fetched
from anglehash.remote.rows import key_of
from anglehash.remote.search import Search
from anglehash.remote.snapshot import RemoteView
from anglehash.remote.writer import RemoteWriter


class RemoteGallery(AnyGallery):
    """A gallery that an engine keeps; see :class:`anglehash.gallery.gallery.Gallery` for what it offers.

    Attributes:
        target: where it is.
        path: the target without its secrets, for messages.
        view: its rows, as the engine holds them.
    """

    def __init__(self, view: RemoteView) -> None:
        self.view, self.target, self.path = view, view.target, Path(str(view.target))

    @classmethod
    def open(cls, target: str | Target) -> Self:
        """Open a gallery.

        Raises:
            ModelError: there is none of this name, or a newer anglehash wrote it.
            RemoteError: the engine is down.
        """
        return cls(RemoteView.open(Target.parse(target) if isinstance(target, str) else target))

    @classmethod
    def create(cls, target: str | Target, *, bits: int, model_id: str, root: str = "") -> Self:
        """A new, empty gallery.

        Raises:
            ModelError: there is one of this name.
            RemoteError: the engine is down.
        """
        place = Target.parse(target) if isinstance(target, str) else target
        return cls(RemoteView.create(place, bits=bits, model_id=model_id, root=root))

    @property
    def engine(self) -> Backend:
        """Who keeps it."""
        return self.view.engine

    @property
    def entry(self) -> Entry:
        """What the catalogue said of it when it was opened, refreshed or changed."""
        return self.view.entry

    def refresh(self) -> bool:
        """Go on to the newest generation; whether there was a newer one."""
        newer = self.view.refresh()
        if newer:
            self.__dict__.pop("level", None)
        return newer

    def close(self) -> None:
        """Let go of the connection."""
        self.engine.close()

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

    @cached_property
    def level(self) -> Level | None:
        """The level of the gallery's model; see :attr:`anglehash.gallery.gallery.Gallery.level`."""
        return Level.of_model(self.engine.file(self.model_id, MANIFEST) or b"", self.model_id)

    def item(self, name: str) -> Stored:
        """The item of this id.

        Raises:
            DataError: there is none.
        """
        found = self.view.answer(lambda: list(self.view.named([key_of(name)])))
        if not found:
            raise DataError(f"no item {name!r} in {self.target}: see anglehash list")
        return self.view.stored(found[0])

    def listed(
        self, where: Filter | None = None, *, limit: int | None = None, after_row: int = 0
    ) -> tuple[list[Item], int | None]:
        """Items in the gallery's order; see :meth:`anglehash.gallery.gallery.Gallery.listed`."""
        kept = list[Stored]()
        for stored in self.view.matching(where or Filter(), after_row):
            if limit is not None and len(kept) == limit:
                return [one.item for one in kept], kept[-1].row
            kept.append(stored)
        return [one.item for one in kept], None

    def search(
        self,
        queries: Queries,
        k: int | None = None,
        *,
        radius: int | None = None,
        engine: str = "exact",
        where: Filter | None = None,
        asymmetric: bool = False,
        pictures: Sequence[Picture] = (),
        without: Sequence[str | None] = (),
    ) -> list[Hits]:
        """The best answers to every query: its own picture, then in (distance, order of adding).

        Equally distant items are not ordered by likeness, and not counted: an engine compares codes alone.
        Otherwise as :meth:`anglehash.gallery.gallery.Gallery.search`.

        Args:
            queries: ``(q, ceil(bits / 8))`` packed codes, or ``(q, bits)`` float logits, of which the codes are used.
            k: maximum number of answers to each query; without it, all within ``radius``.
            radius: maximum distance, in bits.
            engine: ``exact``, or an approximate index of the engine. A local engine's name means ``exact``,
                since those are exact too.
            where: look only at items that pass this filter.
            asymmetric: refused.
            pictures: the image of each query.
            without: for each query the id of an item to leave out, or ``None``.

        Raises:
            ConfigError: neither ``k`` nor ``radius`` is given, one is out of range, no such index, or the
                search is asymmetric.
            CodeMismatchError: the queries are not ``bits`` long.
            ModelError: an item that would have been answered is damaged.
            RemoteError: the engine is down.
        """
        if k is None and radius is None:
            raise ConfigError("give k, radius, or both: how many neighbours, and how far away at most")
        k, radius = None if k is None else check_k(k), self._radius(radius)
        ask = Ask(k, radius, engine, where or Filter(), asymmetric, pictures, without, self.level)
        codes = self._asked(queries, ask).codes
        searches = [Search(self.view, code.tobytes(), ask, place) for place, code in enumerate(codes)]
        found = [search.hits(k) for search in searches]
        set_unknown(found, codes, ask, lambda doubtful: [searches[place].nearest() for place in doubtful])
        return found

    def _radius(self, radius: int | None) -> int | None:
        return None if radius is None else check_radius(radius, self.bits)

    def _asked(self, queries: Queries, ask: Ask) -> Asked:
        """Checked queries.

        Raises:
            ConfigError: the search is asymmetric.
            CodeMismatchError: they are not ``bits`` long.
        """
        if ask.asymmetric:
            raise ConfigError(
                f"{self.target} is kept by an engine, which compares codes alone: leave out asymmetric, "
                "or pull the gallery into a folder"
            )
        asked = asked_of(queries, self.bits)._replace(weights=None)
        check_counts(len(asked.codes), ask)
        return asked

    def page(
        self,
        query: Queries,
        size: int,
        *,
        cursor: str | None = None,
        radius: int | None = None,
        engine: str = "exact",
        where: Filter | None = None,
        asymmetric: bool = False,
        picture: Picture | None = None,
        without: str | None = None,
    ) -> Page:
        """Some answers to one query, and a cursor to go on from.

        Raises:
            ConfigError: the cursor is of another search, or none.
        """
        size, radius, where = check_k(size), self._radius(radius), where or Filter()
        pictures, left_out = [picture] if picture else [], [without] if without is not None else []
        ask = Ask(size, radius, engine, where, asymmetric, pictures, left_out, self.level)
        asked = check_one(self._asked(query, ask))
        search = Search(self.view, asked.codes.tobytes(), ask, 0)
        shown = window(search.find, size, ask.key(asked, self.model_id), cursor)
        hits = search.hits_of(shown.found, first=shown.first)
        set_unknown([hits], asked.codes, ask, lambda _: [search.nearest()])
        return Page(hits, shown.cursor)

    def change(self, changes: Changes) -> Applied:
        """Add, replace and remove items; see :meth:`~anglehash.remote.writer.RemoteWriter.commit`."""
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


@contextmanager
def writing(target: Target) -> Iterator[RemoteWriter]:
    """Write to a remote gallery.

    Raises:
        ModelError: there is none.
        RemoteError: the database is down.
    """
    with closing(RemoteWriter(RemoteView.open(target))) as writer:
        writer.mend()
        yield writer
