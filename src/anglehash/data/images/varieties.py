"""What a header says, compared with what Pillow does: varieties that come out wrong, or are valid and not read.

:func:`prepare` looks at an image that is opened and not decoded yet; :func:`unread` looks at a file that was refused,
so that a valid one is not called damaged. Of TIFF, :mod:`anglehash.data.images.tiff` knows the varieties.
"""

from __future__ import annotations

import struct
from io import BytesIO
from typing import NamedTuple

from PIL import Image, ImageChops
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from anglehash.data.images import tiff
from anglehash.errors import ImageError

_PNG_START = 8  # the signature; then chunks of a length, a name, data and a checksum
_PNG_TEXT = {b"tEXt", b"zTXt", b"iTXt", b"iCCP"}
_PNG_LEVELS = {"L;2": 85, "L;4": 17}
"""What Pillow multiplies grey values with, and leaves the transparent one without."""

_BMP_SIZES = (12, 40, 52, 56, 64, 108, 124)
_BMP_COMPRESSIONS = (0, 1, 2, 3, 4, 5, 6, 11, 12, 13)

_JPEG_KINDS = {
    0xC0: "baseline", 0xC1: "extended", 0xC2: "progressive", 0xC3: "lossless", 0xC5: "hierarchical",
    0xC6: "hierarchical", 0xC7: "hierarchical", 0xC9: "arithmetic", 0xCA: "arithmetic", 0xCB: "lossless arithmetic",
    0xCD: "hierarchical",
    0xCE: "hierarchical", 0xCF: "hierarchical", 0xF7: "JPEG-LS",
}  # fmt: skip
_JPEG_READ = (0xC0, 0xC1, 0xC2)
_JPEG_START_OF_SCAN, _JPEG_ALONE = 0xDA, {0x01, *range(0xD0, 0xD9)}


def prepare(image: Image.Image) -> None:
    """Have an opened image decoded as its header means it.

    Raises:
        ImageError: ``unsupported-format`` for varieties that would come out wrong.
    """
    if isinstance(image, TiffImageFile):
        tiff.prepare(image)
    elif isinstance(image, PngImageFile):
        _prepare_png(image)
    elif isinstance(image, BmpImageFile):
        _prepare_bmp(image)
    elif isinstance(image, GifImageFile):
        _prepare_gif(image)


def _prepare_png(image: PngImageFile) -> None:
    """Give the transparent colour in the values that come out, which Pillow does at 1 and 8 bits alone."""
    key = image.info.get("transparency")
    raw = image.tile[0].args if image.tile else None
    if raw in _PNG_LEVELS and isinstance(key, int):
        image.info["transparency"] = key * _PNG_LEVELS[raw]
    if raw == "RGB;16B" and isinstance(key, tuple) and image.fp is not None:
        place = image.fp.tell()
        image.fp.seek(0)
        data = image.fp.read()
        image.fp.seek(place)
        del image.info["transparency"]
        image.load()
        image.putalpha(_unlike(image, data, key))


def _unlike(high: Image.Image, data: bytes, key: tuple[int, ...]) -> Image.Image:
    """255 where a pixel of 16 bits is not ``key``: its high bytes are there, the low ones are read as if they were."""
    with Image.open(BytesIO(data), formats=["PNG"]) as low:
        low.tile = [tile._replace(args="RGB;16L") for tile in low.tile]
        low.load()
    bands = zip((*high.split(), *low.split()), (*(k >> 8 for k in key), *(k & 255 for k in key)), strict=True)
    unlike = Image.new("L", high.size, 0)
    for band, value in bands:
        unlike = ImageChops.lighter(unlike, band.point([255 * (v != value) for v in range(256)]))
    return unlike


def _prepare_bmp(image: BmpImageFile) -> None:
    """Read the indices of a grey palette in their own depth; Pillow takes the palette's size for the depth."""
    if image.fp is None or not image.tile or image.tile[0].codec_name != "raw":
        return
    place = image.fp.tell()
    image.fp.seek(0)
    header = _bmp_header(image.fp.read(70))
    image.fp.seek(place)
    if header.bits == 16 and header.alpha:
        raise ImageError("unsupported-format", "BMP of 16 bits with alpha is not read here")
    if image.mode == "1" and header.bits == 8:
        image.tile = [tile._replace(args=("1;8", *(tile.args or ())[1:])) for tile in image.tile]
    elif image.mode in ("1", "L") and header.bits != {"1": 1, "L": 8}[image.mode]:
        raise ImageError(
            "unsupported-format",
            f"BMP of {header.bits} bits with a grey palette of another depth is not read here",
        )


