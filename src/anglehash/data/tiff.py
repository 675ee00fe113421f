"""What a TIFF header means, compared with what Pillow makes of it.

Pillow reads most varieties of TIFF as they are meant, refuses some, and gives wrong pixels for a few without a word.
:func:`prepare` sends those few another way through the decoder, or refuses them; :func:`as_stored` puts right what comes
out as other numbers than were stored; :func:`describe` tells a variety that is not read from a header that is wrong.
``tests/data/test_tiff_varieties.py`` holds all of this to the format.
"""

from __future__ import annotations

from io import BytesIO
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile
from PIL.TiffImagePlugin import COMPRESSION_INFO, ImageFileDirectory_v2, TiffImageFile

from anglehash.errors import ImageError

WHITE_IS_ZERO, _YCBCR, _LAB = 0, 6, 8
_UNSIGNED, SIGNED = 1, 2
_RAW, _CCITT = 1, (2, 3, 4)
_BITS, _COMPRESSION, _PHOTOMETRIC, _FILL_ORDER = 258, 259, 262, 266
_SAMPLES, _PLANAR, _EXTRA, _FORMAT = 277, 284, 338, 339

_COLOURS = {
    0: "grey, white is zero", 1: "grey", 2: "RGB", 3: "palette", 4: "mask", 5: "CMYK", 6: "YCbCr", 8: "CIE Lab", 9: "ICC Lab",
    10: "ITU Lab", 32803: "colour filter array", 32844: "LogL", 32845: "LogLuv", 34892: "linear raw", 51177: "depth",
    52527: "photometric mask",
}  # fmt: skip
_KINDS = {1: "unsigned", 2: "signed", 3: "float", 4: "untyped", 5: "complex", 6: "complex float"}
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


def describe(data: bytes) -> str | None:
    """What a file that Pillow does not open holds, where its header is a lawful one; else ``None``.

    >>> describe(b"II*\\0" + bytes(40)) is None
    True
    """
    if data.startswith(b"MM\0+\0\x08\0\0"):
        return "BigTIFF, big-endian"
    try:
        tags = ImageFileDirectory_v2(data[: 16 if data.startswith(b"II+\0") else 8])
        file = BytesIO(data)
        file.seek(tags.next)
        tags.load(file)
        meaning, sides = _meaning(tags), (tags.get(256), tags.get(257))
    except Exception:  # hostile bytes make Pillow raise nearly anything
        return None
    lawful = (
        all(isinstance(side, int) and side > 0 for side in sides)
        and all(isinstance(value, int) for value in meaning[:-1])
        and meaning.photometric in _COLOURS
        and meaning.kind in _KINDS
        and 1 <= meaning.bits <= 64
        and 1 <= meaning.samples
        and meaning.planar in (1, 2)
    )
    return str(meaning) if lawful else None


def prepare(image: TiffImageFile) -> None:
    """Have an opened file decoded as its header means it.

    Raises:
        ImageError: ``unsupported-format`` for varieties that would come out wrong.
    """
    meaning = _meaning(image.tag_v2)
    planes = meaning.planar == 2 and meaning.samples > 1
    if planes and not image.use_load_libtiff:
        _through_libtiff(image, meaning)
    if (
        (planes and (image.mode not in ("RGB", "RGBA", "CMYK") or meaning.photometric == _YCBCR))
        or (meaning.fill == 2 and (planes or meaning.compression not in (_RAW, *_CCITT)))
        or (meaning.kind != _UNSIGNED and meaning.photometric == _LAB)
    ):
        raise ImageError("unsupported-format", f"TIFF of {meaning} is not read here")
    if image.use_load_libtiff:
        image.tile = [_native(tile) for tile in image.tile]


def _through_libtiff(image: TiffImageFile, meaning: Meaning) -> None:
    """Have libtiff put the planes together: Pillow's own way is made for 8 bits."""
    raw = "RGBa" if meaning.extra == (1,) else image.mode
    raw = raw if meaning.bits == 8 else f"{raw};16N"
    image.tile = [ImageFile._Tile("libtiff", (0, 0, *image._tile_size), 0, (raw, False, image.tag_v2.offset))]
    image.use_load_libtiff = True


def _native(tile: Any) -> Any:
    raw, *rest = tile.args
    return tile._replace(args=(_NATIVE.get(raw, raw), *rest))


def as_stored(values: NDArray[Any], meaning: Meaning) -> NDArray[Any]:
    """The numbers that were stored, from those that Pillow holds in another type."""
    if meaning.kind == _UNSIGNED and meaning.bits == 32:
        return values.view(np.uint32)
    if meaning.kind == SIGNED and meaning.bits == 8:
        return values.view(np.int8)
    return values
