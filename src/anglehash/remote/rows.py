"""Rows: an item in a form that any engine can hold, and back, byte for byte.

Engines take UTF-8 text without NUL, while a file name is any bytes and a label any text. So a row's ``key`` is the
id with what is not UTF-8 put into a private range; labels and metadata travel as ASCII JSON in ``doc``; and ``tags``,
which engines search, are percent-encoded, so that nothing in them means anything to an engine's language.
"""

from __future__ import annotations

import json
import re
import zlib
from base64 import b64decode, b64encode
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple
from urllib.parse import quote

from anglehash.data.image_hash import Picture
from anglehash.errors import DataError, ModelError
from anglehash.files import sha256_json
from anglehash.gallery.store.items import Item, Stored, metadata_text, name_bytes, name_text

_PRIVATE = 0x10FF00  # NUL, and the bytes 0x80..0xFF that a file name may hold outside UTF-8
_TO_KEY = {0: _PRIVATE} | {0xDC00 + byte: _PRIVATE + byte for byte in range(0x80, 0x100)}
_TO_NAME = {private: char for char, private in _TO_KEY.items()}
_TAKEN = re.compile(f"[{''.join(map(chr, _TO_NAME))}]")

LONGEST_KEY = 4096
"""Bytes of a key: as long as a path may be on Linux."""

LONGEST_TAG = 512
"""Characters of a tag; a longer one is cut and ends in a hash."""

MOST_TAGS = 1024
"""Tags of an item."""

LONGEST_DOC = 65_535
"""Bytes of an item's labels and metadata as ASCII JSON: Milvus' longest text."""


class Row(NamedTuple):
    """One item as an engine holds it.

    Attributes:
        row: its number; equally distant items come in this order.
        key: its id as text.
        code: the packed code.
        date: when its file was changed last, in nanoseconds since 1970; 0 where that is not known.
        tags: what it can be found by: labels, metadata, and the keys of its picture.
        doc: everything else of the item, as ASCII JSON.
        crc: crc32 over all of this but the tags, which follow from the rest.
    """

    row: int
    key: str
    code: bytes
    date: int
    tags: tuple[str, ...]
    doc: str
    crc: int


def key_of(name: str) -> str:
    r"""An id as text that is UTF-8 and holds no NUL.

    >>> key_of("caf\udce9.jpg") == "caf" + chr(0x10FFE9) + ".jpg"
    True

    Raises:
        DataError: it cannot be kept by an engine: too long, or with characters that stand for other bytes.
    """
    name_bytes(name)  # refuses half of a surrogate pair
    if _TAKEN.search(name):
        raise DataError(f"{name!r} cannot be kept by an engine: it holds a character above U+10FF00")
    key = name.translate(_TO_KEY)
    if len(key.encode()) > LONGEST_KEY:
        raise DataError(
            f"an id in an engine is at most {LONGEST_KEY} bytes long, {name[:40]!r}... is {len(key.encode())}"
        )
    return key


def label_tag(label: str) -> str:
    """The tag of a label.

    >>> label_tag("grey cat")
    'label=grey%20cat'
    """
    return _cut("label=" + quote(label, safe="", errors="surrogatepass"))


def value_tag(column: str, value: Any) -> str | None:
    """The tag of a value in a column of metadata: equal tags, equal values; ``None`` for NaN, which equals nothing.

    >>> value_tag("iso", "400") == value_tag("iso", 400.0), value_tag("iso", "400")
    (True, 'value/iso=400.0')
    """
    text = "" if value is None else str(value)
    with suppress(ValueError):
        number = float(text)
        if number != number:
            return None
        text = repr(number + 0.0)  # -0.0 and 0.0 are equal
    column, text = (quote(part, safe="", errors="surrogatepass") for part in (column, text))
    return _cut(f"value/{column}={text}")


def picture_tags(picture: Picture) -> tuple[str, ...]:
    """The tags of a picture: items that share one of them have equal bytes, or equal pixels.

    >>> picture_tags(Picture(b"", bytes(2)))
    ('pixels=0000',)
    """
    return tuple(f"{name}={key.hex()}" for name, key in zip(("bytes", "pixels"), picture, strict=True) if key)


