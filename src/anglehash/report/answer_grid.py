"""Queries and their answers as one PNG."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from anglehash.errors import DataError
from anglehash.files import refuse_existing, write_atomic
from anglehash.report.figures import drawing
from anglehash.report.pictures import Row, Tile, caption, thumbnail

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_INK, _FAINT = "#1c2430", "#6b7480"
_QUERY = "#2b62d9"
_MARKS = {True: ("#12805c", "✓"), False: ("#c8372d", "✗"), None: ("#9aa3ae", "")}
_SIDE, _LETTERS = 224, 17  # pixels of an image; letters that fit under it
_WIDE, _HIGH = 1.35, 1.72  # inches of a tile with its text


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
    stream = BytesIO()
    with drawing():
        draw(rows).savefig(stream, format="png", dpi=160, metadata={"Software": None})
    write_atomic(path, stream.getvalue())


def draw(rows: Sequence[Row]) -> Figure:
    """The grid of :func:`answers_png` as a figure of matplotlib."""
    from matplotlib.figure import Figure

    columns = 1 + max(len(row.answers) for row in rows)
    figure = Figure(figsize=(_WIDE * max(columns, 3), _HIGH * len(rows) + 0.6))
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for axes, row in zip(grid, rows, strict=True):
        for place, own in enumerate(axes):
            tiles = (row.query, *row.answers)
            if place < len(tiles):
                _tile(own, tiles[place])
            else:
                own.set_axis_off()
    heads = ["query", "nearest", *map(str, range(2, columns))][:columns]
    for own, head in zip(grid[0], heads, strict=True):
        own.set_title(head, fontsize=9, color=_FAINT, loc="left", pad=5)
    height = figure.get_figheight()
    for place, correct in enumerate((True, False)):
        color, mark = _MARKS[correct]
        words = "shares a label" if correct else "shares none"
        figure.text(
            0.01 + 1.5 * place / figure.get_figwidth(),
            0.12 / height,
            f"{mark} {words}",
            color=color,
            fontsize=9,
        )
    figure.subplots_adjust(0.01, 0.9 / height, 0.99, 1 - 0.26 / height, wspace=0.1, hspace=0.42)
    return figure


def _tile(axes: Axes, tile: Tile) -> None:
    """An image in its frame, with a mark (color alone would not reach everyone) and two lines of text under it."""
    color, mark = (_QUERY, "") if tile.distance is None else _MARKS[tile.correct]
    image = thumbnail(tile.pixels, _SIDE)
    axes.imshow(
        np.asarray(image), extent=(-image.width / 2, image.width / 2, -image.height / 2, image.height / 2)
    )
    axes.set(
        xlim=(-_SIDE / 2, _SIDE / 2), ylim=(-_SIDE / 2, _SIDE / 2), xticks=[], yticks=[], facecolor="#eef0f3"
    )
    for spine in axes.spines.values():
        spine.set(color=color, linewidth=2.5)
    if mark:
        disc = {"boxstyle": "circle,pad=0.25", "facecolor": color, "edgecolor": "white"}
        axes.text(0.9, 0.9, mark, color="white", ha="center", va="center", transform=axes.transAxes, bbox=disc,
                  fontsize=8, weight="bold")  # fmt: skip
    text = caption(tile.labels)
    text = text if len(text) <= _LETTERS else text[: _LETTERS - 1].rstrip(" ,") + "…"
    bits = "" if tile.distance is None else f"{tile.distance} bit{'s' * (tile.distance != 1)}"
    for line, (words, ink) in enumerate(((text, _INK), (bits, _FAINT))):
        axes.text(0, -0.06 - 0.13 * line, words, color=ink, fontsize=8, va="top", parse_math=False,
                  transform=axes.transAxes)  # fmt: skip
