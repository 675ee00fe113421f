"""What is done to images in processes that may die. Little is imported here, for each of them imports it too."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anglehash.data.images import Preprocessing, decode
from anglehash.data.keys import KEY_BYTES, picture_of
from anglehash.serve.pictures import thumbnail

THUMBNAIL = 256
"""The longer side of a thumbnail, in pixels."""

KEYS = 2 * KEY_BYTES
"""Bytes of the keys of a picture."""


def network_input(data: bytes, preprocessing: dict[str, Any]) -> bytes:
    """The keys of the image, :data:`KEYS` bytes, and after them the pixels for the network; done in a worker.

    Raises:
        ImageError: the image is refused.
    """
    pixels = Preprocessing.from_dict(preprocessing)(data).tobytes()
    return b"".join(picture_of(data)).ljust(KEYS, b"\0") + pixels


def thumbnail_jpeg(data: bytes) -> bytes:
    """A thumbnail, made anew from the pixels; done in a worker.

    Raises:
        ImageError: the image is refused.
    """
    return to_jpeg(decode(data, draft=2 * THUMBNAIL, salvage=True).pixels)


def to_jpeg(pixels: NDArray[np.uint8]) -> bytes:
    """The thumbnail of pixels: none of what else was in a file is left."""
    stream = BytesIO()
    thumbnail(pixels, THUMBNAIL).save(stream, "JPEG", quality=85)
    return stream.getvalue()
