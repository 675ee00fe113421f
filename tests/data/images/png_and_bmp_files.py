"""PNG and BMP files of every lawful variety, written byte by byte, so that no decoder is believed."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[Any]  # (h, w, samples), whole numbers

GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6
_ADAM7 = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def write_png(
    samples: Samples, bits: int, kind: int, *, interlaced: bool = False, chunks: bytes = b"", split: int = 0
) -> bytes:
    """A PNG file of ``(h, w, s)`` samples.

    Args:
        samples: as they are stored.
        bits: of each.
        kind: the colour type.
        interlaced: by Adam7.
        chunks: what stands between header and pixels, such as ``PLTE`` and ``tRNS``.
        split: bytes of an ``IDAT`` chunk; 0: one holds all.
    """
    height, width, _ = samples.shape
    parts = [samples[y::dy, x::dx] for y, x, dy, dx in _ADAM7] if interlaced else [samples]
    packed = zlib.compress(b"".join(_filtered(part, bits) for part in parts if part.size))
    step = split or len(packed)
    pixels = b"".join(chunk(b"IDAT", packed[at : at + step]) for at in range(0, len(packed), step))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, interlaced))
    return b"\x89PNG\r\n\x1a\n" + header + chunks + pixels + chunk(b"IEND", b"")


def _filtered(samples: Samples, bits: int) -> bytes:
    """Each row behind its filter: none for even rows, that of differences for odd ones."""
    lines = []
    step = max(1, samples.shape[2] * bits // 8)
    for y, line in enumerate(_rows(samples, bits)):
        left = bytes(step) + line[:-step]
        sub = bytes((a - b) & 255 for a, b in zip(line, left, strict=True))
        lines.append(b"\1" + sub if y % 2 else b"\0" + line)
    return b"".join(lines)


def _rows(samples: Samples, bits: int) -> list[bytes]:
    """The rows of big-endian values of ``bits``, each filled up to a byte."""
    shifts = np.arange(bits - 1, -1, -1)
    values = samples.reshape(len(samples), -1, 1).astype(np.int64) >> shifts & 1
    return [row.tobytes() for row in np.packbits(values.astype(np.uint8).reshape(len(samples), -1), axis=1)]


def write_bmp(
    samples: Samples,
    bits: int,
    *,
    palette: Samples | None = None,
    masks: tuple[int, ...] = (),
    compression: int = 0,
    header: int = 40,
    top_down: bool = False,
) -> bytes:
    """A BMP file of ``(h, w, 1)`` palette indices or whole pixels.

    Args:
        samples: numbers of ``bits`` each.
        bits: of a pixel.
        palette: ``(n, 3)`` RGB.
        masks: of red, green, blue and alpha.
        compression: 0 none, 1 and 2 run lengths of 8 and 4 bits, 3 and 6 bit fields.
        header: its size, which tells its version.
        top_down: the first row comes first.
    """
    height, width, _ = samples.shape
    lines = samples if top_down else samples[::-1]
    pixels = _run_lengths(lines, bits) if compression in (1, 2) else _bmp_rows(lines, bits)
    colours = b""
    if palette is not None:
        entry = "BBB" if header == 12 else "BBBx"
        colours = b"".join(struct.pack(entry, *map(int, colour[::-1])) for colour in palette)
    if header == 12:
        info = struct.pack("<IHHHH", 12, width, height, 1, bits)
    else:
        used = 0 if palette is None else len(palette)
        high = -height if top_down else height
        info = struct.pack(
            "<IiiHHIIiiII", header, width, high, 1, bits, compression, len(pixels), 2835, 2835, used, 0
        )
        fields = struct.pack(f"<{len(masks)}I", *masks)
        info += fields if header == 40 else fields.ljust(header - 40, b"\0")
    start = 14 + len(info) + len(colours)
    return b"BM" + struct.pack("<IHHI", start + len(pixels), 0, 0, start) + info + colours + pixels


def _bmp_rows(lines: Samples, bits: int) -> bytes:
    if bits < 8:
        rows = _rows(lines, bits)
    else:
        size = bits // 8
        rows = [b"".join(int(v).to_bytes(size, "little") for v in line[:, 0]) for line in lines]
    return b"".join(row + bytes(-len(row) % 4) for row in rows)


def _run_lengths(lines: Samples, bits: int) -> bytes:
    """Runs of one for even rows and absolute ones for odd rows, with the ends of rows and picture."""
    out = b""
    for y, line in enumerate(lines[:, :, 0]):
        values = [int(v) for v in line]
        if bits == 4:
            packed = bytes((a << 4) | b for a, b in zip(values[::2], [*values[1::2], 0], strict=False))
        else:
            packed = bytes(values)
        if y % 2:
            out += bytes([0, len(values)]) + packed + bytes(len(packed) % 2)
        else:
            out += b"".join(bytes([1, v << 4 if bits == 4 else v]) for v in values)
        out += b"\0\0"
    return out + b"\0\1"