def _prepare_gif(image: GifImageFile) -> None:
    """Leave transparent what a first frame does not cover, as browsers do; Pillow takes the first colour."""
    extents = image.tile[0].extents if image.tile else None
    if extents is None or extents == (0, 0, *image.size) or "transparency" in image.info:
        return
    image.load()
    covered = Image.new("L", image.size, 0)
    covered.paste(255, extents)
    image.putalpha(covered)


def without_text(data: bytes) -> bytes:
    """A PNG file without texts and colour profile; as it is where its chunks make no sense."""
    kept, at = [data[:_PNG_START]], _PNG_START
    while at + 12 <= len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        if data[at + 4 : at + 8] not in _PNG_TEXT:
            kept.append(data[at:end])
        at = end
    return b"".join(kept) + data[at:]


class JpegHeader(NamedTuple):
    """The first frame of a JPEG file; ``whole``: a decoder holds all of it in memory, also for a reduced picture."""

    kind: int
    bits: int
    components: int
    whole: bool


def jpeg_header(data: bytes) -> JpegHeader | None:
    """What the frame header says, and how the first scan begins; ``None`` where there is none."""
    at, frame = 2, None
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            return None
        marker = data[at + 1]
        if marker == 0xFF or marker in _JPEG_ALONE:
            at += 1 if marker == 0xFF else 2
            continue
        if marker in _JPEG_KINDS and len(data) >= at + 10:
            frame = JpegHeader(marker, data[at + 4], data[at + 9], False)
        elif marker == _JPEG_START_OF_SCAN:
            return frame and frame._replace(
                whole=frame.kind not in (0xC0, 0xC1, 0xC9) or data[at + 4] < frame.components
            )
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return frame


def unread(name: str, data: bytes, *, opened: bool) -> str | None:
    """The variety of a file that was refused, if it is a valid one that is not read here.

    Args:
        name: the format.
        data: the file.
        opened: whether Pillow takes its header, and refused the pixels.
    """
    if name == "TIFF":
        return tiff.describe(data, opened=opened)
    if name == "BMP" and not opened:
        return _unread_bmp(data)
    frame = jpeg_header(data) if name == "JPEG" else None
    if frame is None or (frame.kind in _JPEG_READ and frame.bits == 8 and frame.components in (1, 3, 4)):
        return None
    lawful = 2 <= frame.bits <= 16 and frame.components >= 1
    return f"{_JPEG_KINDS[frame.kind]}, {frame.components} x {frame.bits} bits" if lawful else None


def is_cut(name: str, data: bytes) -> bool:
    """Whether a file states that it is longer than it is."""
    if name == "TIFF":
        return tiff.is_cut(data)
    if name == "WEBP":
        return 8 + int.from_bytes(data[4:8], "little") > len(data)
    if name == "PNG":
        return _PNG_START < len(data) < _PNG_START + 25  # the header chunk
    if name == "GIF":
        return len(data) < 13 + (3 << (data[10] & 7) + 1 if data[10:11] and data[10] & 0x80 else 0)
    at = 0
    while name in ("AVIF", "HEIF") and at + 16 <= len(
        data
    ):  # a box has its size first: 0 all the rest, 1 see below
        size = int.from_bytes(data[at : at + 4], "big")
        size = int.from_bytes(data[at + 8 : at + 16], "big") if size == 1 else size
        if size < 8:
            return False
        at += size
    return at > len(data)


class _BmpHeader(NamedTuple):
    size: int
    bits: int
    compression: int
    alpha: int  # mask


def _bmp_header(data: bytes) -> _BmpHeader:
    data = data[:70].ljust(70, b"\0")
    size = int.from_bytes(data[14:18], "little")
    if size == 12:
        return _BmpHeader(size, int.from_bytes(data[24:26], "little"), 0, 0)
    bits, compression = struct.unpack_from("<HI", data, 28)
    masked = size >= 56 and compression == 3
    return _BmpHeader(size, bits, compression, int.from_bytes(data[66:70], "little") if masked else 0)


def _unread_bmp(data: bytes) -> str | None:
    size, bits, compression, _ = _bmp_header(data)
    depths = (1, 2, 4, 8, 24) if size == 12 else (0, 1, 2, 4, 8, 16, 24, 32, 64)
    lawful = (size == 12 or 16 <= size <= 124) and bits in depths and compression in _BMP_COMPRESSIONS
    plain = size in _BMP_SIZES and bits in (1, 4, 8, 16, 24, 32) and compression in (0, 1, 2)
    whole = len(data) >= 14 + size + (16 if size == 40 else 0)
    return (
        f"{bits} bits, compression {compression}, header of {size} bytes"
        if lawful and whole and not plain
        else None
    )
