"""Any Pillow image as upright 8-bit RGB."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

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

_BITS_PER_SAMPLE = 258  # a TIFF tag


def upright(image: Image.Image, notes: list[str]) -> Image.Image:
    """The loaded image turned as its EXIF data say; data that make no sense are ignored with a note."""
    try:
        exif = image.getexif()
        method = _TO_UPRIGHT.get(exif.get(_ORIENTATION, 1))
    except Exception as error:  # hostile EXIF data make Pillow raise nearly anything
        notes.append(f"EXIF data ignored: {' '.join(str(error).split()) or type(error).__name__}")
        return image
    if "exif" in image.info and not len(exif):
        notes.append("EXIF data ignored: no tag can be read")
    return image if method is None else image.transpose(method)


def as_rgb(image: Image.Image, background: Colour) -> Image.Image:
    """The image in RGB, whatever its mode, over ``background`` where it is transparent.

    Colour profiles are not applied: CMYK becomes ``(255 - C)(255 - K) / 255`` and so on.
    """
    if image.mode.startswith("I") or image.mode == "F":
        image = Image.fromarray(_eight_bits(image))
    if image.mode == "La":  # Pillow has no direct way from here to RGBA
        image = image.convert("LA")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        canvas = Image.new("RGB", image.size, background)
        canvas.paste(image, mask=image)
        return canvas
    return image if image.mode == "RGB" else image.convert("RGB")


def _eight_bits(image: Image.Image) -> NDArray[np.uint8]:
    """Grey values of more than 8 bits, scaled to 0..255.

    Unsigned values of 12 and 16 bits keep their high 8 bits, as Pillow does it for 16-bit colour. Signed
    and 32-bit integers are stretched from their minimum to their maximum. So are floats, but those that
    all lie in 0..1 are taken to mean black to white. NaN is black.
    """
    values = np.asarray(image)
    if values.dtype.kind == "u":
        depth = 12 if getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE) == (12,) else 16
        return np.asarray(values >> (depth - 8), dtype=np.uint8)
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    if values.dtype.kind == "f" and low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    elif low == high:
        return np.zeros(values.shape, dtype=np.uint8)
    scaled = np.interp(values, (low, high), (0, 255))  # clips infinities
    return np.asarray(np.rint(np.nan_to_num(scaled)), dtype=np.uint8)
