"""Segments: immutable files of packed codes, made from the truth, to be mapped into memory.

A segment is a header of 64 bytes, then the row number of every code (``uint32``, ascending), then the codes,
one row after the other; all little-endian. Its sha256 is in the manifest and is compared before any code is
used. Whatever is wrong with a segment, the truth has its codes too.
"""

from __future__ import annotations

import hashlib
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anglehash.codes import Codes, width
from anglehash.errors import DataError, ModelError
from anglehash.files import write_atomic

Rows = NDArray[np.uint32]

_HEADER = struct.Struct("<16sIIQ32x")
_MAGIC = b"anglehash codes\n"
_VERSION = 1
LAST_ROW = 2**32 - 1
"""The highest number that a row can have."""


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """A segment that was read and found right, or was just written.

    Attributes:
        name: of its file.
        sha256: of its file, hex.
        rows: ``(n,)`` row numbers, ascending.
        codes: ``(n, ceil(bits / 8))`` packed codes, in the order of the rows.
        data: the file's bytes, which both of them look into.
    """

    name: str
    sha256: str
    rows: Rows
    codes: Codes
    data: mmap.mmap | bytes

    def release(self) -> None:
        """Let go of the memory that it takes, where it is mapped; it is read again when it is looked at."""
        if isinstance(self.data, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
            self.data.madvise(mmap.MADV_DONTNEED)

    def facts(self) -> dict[str, Any]:
        """What the manifest says of it, as JSON values."""
        ends = (int(self.rows[0]), int(self.rows[-1])) if len(self.rows) else (0, 0)
        return {
            "name": self.name,
            "sha256": self.sha256,
            "count": len(self.rows),
            "first": ends[0],
            "last": ends[1],
        }


def write_segment(folder: Path, generation: int, rows: Rows, codes: Codes, bits: int) -> Segment:
    """Write a segment, whole or not at all; its name holds its generation and sha256.

    Raises:
        DataError: more rows were ever used than a segment can number.
    """
    if len(rows) and int(rows[-1]) > LAST_ROW:
        raise DataError("4,294,967,295 rows have been used up: index the images into a new gallery")
    header = _HEADER.pack(_MAGIC, _VERSION, bits, len(rows))
    data = b"".join((header, rows.astype("<u4").tobytes(), np.ascontiguousarray(codes).tobytes()))
    digest = hashlib.sha256(data).hexdigest()
    name = f"{generation:08d}-{digest[:16]}.codes"
    write_atomic(folder / name, data)
    return Segment(name, digest, *_parse(memoryview(data), len(rows), bits), data)


def read_segment(folder: Path, facts: dict[str, Any], bits: int) -> Segment:
    """Map a segment and compare every byte of it with its sha256.

    Args:
        folder: where segments are.
        facts: what the manifest says of it.
        bits: length of a code.

    Raises:
        ModelError: it is missing, cut, foreign, of a newer anglehash, or damaged.
    """
    path = folder / facts["name"]
    try:
        with path.open("rb") as file:
            data = _mapped(file)
    except FileNotFoundError:
        raise ModelError(f"{path} is missing") from None
    count = facts["count"]
    wanted = _HEADER.size + count * (4 + width(bits))
    if not len(data):
        raise ModelError(f"{path} is damaged: it is empty")
    if hashlib.sha256(data).hexdigest() != facts["sha256"]:
        raise ModelError(f"{path} {_diagnosis(data, wanted)}")
    magic, _, found_bits, found = _HEADER.unpack(data[: _HEADER.size])
    if (magic, found_bits, found, len(data)) != (_MAGIC, bits, count, wanted):
        raise ModelError(f"{path} is not the segment of {count} codes that the manifest names")
    return Segment(facts["name"], facts["sha256"], *_parse(memoryview(data), count, bits), data)


def _mapped(file: Any) -> mmap.mmap | bytes:
    try:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError):  # a file system that cannot map files; an empty file
        return bytes(file.read())


def _diagnosis(data: mmap.mmap | bytes, wanted: int) -> str:
    """What is wrong with bytes that do not have their sha256."""
    if len(data) < wanted:
        return f"is cut: it ends at byte {len(data)} of {wanted}"
    if data[:16] != _MAGIC:
        return "is damaged: it does not begin like a segment"
    if (version := int.from_bytes(data[16:20], "little")) > _VERSION:
        return f"is damaged, or has the newer segment format {version}: upgrade anglehash"
    if len(data) > wanted:
        return f"is damaged: {len(data) - wanted} bytes follow its end"
    return "is damaged: its sha256 is not the manifest's"


def _parse(data: memoryview, count: int, bits: int) -> tuple[Rows, Codes]:
    rows = np.frombuffer(data, "<u4", count, _HEADER.size)
    codes = np.frombuffer(data, np.uint8, count * width(bits), _HEADER.size + 4 * count)
    return rows, codes.reshape(count, width(bits))
