"""TIFF files of every lawful variety, written byte by byte from samples, so that no decoder is believed."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[Any]  # (h, w, samples)

UNSIGNED, SIGNED, FLOAT = 1, 2, 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How samples lie in a file; the defaults are what most programs write."""

    bits: int
    photometric: int
    kind: int = UNSIGNED
    extra: int | None = None  # what the last sample is: 0 unspecified, 1 associated, 2 unassociated alpha
    planar: int = 1
    compression: int = 1
    predictor: int = 1
    fill: int = 1
    big_endian: bool = False
    big_tiff: bool = False
    rows: int = 0  # of a strip; 0: all
    tile: int = 0  # side of a tile; 0: strips

    @property
    def order(self) -> str:
        return ">" if self.big_endian else "<"

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(f"{self.order}{'_uif'[self.kind]}{self.bits // 8}")


def write_tiff(samples: Samples, layout: Layout, palette: NDArray[np.uint16] | None = None) -> bytes:
    """A file of ``(h, w, s)`` samples, whose values are those that are stored."""
    height, width, count = samples.shape
    planes = [samples[:, :, c : c + 1] for c in range(count)] if layout.planar == 2 else [samples]
    blocks = [_block(part, layout) for plane in planes for part in _parts(plane, layout)]
    tags: dict[int, tuple[int, list[int]]] = {
        256: (4, [width]),
        257: (4, [height]),
        258: (3, [layout.bits] * count),
        259: (3, [layout.compression]),
        262: (3, [layout.photometric]),
        266: (3, [layout.fill]),
        277: (3, [count]),
        284: (3, [layout.planar]),
        317: (3, [layout.predictor]),
        339: (3, [layout.kind] * count),
    }
    if palette is not None:
        tags[320] = (3, palette.T.ravel().tolist())
    if layout.extra is not None:
        tags[338] = (3, [layout.extra])
    if layout.photometric == 6:
        tags[530] = (3, [1, 1])
    if layout.tile:
        tags |= {322: (4, [layout.tile]), 323: (4, [layout.tile])}
    else:
        tags[278] = (4, [layout.rows or height])
    return _file(tags, blocks, layout)


def _parts(plane: Samples, layout: Layout) -> list[Samples]:
    height, width, _ = plane.shape
    if not layout.tile:
        rows = layout.rows or height
        return [plane[y : y + rows] for y in range(0, height, rows)]
    side = layout.tile
    padded = np.pad(plane, ((0, -height % side), (0, -width % side), (0, 0)), mode="edge")
    return [padded[y : y + side, x : x + side] for y in range(0, height, side) for x in range(0, width, side)]


def _block(samples: Samples, layout: Layout) -> bytes:
    """The bytes of a strip or tile: predicted, packed and compressed."""
    if layout.bits % 8:
        data = _pack(samples, layout.bits)
    elif layout.predictor == 3:
        data = _float_differences(samples, layout)
    else:
        values = samples.astype(layout.dtype)
        if layout.predictor == 2:
            unsigned = values.view(f"{layout.order}u{layout.bits // 8}")
            values = unsigned.copy()
            values[:, 1:] -= unsigned[:, :-1]
        data = values.tobytes()
    packed = COMPRESSIONS[layout.compression](data, len(data) // len(samples))
    if layout.fill == 2:
        packed = np.packbits(np.unpackbits(np.frombuffer(packed, np.uint8)), bitorder="little").tobytes()
    return packed


def _pack(samples: Samples, bits: int) -> bytes:
    """Values of 1 to 15 bits one behind the other, each row filled up to a byte."""
    shifts = np.arange(bits - 1, -1, -1)
    flat = samples.reshape(len(samples), -1, 1).astype(np.int64)
    return np.packbits((flat >> shifts & 1).astype(np.uint8).reshape(len(samples), -1), axis=1).tobytes()


def _float_differences(samples: Samples, layout: Layout) -> bytes:
    """Predictor 3: bytes by significance, then their differences."""
    height, width, count = samples.shape
    size = layout.bits // 8
    data = np.frombuffer(samples.astype(f">f{size}").tobytes(), np.uint8).reshape(height, width * count, size)
    planes = np.moveaxis(data, 2, 1).reshape(height, -1)
    differences = planes.copy()
    differences[:, count:] -= planes[:, :-count]
    return differences.tobytes()


def _packbits(data: bytes, row: int) -> bytes:
    """Literal runs of at most 128 bytes; a run never crosses a row."""
    rows = (data[at : at + row] for at in range(0, len(data), row))
    pieces = (line[at : at + 128] for line in rows for at in range(0, len(line), 128))
    return b"".join(bytes([len(piece) - 1]) + piece for piece in pieces)


def _lzw(data: bytes, row: int) -> bytes:
    """Codes of 9 bits only: the table is cleared before it outgrows them."""
    codes = []
    for at in range(0, len(data), 250):
        codes += [256, *data[at : at + 250]]
    return _pack(np.array([*codes, 257])[None, :, None], 9)


COMPRESSIONS: dict[int, Callable[[bytes, int], bytes]] = {
    1: lambda data, row: data,
    5: _lzw,
    8: lambda data, row: zlib.compress(data),
    32773: _packbits,
    32946: lambda data, row: zlib.compress(data),
}


def _file(tags: dict[int, tuple[int, list[int]]], blocks: list[bytes], layout: Layout) -> bytes:
    order, big = layout.order, layout.big_tiff
    head = 16 if big else 8
    offsets = [head + sum(len(block) + len(block) % 2 for block in blocks[:n]) for n in range(len(blocks))]
    body = b"".join(block + bytes(len(block) % 2) for block in blocks)
    tags |= {324 if layout.tile else 273: (4, offsets), 325 if layout.tile else 279: (4, [*map(len, blocks)])}
    entry, word = ("HHQ", "Q") if big else ("HHI", "I")
    room = struct.calcsize(order + word)
    start = head + len(body)
    end = start + (8 if big else 2) + len(tags) * (4 + 2 * room) + room
    entries, later = b"", b""
    for tag, (kind, values) in sorted(tags.items()):
        data = struct.pack(f"{order}{len(values)}{'H' if kind == 3 else 'I'}", *values)
        entries += struct.pack(order + entry, tag, kind, len(values))
        if len(data) <= room:
            entries += data.ljust(room, b"\0")
        else:
            entries += struct.pack(order + word, end + len(later))
            later += data + bytes(len(data) % 2)
    count = struct.pack(order + ("Q" if big else "H"), len(tags))
    mark = b"MM" if layout.big_endian else b"II"
    first = struct.pack(order + ("HHHQ" if big else "HI"), *((43, 8, 0, start) if big else (42, start)))
    return mark + first + body + count + entries + bytes(room) + later
