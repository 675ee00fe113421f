"""A gallery as a folder on disk, opened for reading.

:mod:`anglehash.gallery.store` says what is on disk and what is promised of it. A gallery takes codes and the
identity of the model that made them; of images and models it knows nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from itertools import chain
from os import PathLike
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np

from anglehash.codes import Codes, check_bits, check_codes
from anglehash.data.image_hash import Picture
from anglehash.encode.unknown_level import Level
from anglehash.errors import DataError, ModelError
from anglehash.files import new_folder
from anglehash.gallery import unknown
from anglehash.gallery.filters import Filter
from anglehash.gallery.interface import AnyGallery
from anglehash.gallery.query import Ask, Hits, Page, Queries
from anglehash.gallery.snapshot import View
from anglehash.gallery.store.database import State
from anglehash.gallery.store.items import Item, Seen, Stored
from anglehash.gallery.store.layout import KIND, VERSION, Store, library
from anglehash.gallery.store.opening import attach, make_store
from anglehash.gallery.store.reader import PurgedError, load
from anglehash.gallery.store.writer import Changes
from anglehash.index import DEFAULT, check_k
from anglehash.manifest import is_a

T = TypeVar("T")

_TRIES = 10


class FolderGallery(AnyGallery):
    """An opened gallery: one generation of it, until :meth:`refresh`.

    :meth:`create` makes one, :meth:`open` opens one that is there;
    :func:`anglehash.gallery.store.opening.open_writer` changes one.

    Attributes:
        path: its folder.
    """

    def __init__(self, path: Path, view: View) -> None:
        self.path = path
        self._view = view

    @classmethod
    def create(
        cls,
        path: str | PathLike[str],
        *,
        codes: Codes,
        ids: Sequence[str],
        labels: Sequence[Sequence[str]],
        bits: int,
        model_id: str,
        problems: Sequence[tuple[str, str, str]] = (),
        root: str = "",
        model: Path | None = None,
        force: bool = False,
    ) -> Self:
        """Write a gallery, whole or not at all, and open it.

        Args:
            path: the new folder.
            codes: ``(n, ceil(bits / 8))`` packed codes.
            ids: ``n`` unique ids.
            labels: the labels of each item, possibly none.
            bits: length of a code.
            model_id: the identity of the model that made the codes.
            problems: ``(id, reason, detail)`` of each image that gave no code.
            root: the folder that the ids are relative to.
            model: a folder to copy into the gallery, so that it can be moved and searched on its own.
            force: replace what is there, if it has a manifest: a folder of photos is never replaced.

        Raises:
            CodeMismatchError: the codes are not ``bits`` long.
            DataError: the numbers of codes, ids and labels differ, or an id comes twice.
            OutputExistsError: there is something at ``path``.
        """
        codes = check_codes(codes, check_bits(bits))
        _check_items(codes, ids, labels)
        path = Path(path)
        with new_folder(path, force=force, ours=is_a(KIND)) as folder:
            store = Store(folder / "1")
            make_store(store, State(bits=bits, model=model_id, root=root, created_by=library()), model)
            with attach(store) as writer:
                seen = [Seen(name, reason, detail) for name, reason, detail in problems]
                writer.commit(Changes(seen=seen))
                rows = zip(ids, codes, labels, strict=True)
                writer.commit_all(Item(name, code.tobytes(), tuple(own)) for name, code, own in rows)
                writer.publish(folder)
        return cls.open(path)

    @classmethod
    def open(cls, path: str | PathLike[str]) -> Self:
        """Open a gallery.

        Segments are compared with their sha256, and so is a database of up to 64 MiB; of a larger one every row
        is checked when it is served. A damaged segment is replaced, in memory, by what the truth has.

        Raises:
            ModelError: not a gallery, one of another format, or damaged; the message names the file.
        """
        path = Path(path)
        return cls(path, View(load(path)))

    def refresh(self) -> bool:
        """Go on to the newest generation; whether there was a newer one.

        Raises:
            ModelError: the gallery is damaged; the generation that was open stays open.
        """
        found = self._view.newer(self.path)
        if found is None:
            return False
        self._view = found
        self.__dict__.pop("level", None)
        return True

    def close(self) -> None:
        """Let go of its files. A gallery that is no longer referred to does so by itself."""
        self._view.close()

    def __len__(self) -> int:
        return len(self._view.rows)

    def __iter__(self) -> Iterator[Stored]:
        """All items, in the gallery's order.

        Raises:
            ModelError: writers removed items for good meanwhile, after some were given: begin again.
        """
        pages = self._answer(lambda view: _begun(view.snapshot.everything()))
        try:
            for page in pages:
                yield from page
        except PurgedError as error:
            raise ModelError(
                f"{self.path} was changed while all of it was looked at: refresh it, and begin again"
            ) from error

    @property
    def bits(self) -> int:
        """Length of a code."""
        return self._view.snapshot.state.bits

    @property
    def model_id(self) -> str:
        """The identity of the model that made the codes."""
        return self._view.snapshot.state.model

    @property
    def generation(self) -> int:
        """How many commits there were."""
        return self._view.snapshot.state.generation

    @property
    def root(self) -> str:
        """The folder that the ids are relative to, as it was named; empty where there is none."""
        return self._view.snapshot.state.root

    @property
    def created_by(self) -> str:
        """The library, with its version, that made the gallery."""
        return self._view.snapshot.state.created_by

    @property
    def codes(self) -> Codes:
        """``(n, ceil(bits / 8))`` packed codes, in the gallery's order: that in which items were added."""
        return self._view.codes

    @property
    def files(self) -> list[Seen]:
        """Every file that was seen, by id, as of now."""
        return self._view.files()

    @property
    def problems(self) -> tuple[tuple[str, str, str], ...]:
        """``(id, reason, detail)`` of each image that gave no code, by id, as of now."""
        return tuple((seen.id, seen.reason, seen.detail) for seen in self.files if seen.reason)

    @property
    def model_folder(self) -> Path:
        """Where the copy of the model is, if the gallery has one."""
        return self._view.snapshot.store.model

    @cached_property
    def level(self) -> Level | None:
        """How far away the nearest item of a query may be that is not ``unknown``: what the gallery's model states.

        ``None`` where the gallery has no copy of its model, or the model no level; another may be put in its place
        (that of the model, :attr:`anglehash.models.model.Model.level`).
        """
        return self._view.level

    def item(self, name: str) -> Stored:
        """The item of this id.

        Raises:
            DataError: there is none.
        """
        return self._answer(lambda view: view.named(name)[1])

    def listed(
        self, where: Filter | None = None, *, limit: int | None = None, after_row: int = 0
    ) -> tuple[list[Item], int | None]:
        """Items in the gallery's order.

        Args:
            where: only those that pass this filter.
            limit: Maximum number.
            after_row: what an earlier call gave, to go on after its last item.

        Returns:
            The items, and what to give as ``after_row`` for the next ones; ``None`` after the last.
        """
        return self._answer(lambda view: view.listed(where or Filter(), limit, after_row))

    def search(
        self,
        queries: Queries,
        k: int | None = None,
        *,
        radius: int | None = None,
        engine: str = DEFAULT,
        where: Filter | None = None,
        asymmetric: bool = False,
        pictures: Sequence[Picture] = (),
        without: Sequence[str | None] = (),
    ) -> list[Hits]:
        """The best answers to every query: the nearest items, in the order of :mod:`anglehash.gallery.ranking`.

        That is: the query's own picture; then by distance; equally distant items by the distance to the query's
        logits, where logits are given; then those that were added first.

        Args:
            queries: ``(q, ceil(bits / 8))`` packed codes, or ``(q, bits)`` float logits
                (:meth:`anglehash.Hasher.logits`). Bits as floats of 0 and 1 are not logits: a 0 weighs nothing.
            k: maximum number of answers to each query; without it, all within ``radius``.
            radius: maximum distance, in bits.
            engine: a name out of :data:`anglehash.index.ENGINES`.
            where: look only at items that pass this filter.
            asymmetric: the distance is that to the logits (:mod:`anglehash.asymmetric`): a bit that differs counts as
                much as the query is sure of it. All codes are scanned, whatever the engine.
            pictures: the image of each query (:func:`anglehash.data.image_hash.picture_of`): an item with the same
                bytes or pixels comes first. A gallery that was made from codes knows neither.
            without: for each query the id of an item to leave out, or ``None``.

        Returns:
            A list of hits for each query, with the number of items that are as far away as the last, and whether the
            query is unknown: nothing in the gallery, filtered or not, is within :attr:`level`.

        Raises:
            ConfigError: neither ``k`` nor ``radius`` is given, one is out of range, the engine is unknown, or an
                asymmetric search is given codes.
            CodeMismatchError: the queries are not ``bits`` long.
            DataError: logits are not finite, there are more or fewer pictures than queries, or no item of an id.
            ModelError: an item that would have been answered is damaged.
        """
        ask = Ask(k, radius, engine, where or Filter(), asymmetric, pictures, without, self.level)
        return self._answer(lambda view: unknown.search(view, queries, ask))

    def page(
        self,
        query: Queries,
        size: int,
        *,
        cursor: str | None = None,
        radius: int | None = None,
        engine: str = DEFAULT,
        where: Filter | None = None,
        asymmetric: bool = False,
        picture: Picture | None = None,
        without: str | None = None,
    ) -> Page:
        """Some answers to one query, and a cursor to go on from; otherwise as :meth:`search`.

        Raises:
            ConfigError: the cursor is of another search, or none.
        """
        pictures, left_out = [picture] if picture else [], [without] if without is not None else []
        ask = Ask(
            check_k(size), radius, engine, where or Filter(), asymmetric, pictures, left_out, self.level
        )
        return self._answer(lambda view: unknown.page(view, query, ask, cursor))

    def _answer(self, ask: Callable[[View], T]) -> T:
        """An answer from one whole generation: a newer one where this has lost an item for good."""
        for _ in range(_TRIES):
            view = self._view
            try:
                return ask(view)
            except (PurgedError, ModelError) as error:
                if isinstance(error, ModelError) and not view.is_replaced():
                    raise
                if not self.refresh() and self._view is view:  # else another thread has refreshed it
                    raise ModelError(str(error)) from error
        raise ModelError(f"{self.path} changes faster than it can be searched: try again")

    def info(self) -> dict[str, Any]:
        """What the gallery is, as JSON values."""
        return {
            "kind": KIND,
            "version": VERSION,
            "path": str(self.path),
            "items": len(self),
            "bits": self.bits,
            "model": self.model_id,
            "unique_codes": len(np.unique(self.codes, axis=0)),
            "labels": dict(sorted(Counter(label for own in self.labels for label in own).items())),
            "skipped": len(self.problems),
            "root": self.root,
            "created_by": self.created_by,
            "generation": self.generation,
        }


def _begun(pages: Iterator[T]) -> Iterator[T]:
    """The same, with the first one taken already."""
    return chain([first], pages) if (first := next(pages, None)) is not None else pages


def _check_items(codes: Codes, ids: Sequence[str], labels: Sequence[Sequence[str]]) -> None:
    if not len(codes) == len(ids) == len(labels):
        raise DataError(f"{len(codes)} codes need as many ids and labels, got {len(ids)} and {len(labels)}")
    if any(isinstance(own, str) for own in labels):
        raise DataError(
            "labels are a list for each item, such as [['cat'], ['dog', 'grass']], not one text each"
        )
    if len(set(ids)) < len(ids):
        twice = Counter(ids).most_common(1)[0][0]
        raise DataError(f"ids are unique in a gallery, but {twice!r} comes twice")
