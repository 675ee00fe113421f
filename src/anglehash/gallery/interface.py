"""What every gallery offers, and who writes to one, wherever it is kept."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np

from anglehash.codes import Codes
from anglehash.data.image_hash import Picture
from anglehash.encode.unknown_level import Level
from anglehash.errors import ModelError
from anglehash.gallery.filters import Filter
from anglehash.gallery.query import Hits, Page, Queries
from anglehash.gallery.store.commits import Applied, Changes
from anglehash.gallery.store.items import Item, Seen, Stored
from anglehash.gallery.store.sources import Source
from anglehash.index import DEFAULT


class AnyGallery(ABC):
    """A searchable collection of codes with their ids, labels and metadata: a folder, or rows of a database.

    Attributes:
        path: its folder, or where its database is.
    """

    path: Path

    @property
    @abstractmethod
    def bits(self) -> int:
        """Length of a code."""

    @property
    @abstractmethod
    def model_id(self) -> str:
        """The identity of the model that made the codes."""

    @property
    @abstractmethod
    def generation(self) -> int:
        """Number of commits."""

    @property
    @abstractmethod
    def root(self) -> str:
        """The folder that the ids are relative to; empty where there is none."""

    @property
    @abstractmethod
    def created_by(self) -> str:
        """The library, with its version, that made the gallery."""

    @property
    @abstractmethod
    def codes(self) -> Codes:
        """``(n, ceil(bits / 8))`` packed codes, in the order in which items were added."""

    @property
    @abstractmethod
    def files(self) -> list[Seen]:
        """Every file that was seen, by id."""

    @property
    @abstractmethod
    def problems(self) -> tuple[tuple[str, str, str], ...]:
        """``(id, reason, detail)`` of each image that gave no code, by id."""

    @property
    @abstractmethod
    def model_folder(self) -> Path:
        """Folder of the copy of the model, if the gallery has one."""

    @cached_property
    @abstractmethod
    def level(self) -> Level | None:
        """The largest distance at which the nearest item still resembles a query; ``None`` where none is known."""

    @abstractmethod
    def refresh(self) -> bool:
        """Move to the newest generation; whether there was a newer one."""

    @abstractmethod
    def close(self) -> None:
        """Release files or the connection."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __iter__(self) -> Iterator[Stored]: ...

    @abstractmethod
    def item(self, name: str) -> Stored:
        """The item of this id."""

    @abstractmethod
    def listed(
        self, where: Filter | None = None, *, limit: int | None = None, after_row: int = 0
    ) -> tuple[list[Item], int | None]:
        """Items in the gallery's order, and where the next ones begin."""

    @abstractmethod
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
        """The best answers to every query."""

    @abstractmethod
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
        """Some answers to one query, and a cursor for the next ones."""

    @abstractmethod
    def info(self) -> dict[str, Any]:
        """What the gallery is, as JSON values."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def ids(self) -> tuple[str, ...]:
        """The id of each item."""
        return tuple(stored.item.id for stored in self)

    @property
    def labels(self) -> tuple[tuple[str, ...], ...]:
        """The labels of each item."""
        return tuple(stored.item.labels for stored in self)

    def require_model(self, model_id: str) -> None:
        """Refuse codes of another model: equal bits, but with other meanings.

        Raises:
            ModelError: the gallery's codes were made by another model.
        """
        if model_id != self.model_id:
            raise ModelError(
                f"{self.path} holds codes of the model {self.model_id}, but the query's model is {model_id}: "
                "search with the gallery's model, or encode it again: anglehash reindex --model"
            )

    def similar(
        self,
        name: str,
        k: int,
        *,
        radius: int | None = None,
        engine: str = DEFAULT,
        where: Filter | None = None,
    ) -> Hits:
        """More like an item of the gallery: the items nearest to it, itself left out.

        Args:
            name: its id.
            k: maximum number of answers.
            radius: maximum distance, in bits.
            engine: who searches.
            where: look only at items that pass.

        Raises:
            DataError: no item of this id.
        """
        own = self.item(name).item
        code, picture = np.frombuffer(own.code, np.uint8)[None], Picture(own.content, own.pixels)
        return self.search(
            code, k, radius=radius, engine=engine, where=where, pictures=[picture], without=[name]
        )[0]


class AnyWriter(Protocol):
    """Who changes a gallery; one at a time."""

    @property
    def model_id(self) -> str:
        """The identity of the model that made the gallery's codes."""

    @property
    def model_folder(self) -> Path:
        """Folder of a copy of the model."""

    def commit(self, changes: Changes) -> Applied:
        """Add, replace and remove items, and note files that were seen."""

    def add_source(self, source: Source) -> int:
        """The number of a source; a new one is noted."""

    def items(self, names: Sequence[str]) -> dict[str, Stored]:
        """The items of these ids, as far as they are there."""

    def item(self, name: str) -> Stored | None:
        """The item of this id, if it is there."""

    def seen(self, name: str) -> Seen | None:
        """What was noted of a file, if anything."""

    def ids(self) -> list[str]:
        """The ids of all items."""

    def files(self) -> list[str]:
        """The ids of all files that were seen."""
