"""Items as the truth keeps them: what a row holds, and the crc that guards it.

Text is kept as plain ASCII JSON and names as bytes, so that any file name and any label comes back as it was.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Any, NamedTuple

from anglehash.errors import DataError, ModelError

Metadata = Mapping[str, Any]
Record = tuple[Any, ...]

COLUMNS = "row, born, date, source, id, content, pixels, signature, labels, metadata, code, crc"
"""The columns of a :data:`Record`, in order."""


class Item(NamedTuple):
    """One item of a gallery, as it is given.

    Attributes:
        id: its unique id.
        code: the packed code.
        labels: its labels.
        metadata: further columns, JSON values by name.
        content: sha256 of the image file, or nothing where none is known.
        date: when the file was changed last, in nanoseconds since 1970; 0 where that is not known.
        source: number of the source that it came from; 0 for none.
        pixels: the key of its decoded pixels (:func:`anglehash.data.image_hash.key_of`), or nothing.
        signature: what near copies are found by (:mod:`anglehash.data.perceptual_hash`), or nothing.
    """

    id: str
    code: bytes
    labels: tuple[str, ...] = ()
    metadata: Metadata = MappingProxyType({})
    content: bytes = b""
    date: int = 0
    source: int = 0
    pixels: bytes = b""
    signature: bytes = b""


class Stored(NamedTuple):
    """An item with the number of its row and the generation in which it was born."""

    row: int
    born: int
    item: Item


class Seen(NamedTuple):
    """A file that was seen.

    Attributes:
        id: the id it has, or would have.
        reason: why it gave no code; empty where it gave one.
        detail: one line for a person.
        content: sha256 of its bytes; nothing where it could not be read.
        size: in bytes.
        date: when it was changed last, in nanoseconds since 1970.
    """

    id: str
    reason: str = ""
    detail: str = ""
    content: bytes = b""
    size: int = 0
    date: int = 0


def name_bytes(name: str) -> bytes:
    r"""A name as bytes: those of the file system where it came from there.

    >>> name_bytes("caf\udce9")
    b'caf\xe9'

    Raises:
        DataError: it holds half of a surrogate pair, which no file name has.
    """
    try:
        return name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise DataError(f"{name!r} is not an id: it holds half of a surrogate pair") from None


def name_text(name: bytes) -> str:
    """What :func:`name_bytes` was given."""
    return name.decode("utf-8", "surrogateescape")


@lru_cache(maxsize=4096)
def labels_text(labels: tuple[str, ...]) -> str:
    r"""Labels as one text: a line of JSON each, with a line end before and after it.

    A label is among them exactly where its own line is a part of the text, so SQL can look for it.

    >>> labels_text(("a", 'b"')), labels_text(())
    ('\n"a"\n"b\\""\n', '\n')
    """
    return "\n" + "".join(json.dumps(label) + "\n" for label in labels)


@lru_cache(maxsize=4096)
def labels_of(text: str) -> tuple[str, ...]:
    """What :func:`labels_text` was given."""
    return tuple(json.loads(line) for line in text.split("\n") if line)


def metadata_text(metadata: Metadata) -> str:
    """Metadata as canonical JSON.

    Raises:
        DataError: a value that JSON does not have.
    """
    if not metadata:
        return "{}"
    try:
        return json.dumps(dict(metadata), sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise DataError(f"metadata are texts, numbers and lists of them, got {metadata!r}: {error}") from None


def metadata_of(text: str) -> Metadata:
    """What :func:`metadata_text` was given."""
    return json.loads(text) if text != "{}" else {}  # most have none


def record_of(item: Item, row: int, born: int) -> Record:
    """The row of an item, with its crc."""
    labels, metadata = labels_text(item.labels), metadata_text(item.metadata)
    name = name_bytes(item.id)
    keys = (item.content, item.pixels, item.signature)
    fields = (name, *keys, labels.encode(), metadata.encode(), item.code)
    crc = crc_of(row, born, item.date, item.source, fields)
    return row, born, item.date, item.source, name, *keys, labels, metadata, item.code, crc


def crc_of(row: int, born: int, date: int, source: int, fields: Sequence[bytes]) -> int:
    """The crc32 of a row: it covers every column, and where one ends and the next begins."""
    head = struct.pack(f"<4q{len(fields)}I", row, born, date, source, *map(len, fields))
    return zlib.crc32(b"".join((head, *fields)))


def is_intact(record: Record) -> bool:
    """Whether a row is what was written."""
    try:
        row, born, date, source, name, content, pixels, signature, labels, metadata, code, crc = record
        fields = (name, content, pixels, signature, labels.encode(), metadata.encode(), code)
        return bool(crc == crc_of(row, born, date, source, fields))
    except (TypeError, ValueError, AttributeError, struct.error):  # a flipped bit may change a type
        return False


def check(record: Record, where: object) -> None:
    """Refuse a row that is not what was written.

    Raises:
        ModelError: the row is damaged.
    """
    if not is_intact(record):
        raise ModelError(
            f"{where} is damaged: row {record[0]} does not match its crc. "
            "Run anglehash repair, or restore a backup"
        )


def stored(record: Record, where: object) -> Stored:
    """The item of a row, once its crc is found right.

    Raises:
        ModelError: the row is damaged.
    """
    check(record, where)
    row, born, date, source, name, content, pixels, signature, labels, metadata, code, _ = record
    try:
        said = labels_of(labels), metadata_of(metadata)
    except (ValueError, RecursionError):  # its crc is right: somebody else wrote it
        raise ModelError(f"{where} is not one that anglehash wrote: row {row} is not valid JSON") from None
    item = Item(name_text(name), code, *said, content, date, source, pixels, signature)
    return Stored(row, born, item)


def seen_record(seen: Seen) -> Record:
    """The row of a file that was seen: id, reason, detail, content, size, date, crc."""
    # A detail may quote bytes that are no text, so both texts are kept as JSON.
    texts = json.dumps(seen.reason), json.dumps(seen.detail)
    fields = (name_bytes(seen.id), texts[0].encode(), texts[1].encode(), seen.content, b"")
    crc = crc_of(0, 0, seen.date, seen.size, fields)
    return fields[0], *texts, seen.content, seen.size, seen.date, crc


def seen_of(record: Record, where: object) -> Seen:
    """What :func:`seen_record` was given.

    Raises:
        ModelError: the row is damaged.
    """
    try:
        name, reason, detail, content, size, date, crc = record
        fields = (name, reason.encode(), detail.encode(), content, b"")
        intact = crc == crc_of(0, 0, date, size, fields)
        said = [json.loads(text) for text in (reason, detail)] if intact else []
        intact = intact and size >= 0 and all(isinstance(text, str) for text in said)
        intact = intact and (json.dumps(said[0]), json.dumps(said[1])) == (reason, detail)
    except (TypeError, ValueError, AttributeError, RecursionError, struct.error):
        intact = False
    if not intact:
        raise ModelError(
            f"{where} is damaged: what it says of the file {record[0]!r} does not match its crc. "
            "Run anglehash repair, or restore a backup"
        )
    return Seen(name_text(name), said[0], said[1], content, size, date)