def _cut(tag: str) -> str:
    if len(tag) <= LONGEST_TAG:
        return tag
    return f"{tag[: LONGEST_TAG - 65]}~{sha256_json(tag)}"


def tags_of(item: Item) -> tuple[str, ...]:
    """All tags of an item.

    Raises:
        DataError: they are too many.
    """
    values = (
        value_tag(column, value)
        for column, cell in item.metadata.items()
        for value in (cell if isinstance(cell, list | tuple) else [cell])
    )
    tags = {*map(label_tag, item.labels), *(tag for tag in values if tag)}
    tags |= set(picture_tags(Picture(item.content, item.pixels)))
    if len(tags) > MOST_TAGS:
        raise DataError(
            f"{item.id!r} has {len(tags)} labels and metadata values; an engine takes {MOST_TAGS}"
        )
    return tuple(sorted(tags))


def row_of(item: Item, row: int) -> Row:
    """An item as a row.

    Raises:
        DataError: an engine cannot hold it.
    """
    facts: dict[str, Any] = {
        "labels": list(item.labels),
        "metadata": json.loads(metadata_text(item.metadata)),
    }
    if item.content:
        facts["content"] = item.content.hex()
    if item.pixels:
        facts["pixels"] = item.pixels.hex()
    if item.signature:
        facts["signature"] = b64encode(item.signature).decode()
    if item.source:
        facts["source"] = item.source
    doc = json.dumps(facts, separators=(",", ":"), sort_keys=True)
    if len(doc) > LONGEST_DOC:
        raise DataError(
            f"labels and metadata of {item.id!r} are {len(doc)} bytes as JSON; an engine takes {LONGEST_DOC}"
        )
    key = key_of(item.id)
    return Row(
        row, key, item.code, item.date, tags_of(item), doc, crc_of(row, key, item.code, item.date, doc)
    )


def crc_of(row: int, key: str, code: bytes, date: int, doc: str) -> int:
    """The crc32 of a row: it covers every field but the tags, and where one ends and the next begins."""
    head = f"{row} {date} {len(code)} {len(key)} ".encode()
    return zlib.crc32(b"".join((head, code, key.encode(), doc.encode())))


def stored_of(row: Row, where: object) -> Stored:
    """The item of a row, once its crc is found right.

    Raises:
        ModelError: the row is not what was written.
    """
    try:
        if row.crc != crc_of(row.row, row.key, row.code, row.date, row.doc):
            raise ValueError
        facts = json.loads(row.doc)
        content, pixels = (bytes.fromhex(facts.get(key, "")) for key in ("content", "pixels"))
        signature = b64decode(facts.get("signature", ""), validate=True)
        name = name_text(name_bytes(row.key.translate(_TO_NAME)))
        said, source = (tuple(facts["labels"]), facts["metadata"]), facts.get("source", 0)
        item = Item(name, row.code, *said, content, row.date, source, pixels, signature)
    except (ValueError, TypeError, KeyError, AttributeError):
        raise ModelError(
            f"{where} is damaged: row {row.row} does not match its crc. Push the gallery again"
        ) from None
    return Stored(row.row, 0, item)


def checksum(rows: Iterable[tuple[int, int]]) -> tuple[int, str]:
    """Count and checksum of (row, crc) pairs, whatever their order: what two galleries of equal content share."""
    import hashlib

    count, total = 0, 0
    for row, crc in rows:
        digest = hashlib.blake2b(f"{row} {crc}".encode(), digest_size=16).digest()
        total = (total + int.from_bytes(digest, "big")) % (1 << 128)
        count += 1
    return count, f"{total:032x}"


def in_order(found: Sequence[tuple[int, Row]]) -> list[tuple[int, Row]]:
    """(distance, row) pairs in the order of answers."""
    return sorted(found, key=lambda near: (near[0], near[1].row))
