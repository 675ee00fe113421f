"""What a TIFF header means, compared with what Pillow makes of it.

Pillow reads most varieties of TIFF as they are meant, refuses some, and gives wrong pixels for others in silence.
:func:`prepare` sends those few another way through the decoder, or refuses them; :func:`as_stored` puts right what
comes out as other numbers than were stored; :func:`describe` tells a variety that is not read from a wrong header.
``tests/data/images/test_tiff.py`` holds all of this to the format.
"""

from __future__ import annotations

from functools import lru_cache
from io import BytesIO
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile
from PIL.TiffImagePlugin import COMPRESSION_INFO, ImageFileDirectory_v2, TiffImageFile

from anglehash.errors import ImageError

WHITE_IS_ZERO, _YCBCR, _LAB = 0, 6, 8
_UNSIGNED, SIGNED = 1, 2
_RAW = 1
_BITS, _COMPRESSION, _PHOTOMETRIC, _FILL_ORDER = 258, 259, 262, 266
_SAMPLES, _PLANAR, _EXTRA, _FORMAT = 277, 284, 338, 339

_COLOURS = {
    0: "grey, white is zero", 1: "grey", 2: "RGB", 3: "palette", 4: "mask", 5: "CMYK", 6: "YCbCr", 8: "CIE Lab",
    9: "ICC Lab", 10: "ITU Lab",
    32803: "colour filter array", 32844: "LogL", 32845: "LogLuv", 34892: "linear raw", 51177: "depth",
    52527: "photometric mask",
}  # fmt: skip
_KINDS = {1: "unsigned", 2: "signed", 3: "float", 4: "untyped", 5: "complex", 6: "complex float"}
_OPTIONAL_CODECS = (34925, 50000, 50001)  # LZMA, Zstandard, WebP
_NEVER_WRITTEN = (6, 32809, 34676, 34677)  # old JPEG, ThunderScan, SGI Log: read by some, with luck
_DNG_VERSION = 50706
_SIZES = {
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    5: 8,
    6: 1,
    7: 1,
    8: 2,
    9: 4,
    10: 8,
    11: 4,
    12: 8,
    13: 4,
    16: 8,
    17: 8,
    18: 8,
}
"""Bytes of a value of each kind that a tag may have."""

_NATIVE = {"I;16BS": "I;16NS", "I;32BS": "I;32NS", "F;32BF": "F;32NF"}
"""Raw modes that Pillow takes for the file's byte order where libtiff has made it the machine's already."""


class Meaning(NamedTuple):
    """What a header says of the samples; :attr:`bits` are those of the first one."""

    photometric: int
    bits: int
    samples: int
    kind: int
    compression: int
    planar: int
    fill: int
    extra: tuple[int, ...]

    def __str__(self) -> str:
        compression = COMPRESSION_INFO.get(self.compression, f"number {self.compression}")
        return (
            f"{self.samples} x {self.bits} bits {_KINDS.get(self.kind, '')}, {_COLOURS.get(self.photometric)}"
            + (", planes" if self.planar == 2 else "")
            + (f", extra samples {list(self.extra)}" if self.extra else "")
            + (f", compression {compression}" if self.compression != _RAW else "")
        )


def _meaning(tags: Any) -> Meaning:
    bits = tags.get(_BITS, (1,))
    return Meaning(
        photometric=tags.get(_PHOTOMETRIC, 0),
        bits=bits[0],
        samples=tags.get(_SAMPLES, len(bits)),
        kind=tags.get(_FORMAT, (1,))[0],
        compression=tags.get(_COMPRESSION, _RAW),
        planar=tags.get(_PLANAR, 1),
        fill=tags.get(_FILL_ORDER, 1),
        extra=tuple(tags.get(_EXTRA, ())),
    )


def meaning_of(image: Image.Image) -> Meaning | None:
    """What the header of an opened TIFF file says; ``None`` for other images."""
    return _meaning(image.tag_v2) if isinstance(image, TiffImageFile) else None


def describe(data: bytes, *, opened: bool) -> str | None:
    r"""What a file holds that Pillow refuses, where its header is a lawful one; else ``None``.

    Args:
        data: the file.
        opened: whether Pillow takes its header; then only a compression that it lacks makes the pixels unreadable.

    >>> describe(b"II*\0" + bytes(40), opened=False) is None
    True
    """
    if data.startswith(b"MM\0+\0\x08\0\0"):
        return "BigTIFF, big-endian"
    try:
        tags = _first_directory(data)
        meaning, sides = _meaning(tags), (tags.get(256), tags.get(257))
    except Exception:  # hostile bytes make Pillow raise nearly anything
        return None
    lawful = (
        all(isinstance(side, int) and side > 0 for side in sides)
        and all(isinstance(value, int) for value in meaning[:-1])
        and meaning.photometric in _COLOURS
        and meaning.kind in _KINDS
        and 1 <= meaning.bits <= 64
        and meaning.samples >= 1
        and meaning.planar in (1, 2)
    )
    return str(meaning) if lawful and not (opened and _has_codec(meaning.compression)) else None


