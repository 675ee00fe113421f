"""Any Pillow image as upright 8-bit RGB."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from anglehash.data.images.tiff import SIGNED, WHITE_IS_ZERO, Meaning, as_stored, meaning_of

Colour = tuple[int, int, int]

_ORIENTATION = 0x0112
_TO_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def upright(image: Image.Image, background: Colour, notes: list[str]) -> Image.Image:
    """The loaded image as 8-bit RGB, turned as its EXIF data say.

    Colour profiles are not applied: CMYK becomes ``(255 - C)(255 - K) / 255`` and so on.

    Args:
        image: of any mode.
        background: the colour behind transparent pixels.
        notes: takes what is ignored, such as EXIF data that make no sense.
    """
    turn = _turn(image, notes)  # first: what is converted has lost its EXIF data
    rgb = _as_rgb(image, background)
    return rgb if turn is None else rgb.transpose(turn)


def _turn(image: Image.Image, notes: list[str]) -> Image.Transpose | None:
    try:
        exif = image.getexif()
        turn = _TO_UPRIGHT.get(exif.get(_ORIENTATION, 1))
    except Exception as error:  # hostile EXIF data make Pillow raise nearly anything
        notes.append(f"EXIF data ignored: {' '.join(str(error).split()) or type(error).__name__}")
        return None
    if "exif" in image.info and not len(exif):
        notes.append("EXIF data ignored: no tag can be read")
    return turn


def _as_rgb(image: Image.Image, background: Colour) -> Image.Image:
    meaning = meaning_of(image)
    if image.mode.startswith("I") or image.mode == "F" or (meaning and meaning.kind == SIGNED):
        image = _eight_bits(image, meaning)
    if image.mode == "La":  # Pillow has no direct way from here to RGBA
        image = image.convert("LA")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        canvas = Image.new("RGB", image.size, background)
        canvas.paste(image, mask=image)
        return canvas
    return image if image.mode == "RGB" else image.convert("RGB")


def _eight_bits(image: Image.Image, meaning: Meaning | None) -> Image.Image:
    """Grey values that are not unsigned ones of 8 bits, scaled to 0..255.

    Unsigned values of 12 and 16 bits keep their high 8 bits, as Pillow does it for 16-bit colour. Signed
    and 32-bit integers are stretched from their minimum to their maximum. So are floats, but those that
    all lie in 0..1 are taken to mean black to white. NaN is black.
    """
    held = np.asarray(image)
    values = _scaled(as_stored(held, meaning) if meaning else held, meaning)
    grey = Image.fromarray(255 - values if meaning and meaning.photometric == WHITE_IS_ZERO else values)
    key = image.info.get("transparency")  # of a PNG: a value of 16 bits
    if isinstance(key, int):
        grey.putalpha(Image.fromarray(np.where(held == key, 0, 255).astype(np.uint8)))
    return grey


def _scaled(values: NDArray[Any], meaning: Meaning | None) -> NDArray[np.uint8]:
    if values.dtype.kind == "u" and values.dtype.itemsize == 2:
        depth = 12 if meaning and meaning.bits == 12 else 16
        return np.asarray(values >> (depth - 8), dtype=np.uint8)
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    if values.dtype.kind == "f" and low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    elif low == high:
        return np.zeros(values.shape, dtype=np.uint8)
    scaled = np.interp(values, (low, high), (0, 255))  # clips infinities
    return np.asarray(np.rint(np.nan_to_num(scaled)), dtype=np.uint8)
