"""A picture of queries and their answers: one PNG, drawn with Pillow alone."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from anglehash.errors import DataError
from anglehash.files import refuse_existing, write_atomic
from anglehash.serve.markup import visible

_PAPER, _MAT = "#ffffff", "#eef0f3"
_INK, _FAINT = "#1c2430", "#6b7480"
_QUERY, _RIGHT, _WRONG, _UNKNOWN = "#2b62d9", "#12805c", "#c8372d", "#9aa3ae"

# Lengths in pixels.
_SIDE, _FRAME, _GAP, _MARGIN = 112, 4, 14, 24
_TILE = _SIDE + 2 * _FRAME
_ACROSS, _DOWN = _TILE + _GAP, _TILE + 54  # from tile to tile: two lines of text fit under each
_HEADING, _LEGEND = 26, 36
_ANSWERS = _MARGIN + _ACROSS + 18  # the answers begin here, a little apart from the query


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


def answers_png(path: Path, rows: Sequence[Row], *, force: bool = False) -> None:
    """Write a grid: each row a query and its nearest, with labels and distances.

    Correct answers are framed green with a tick, wrong ones red with a cross.

    Args:
        path: the new file.
        rows: what to draw.
        force: replace a file that is there.

    Raises:
        DataError: there is nothing to draw.
        OutputExistsError: ``path`` exists and ``force`` is not set.
    """
    refuse_existing(path, force=force)
    if not rows:
        raise DataError("a picture of answers needs at least one query")
    write_atomic(path, to_png(draw(rows)))


def draw(rows: Sequence[Row]) -> Image.Image:
    """The grid of :func:`answers_png` as an image."""
    columns = max(len(row.answers) for row in rows)
    width = _ANSWERS + max(columns, 2) * _ACROSS - _GAP + _MARGIN  # 2: the legend needs the room
    height = _MARGIN + _HEADING + len(rows) * _DOWN + _LEGEND
    canvas = Image.new("RGB", (width, height), _PAPER)
    pen = ImageDraw.Draw(canvas)
    _text(pen, _MARGIN, _MARGIN, "query", _FAINT)
    for column in range(columns):
        head = str(column + 1) if column else "nearest"
        _text(pen, _ANSWERS + column * _ACROSS, _MARGIN, head, _FAINT)
    for number, row in enumerate(rows):
        y = _MARGIN + _HEADING + number * _DOWN
        _tile(canvas, _MARGIN, y, row.query)
        for column, answer in enumerate(row.answers):
            _tile(canvas, _ANSWERS + column * _ACROSS, y, answer)
    _legend(pen, _ANSWERS, height - _LEGEND - 6)
    return canvas


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


def _tile(canvas: Image.Image, x: int, y: int, tile: Tile) -> None:
    """Frame, image, mark, and two lines of text; ``(x, y)`` is the upper left corner of the frame."""
    pen = ImageDraw.Draw(canvas)
    color = _QUERY if tile.distance is None else _color(tile.correct)
    pen.rectangle((x, y, x + _TILE - 1, y + _TILE - 1), fill=_MAT, outline=color, width=_FRAME)
    image = thumbnail(tile.pixels, _SIDE)
    canvas.paste(image, (x + (_TILE - image.width) // 2, y + (_TILE - image.height) // 2))
    _text(pen, x, y + _TILE + 5, caption(tile.labels), _INK)
    if tile.distance is not None:
        _text(pen, x, y + _TILE + 22, f"{tile.distance} bit{'s' * (tile.distance != 1)}", _FAINT)
        if tile.correct is not None:
            _mark(pen, x + _TILE - 13, y + 13, tile.correct)


def _color(correct: bool | None) -> str:
    return _UNKNOWN if correct is None else _RIGHT if correct else _WRONG


def _mark(pen: ImageDraw.ImageDraw, x: int, y: int, correct: bool) -> None:
    """A disc around ``(x, y)`` with a tick or a cross: colour alone would not reach everyone."""
    pen.ellipse((x - 9, y - 9, x + 9, y + 9), fill=_color(correct), outline=_PAPER, width=1)
    if correct:
        pen.line((x - 4, y, x - 1, y + 4, x + 5, y - 4), fill=_PAPER, width=2, joint="curve")
    else:
        pen.line((x - 4, y - 4, x + 4, y + 4), fill=_PAPER, width=2)
        pen.line((x - 4, y + 4, x + 4, y - 4), fill=_PAPER, width=2)


def _legend(pen: ImageDraw.ImageDraw, x: int, y: int) -> None:
    for correct, words in ((True, "shares a label"), (False, "shares none")):
        _mark(pen, x + 9, y + 8, correct)
        _text(pen, x + 24, y, words, _FAINT)
        x += 136


def _text(pen: ImageDraw.ImageDraw, x: int, y: int, text: str, color: str) -> None:
    """One line, cut with an ellipsis where it is wider than a tile."""
    font = ImageFont.load_default(13)
    text = text[:64]  # no tile holds more, and a hostile label may be endless
    if pen.textlength(text, font) > _TILE:
        while text and pen.textlength(text + "…", font) > _TILE:
            text = text[:-1]
        text = text.rstrip(" ,") + "…"
    pen.text((x, y), text, fill=color, font=font)