def is_cut(data: bytes) -> bool:
    """Whether the file ends before its first directory does, or before the pixels that this one names."""
    big = data[2:3] == b"+" or data[3:4] == b"+"
    order: Literal["big", "little"] = "big" if data.startswith(b"MM") else "little"
    at = int.from_bytes(data[8:16] if big else data[4:8], order)
    count_size, entry_size, word = (8, 20, 8) if big else (2, 12, 4)
    entries = int.from_bytes(data[at : at + count_size], order)
    if at + count_size + entries * entry_size + word > len(data):
        return True
    for entry in range(at + count_size, at + count_size + entries * entry_size, entry_size):
        kind = int.from_bytes(data[entry + 2 : entry + 4], order)
        size = _SIZES.get(kind, 0) * int.from_bytes(data[entry + 4 : entry + 4 + word], order)
        value = int.from_bytes(data[entry + 4 + word : entry + 4 + 2 * word], order)
        if size > word and value + size > len(data):
            return True
    try:
        tags = _first_directory(data)
        ends = [
            offset + size
            for places, sizes in ((273, 279), (324, 325))
            for offset, size in zip(tags.get(places, ()), tags.get(sizes, ()), strict=False)
        ]
        return max(ends, default=0) > len(data)
    except Exception:  # likewise
        return False


def _first_directory(data: bytes) -> ImageFileDirectory_v2:
    tags = ImageFileDirectory_v2(data[: 16 if data.startswith(b"II+\0") else 8])
    file = BytesIO(data)
    file.seek(tags.next)
    tags.load(file)
    return tags


@lru_cache
def _has_codec(compression: int) -> bool:
    """Whether this Pillow was built to decode it; those that are no part of every libtiff are tried."""
    if compression not in _OPTIONAL_CODECS:
        return compression not in _NEVER_WRITTEN
    try:
        Image.new("RGB", (16, 16)).save(BytesIO(), "TIFF", compression=COMPRESSION_INFO[compression])
    except (OSError, KeyError):
        return False
    return True


def prepare(image: TiffImageFile) -> None:
    """Have an opened file decoded as its header means it.

    Raises:
        ImageError: ``unsupported-format`` for varieties that would come out wrong.
    """
    if not image.tile:
        return  # loaded before
    if _DNG_VERSION in image.tag_v2:  # its first picture is a small preview
        raise ImageError(
            "unsupported-format",
            "TIFF of a camera's raw data (DNG): develop it to one of the formats that are read",
        )
    meaning = _meaning(image.tag_v2)
    planes = meaning.planar == 2 and meaning.samples > 1
    if not image.use_load_libtiff and (planes or meaning.fill == 2):
        _through_libtiff(image, meaning, planes=planes)
    if (planes and (image.mode not in ("RGB", "RGBA", "CMYK") or meaning.photometric == _YCBCR)) or (
        meaning.kind != _UNSIGNED and meaning.photometric == _LAB
    ):
        raise ImageError("unsupported-format", f"TIFF of {meaning} is not read here")
    if image.use_load_libtiff:
        image.tile = [_native(tile) for tile in image.tile]


def _through_libtiff(image: TiffImageFile, meaning: Meaning, *, planes: bool) -> None:
    """Have libtiff order planes and bits: Pillow's own way knows planes of 8 bits, and few bits in reverse."""
    if planes:
        raw = "RGBa" if meaning.extra == (1,) else image.mode
        raw = raw if meaning.bits == 8 else f"{raw};16N"
    else:
        raw = _arguments(image.tile[0])[0].removesuffix("R").removesuffix(";")
        raw = "I;16N" if raw == "I;16" else raw
    image.tile = [ImageFile._Tile("libtiff", (0, 0, *image._tile_size), 0, (raw, False, image.tag_v2.offset))]
    image.use_load_libtiff = True


def _arguments(tile: ImageFile._Tile) -> tuple[Any, ...]:
    return tile.args if isinstance(tile.args, tuple) else (tile.args,)


def _native(tile: ImageFile._Tile) -> ImageFile._Tile:
    raw, *rest = _arguments(tile)
    return tile._replace(args=(_NATIVE.get(raw, raw), *rest))


def as_stored(values: NDArray[Any], meaning: Meaning) -> NDArray[Any]:
    """The numbers that were stored, from those that Pillow holds in another type."""
    if meaning.kind == _UNSIGNED and meaning.bits == 32:
        return values.view(np.uint32)
    if meaning.kind == SIGNED and meaning.bits == 8:
        return values.view(np.int8)
    return values
