"""Copies of images as they come back from elsewhere: cropped, resized and compressed again.

A search with such a copy should find its original: what :func:`~anglehash.evaluation.likeness.copy_recall`
measures.
"""

from __future__ import annotations

from io import BytesIO
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from anglehash.data.dataset import Encoded, ImageStore
from anglehash.data.images.decoding import decode, pixel_key, rgb_pixels
from anglehash.data.images.workers import map_images
from anglehash.data.sampling import Rows
from anglehash.errors import ImageError

COPIES = 300
"""How many images are copied."""

SIDE, QUALITY = 0.85, 60
"""The share of each side that a crop keeps, and the JPEG quality of a copy."""


class Copies(NamedTuple):
    """Copies of some images.

    Attributes:
        images: the copies as JPEG files, which are decoded as any image is.
        originals: ``(c,)`` the row of the original of each, ascending.
    """

    images: Encoded
    originals: Rows


def copies_of(images: ImageStore, rows: Rows, *, seed: int = 0, count: int = COPIES) -> Copies:
    """Copies of ``count`` drawn images: of all where there are fewer.

    An image is cropped to 85 % of each side, at a place drawn from the seed and its pixels, resized back to its
    size (bicubic) and saved as JPEG of quality 60. One that cannot be read is left out.

    Args:
        images: where the originals are.
        rows: which of them may be drawn.
        seed: of the draw and of the places.
        count: how many.
    """
    drawn = np.sort(np.random.default_rng(seed).permutation(rows)[:count])
    made = [
        (row, copy)
        for row, copy in map_images(images, drawn, _copy, settings={"seed": seed})
        if not isinstance(copy, ImageError)
    ]
    return Copies(Encoded([copy for _, copy in made]), np.array([row for row, _ in made], dtype=np.int64))


def _copy(data: bytes | NDArray[np.uint8], *, seed: int) -> bytes:
    pixels = decode(data, allow_truncated=True).pixels if isinstance(data, bytes) else rgb_pixels(data)
    height, width = pixels.shape[:2]
    kept = max(1, round(SIDE * width)), max(1, round(SIDE * height))
    rng = np.random.default_rng([seed, int.from_bytes(pixel_key(pixels)[:8], "little")])
    left, top = (
        int(rng.integers(0, side - part + 1)) for side, part in zip((width, height), kept, strict=True)
    )
    crop = Image.fromarray(pixels).crop((left, top, left + kept[0], top + kept[1]))
    file = BytesIO()
    crop.resize((width, height), Image.Resampling.BICUBIC).save(file, "JPEG", quality=QUALITY)
    return file.getvalue()
