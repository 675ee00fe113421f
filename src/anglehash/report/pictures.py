"""Small images of queries and answers, with what is known of them."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from anglehash.report.html import visible


class Tile(NamedTuple):
    """An image with what is written under it.

    Attributes:
        pixels: ``(h, w, 3)`` RGB or ``(h, w)`` grey, ``uint8``.
        labels: its labels.
        id: its name.
        distance: of an answer: Hamming distance to the query, in bits.
        correct: of an answer: whether it shares a label with the query; ``None`` where that is not known.
    """

    pixels: NDArray[np.uint8]
    labels: tuple[str, ...] = ()
    id: str = ""
    distance: int | None = None
    correct: bool | None = None


class Row(NamedTuple):
    """A query and its answers, nearest first."""

    query: Tile
    answers: Sequence[Tile]


def thumbnail(pixels: NDArray[np.uint8], side: int) -> Image.Image:
    """An image fitted into a square of ``side`` pixels; small scans keep their pixels visible.

    >>> thumbnail(np.zeros((8, 4), dtype=np.uint8), side=96).size
    (48, 96)
    """
    image = Image.fromarray(pixels).convert("RGB")
    scale = side / max(image.size)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return image.resize(size, Image.Resampling.NEAREST if scale >= 2 else Image.Resampling.LANCZOS)


def to_png(image: Image.Image) -> bytes:
    """The bytes of a PNG file."""
    stream = BytesIO()
    image.save(stream, "PNG", optimize=True)
    return stream.getvalue()


def caption(labels: Sequence[str]) -> str:
    """Labels as one line of printable text.

    >>> caption(["cat", "pet"]), caption([]), caption(["a" + chr(10) + "b"])
    ('cat, pet', 'no label', 'a�b')
    """
    return visible(", ".join(labels)) or "no label"
