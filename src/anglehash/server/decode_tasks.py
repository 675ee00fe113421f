"""What is done to images in processes that may die. Little is imported here, for each of them imports it too."""

from __future__ import annotations

import json
import re
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anglehash.data.image_hash import KEY_BYTES, picture_of
from anglehash.data.images.decoding import Preprocessing, decode
from anglehash.errors import ImageError
from anglehash.report.pictures import thumbnail

THUMBNAIL = 256
"""The longer side of a thumbnail, in pixels."""

KEYS = 2 * KEY_BYTES
"""Bytes of the keys of a picture."""


MOST_SCANS = 100
"""Of a JPEG: progressive ones have about ten, and each scan goes over the whole image."""

_MARKER = re.compile(rb"\xff+([^\x00\x01\xd0-\xd7\xff])")


def framed(data: bytes, preprocessing: dict[str, Any]) -> bytes:
    """An image with how it is to be prepared, for :func:`network_input`."""
    return json.dumps(preprocessing).encode("ascii") + b"\n" + data


def network_input(framed: bytes) -> bytes:
    """The keys of an image, :data:`KEYS` bytes, and after them the pixels for the network; done in a worker.

    Raises:
        ImageError: the image is refused.
    """
    preprocessing, _, data = framed.partition(b"\n")
    check_scans(data)
    pixels = Preprocessing.from_dict(json.loads(preprocessing))(data).tobytes()
    return b"".join(picture_of(data)).ljust(KEYS, b"\0") + pixels


def thumbnail_jpeg(data: bytes) -> bytes:
    """A thumbnail, rebuilt from the pixels; done in a worker.

    Raises:
        ImageError: the image is refused.
    """
    check_scans(data)
    return to_jpeg(decode(data, draft=2 * THUMBNAIL, allow_truncated=True).pixels)


def check_scans(data: bytes) -> None:
    """Refuse a JPEG that is decoded over and over.

    Raises:
        ImageError: ``too-large``: it has more than :data:`MOST_SCANS` scans.
    """
    if not data.startswith(b"\xff\xd8") or data.count(b"\xff\xda") <= MOST_SCANS:
        return
    place, scans = 2, 0
    while (found := _MARKER.search(data, place)) and found[1] != b"\xd9":  # the end of the image
        place = found.end()
        if found[1] == b"\xda":
            scans += 1
        else:
            place += max(2, int.from_bytes(data[place : place + 2], "big"))
        if scans > MOST_SCANS:
            raise ImageError("too-large", f"more than {MOST_SCANS} scans, the most that a JPEG may have")


def to_jpeg(pixels: NDArray[np.uint8]) -> bytes:
    """The thumbnail of pixels: none of what else was in a file is left."""
    stream = BytesIO()
    thumbnail(pixels, THUMBNAIL).save(stream, "JPEG", quality=85)
    return stream.getvalue()
