"""What the service asks of a gallery, and the answers as JSON values.

:class:`Searchable` is all that a gallery has to offer to be served, whichever engine keeps it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from anglehash.codes import Codes, check_codes, pack, width
from anglehash.data.image_hash import Picture
from anglehash.errors import CodeMismatchError, ConfigError, DataError, ImageError
from anglehash.gallery.filters import Filter
from anglehash.gallery.query import Hit, Hits, Page, Queries
from anglehash.gallery.store.items import Item, Stored, name_bytes, name_text
from anglehash.index import DEFAULT
from anglehash.server.errors import RefusalError


class Searchable(Protocol):
    """What a gallery offers; :class:`~anglehash.gallery.gallery.Gallery` does."""

    path: Path

    @property
    def bits(self) -> int: ...  # noqa: D102
    @property
    def model_id(self) -> str: ...  # noqa: D102
    @property
    def generation(self) -> int: ...  # noqa: D102
    @property
    def codes(self) -> Codes: ...  # noqa: D102
    @property
    def root(self) -> str: ...  # noqa: D102
    @property
    def model_folder(self) -> Path: ...  # noqa: D102
    @property
    def problems(self) -> tuple[tuple[str, str, str], ...]: ...  # noqa: D102
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Stored]: ...
    def item(self, name: str) -> Stored: ...  # noqa: D102
    def listed(  # noqa: D102
        self, where: Filter | None = None, *, limit: int | None = None, after_row: int = 0
    ) -> tuple[list[Item], int | None]: ...
    def search(  # noqa: D102
        self,
        queries: Queries,
        k: int | None = None,
        *,
        radius: int | None = None,
        engine: str = DEFAULT,
        where: Filter | None = None,
        pictures: Sequence[Picture] = (),
        without: Sequence[str | None] = (),
    ) -> list[Hits]: ...
    def page(  # noqa: D102
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
    ) -> Page: ...
    def refresh(self) -> bool: ...  # noqa: D102


LIST, SEARCH = "l", "s"
"""The kinds of cursors, as they begin."""


class Image(NamedTuple):
    """What a search by an image knows beside its code, and what a cursor to its next answers holds.

    Attributes:
        logits: ``(1, bits)`` float32.
        picture: its keys.
        asymmetric: whether its logits are compared, and not its code.
    """

    logits: NDArray[np.float32]
    picture: Picture
    asymmetric: bool

    def __str__(self) -> str:
        parts = self.logits.astype("<f4").tobytes(), *self.picture
        return ".".join([*map(_base64, parts), "01"[self.asymmetric]])

    @classmethod
    def parse(cls, text: str) -> Self:
        """What :meth:`__str__` gave."""
        *parts, asymmetric = text.split(".")
        logits, content, pixels = map(_bytes, parts)
        own = np.frombuffer(logits, "<f4").astype(np.float32)[None]
        return cls(own, Picture(content, pixels), asymmetric == "1")


class Asked(NamedTuple):
    """A search, as a client asks for it.

    Attributes:
        code: ``(1, ceil(bits / 8))`` the query's.
        own: the item that it is the code of, which is left out; ``None`` for a code from elsewhere.
        k: maximum number of answers.
        radius: maximum distance, in bits.
        where: look only at items that pass.
        cursor: where an earlier answer ended.
        image: the image that it is the code of.
    """

    code: Codes
    own: Item | None
    k: int
    radius: int | None
    where: Filter
    cursor: str | None
    image: Image | None = None


class Collection:
    """A gallery, asked in JSON values. Several threads may ask at once.

    Args:
        gallery: it.
        engine: who searches.
        secret: signs cursors, so that no client makes up one that stands for endless work.
    """

    def __init__(self, gallery: Searchable, engine: str, secret: bytes) -> None:
        self.gallery = gallery
        self._engine = engine
        self._secret = secret

    def item(self, name: str) -> Stored:
        """An item by its id.

        Raises:
            RefusalError: 404.
        """
        try:
            return self.gallery.item(name)
        except DataError as error:
            if isinstance(error, ImageError):
                raise
            raise RefusalError(404, "no-item", "no such item") from None

    def code_of(self, text: str) -> Codes:
        """The code that a hexadecimal text is.

        Raises:
            CodeMismatchError: it has another length, or a bit is set past the last.
        """
        code = np.frombuffer(bytes.fromhex(text), np.uint8)[None]
        bits = self.gallery.bits
        if code.shape[1] != width(bits):
            raise CodeMismatchError(
                f"the gallery's codes have {bits} bits, {width(bits)} bytes; this one has {code.shape[1]}"
            )
        return check_codes(code, bits)

    def query(self, name: str | None, code: str | None) -> tuple[Codes, Item | None]:
        """The code of a query by id or by code, and the item that has it.

        Raises:
            RefusalError: no such item.
            CodeMismatchError: it is not a code of this gallery.
        """
        if name is None:
            assert code is not None, "a request has one of them"
            return self.code_of(code), None
        item = self.item(name).item
        return np.frombuffer(item.code, np.uint8)[None], item

    def search(self, asked: Asked) -> dict[str, Any]:
        """A page of answers."""
        hits, cursor = self._page(asked)
        query: dict[str, Any] = {"code": asked.code.tobytes().hex(), "bits": self.gallery.bits}
        if asked.own is not None:
            query["labels"] = list(asked.own.labels)
        return {
            "results": [self._result(hit) for hit in hits],
            "next_cursor": cursor,
            "tied_at_last": hits.tied_at_last,
            "unknown": hits.unknown,
            "model": self.gallery.model_id,
            "query": query,
        }

    def batch(
        self, queries: Sequence[tuple[Codes, Item | None]], k: int, radius: int | None, where: Filter
    ) -> dict[str, Any]:
        """The answers to several queries."""
        codes = np.concatenate([code for code, _ in queries])
        pictures = [_picture(own) or Picture() for _, own in queries]
        without = [own and own.id for _, own in queries]
        found = self.gallery.search(
            codes, k, radius=radius, engine=self._engine, where=where, pictures=pictures, without=without
        )
        return {
            "answers": [
                {
                    "results": [self._result(hit) for hit in hits],
                    "tied_at_last": hits.tied_at_last,
                    "unknown": hits.unknown,
                }
                for hits in found
            ]
        }

    def listed(self, where: Filter, k: int, cursor: str | None) -> dict[str, Any]:
        """Some items in the gallery's order."""
        after = int(self._verified(cursor, LIST)) if cursor else 0
        items, following = self.gallery.listed(where, limit=k, after_row=after)
        return {
            "results": [{"id": item.id, "labels": list(item.labels), **addresses(item.id)} for item in items],
            "next_cursor": None if following is None else self._signed(str(following), LIST),
        }

    def described(self, stored: Stored, size: int | None, there: bool) -> dict[str, Any]:
        """All that is known of an item; ``size`` is that of its image in bytes, ``None`` where it is missing."""
        item = stored.item
        date = datetime.fromtimestamp(item.date / 1e9, UTC).isoformat() if item.date else None
        return {
            "id": item.id,
            "labels": list(item.labels),
            "metadata": dict(item.metadata),
            "code": item.code.hex(),
            "bits": self.gallery.bits,
            "added": stored.born,
            "date": date,
            "size": size,
            "status": "ok" if there else "missing",
            **addresses(item.id),
        }

    def _page(self, asked: Asked) -> tuple[Hits, str | None]:
        """``asked.k`` answers without the item that is asked by, and the signed cursor after them."""
        cursor, image = None, asked.image
        if asked.cursor:
            cursor, _, rest = self._verified(asked.cursor, SEARCH).partition(".")
            image = Image.parse(rest) if rest else None
        query: Queries = asked.code
        if image is not None:
            if not np.array_equal(pack(image.logits), asked.code):
                raise ConfigError("this cursor belongs to another search: begin again without one")
            query = image.logits
        own = asked.own
        page = self.gallery.page(
            query, asked.k, cursor=cursor, radius=asked.radius, engine=self._engine, where=asked.where,
            asymmetric=image is not None and image.asymmetric,
            picture=image.picture if image else _picture(own), without=own and own.id,
        )  # fmt: skip
        if page.cursor is None:
            return page.hits, None
        return page.hits, self._signed(f"{page.cursor}.{image}" if image else page.cursor, SEARCH)

    def _result(self, hit: Hit) -> dict[str, Any]:
        return {
            "id": hit.id,
            "distance": hit.distance,
            "labels": list(hit.labels),
            "metadata": dict(hit.metadata),
            "code": hit.code.hex(),
            "same_picture": hit.same_picture,
            **addresses(hit.id),
        }

    def _signed(self, text: str, kind: str) -> str:
        text = f"{kind}.{text}"
        return f"{text}.{self._signature(text)}"

    def _verified(self, cursor: str, kind: str) -> str:
        """The text that was signed.

        Raises:
            ConfigError: not by us, or it is a cursor of another kind.
        """
        text, _, signature = cursor.rpartition(".")
        if not hmac.compare_digest(signature.encode(errors="replace"), self._signature(text).encode()):
            raise ConfigError("this cursor was not given by this service: begin again without one")
        given, _, text = text.partition(".")
        if given != kind:
            wanted = {LIST: "GET /v1/items", SEARCH: "a search"}
            raise ConfigError(
                f"a cursor of {wanted[kind]} is wanted here, and this is one of {wanted[given]}"
            )
        return text

    def _signature(self, text: str) -> str:
        return hmac.new(self._secret, text.encode(errors="replace"), hashlib.sha256).hexdigest()[:16]


def _picture(item: Item | None) -> Picture | None:
    return item and Picture(item.content, item.pixels)


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _bytes(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)


def addresses(name: str) -> dict[str, str]:
    """Where the service has an item, its thumbnail and its file: below its own address, wherever a proxy shows that."""
    place = f"v1/items/{quote(key_of(name))}"
    return {"item": place, "thumbnail": f"{place}/thumbnail", "original": f"{place}/original"}


def key_of(name: str) -> str:
    r"""An id as a part of an address, whatever bytes are in it.

    >>> key_of("../a b.jpg"), name_of(key_of("caf\udce9"))
    ('Li4vYSBiLmpwZw', 'caf\udce9')
    """
    return _base64(name_bytes(name))


def name_of(key: str) -> str:
    """The id that a part of an address stands for.

    Raises:
        RefusalError: 404, for none.
    """
    try:
        raw = _bytes(key)
    except (binascii.Error, ValueError):
        raise RefusalError(404, "no-item", "no such item") from None
    return name_text(raw)
