"""The report of an evaluation: one HTML file that needs nothing else, neither network nor script.

It shows what ``anglehash evaluate`` measured. A key that the result lacks leaves out its part of the page,
and a key that the page does not know is listed as it is.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from importlib.resources import files
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from anglehash.files import refuse_existing, write_atomic
from anglehash.serve.markup import Markup, join, tag
from anglehash.serve.pictures import Row, Tile, caption, thumbnail, to_png
from anglehash.serve.report.sections import figure, sections

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"  # no script, no other host
_SIDE = 160  # pixels of a photo's longer side; the page shows it smaller, for screens with fine pixels

_KINDS = {True: ("right answer", "✓"), False: ("wrong answer", "✗"), None: ("answer", "")}


def write_report(
    path: Path, result: Mapping[str, Any], rows: Sequence[Row] = (), *, force: bool = False
) -> None:
    """Write the report of an evaluation as one HTML file.

    Args:
        path: the new file.
        result: what the evaluation returned, or its JSON.
        rows: some queries and their answers, shown with their images.
        force: replace a file that is there.

    Raises:
        OutputExistsError: ``path`` exists and ``force`` is not set.
    """
    refuse_existing(path, force=force)
    write_atomic(path, render(result, rows).encode())


def render(result: Mapping[str, Any], rows: Sequence[Row] = ()) -> str:
    """The page of :func:`write_report`."""
    style = files(__name__).joinpath("style.css").read_text(encoding="utf-8")
    name = f"{result.get('protocol') or 'evaluation'}"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", f"{name}: mAP {figure(result.get('map'))} · anglehash"),
        tag("style", Markup(style)),
    )
    header = tag(
        "header",
        tag("p", "anglehash · retrieval report", class_="kicker"),
        tag("h1", name),
        tag("p", _subtitle(result), class_="subtitle"),
    )
    footer = tag("footer", f"Written by anglehash {version('anglehash')}.")
    page = tag("main", header, *sections(result, answers=_answers(rows)), footer)
    return f"<!doctype html>\n{tag('html', head, tag('body', page), lang='en')}\n"


def _subtitle(result: Mapping[str, Any]) -> str:
    parts = {"bits": "{}-bit codes", "method": "{}", "backbone": "{}", "size": "{} px", "dataset": "{}"}
    return " · ".join(form.format(result[key]) for key, form in parts.items() if result.get(key) is not None)


def _answers(rows: Sequence[Row]) -> Markup:
    """Queries and their answers, side by side."""
    if not rows:
        return join()
    groups = [
        tag(
            "div",
            _tile(row.query),
            tag("ol", *(tag("li", _tile(answer)) for answer in row.answers)),
            class_="answers",
        )
        for row in rows
    ]
    return tag("section", tag("h2", "Some queries and their answers"), *groups)


def _tile(tile: Tile) -> Markup:
    kind, mark = _KINDS[tile.correct]
    note = f"{tile.distance} bit{'s' * (tile.distance != 1)}"
    if tile.distance is None:
        kind, mark, note = "query", "", "query"
    labels = caption(tile.labels)
    return tag(
        "figure",
        _image(tile.pixels, f"{kind}: {labels}"),
        tag("span", mark, class_="mark", aria_hidden="true"),
        tag("figcaption", labels, tag("small", note)),
        class_=kind.split()[0],
        title=tile.id or None,
    )


def _image(pixels: NDArray[np.uint8], spoken: str) -> Markup:
    """A small scan keeps its pixels, as PNG; a photo is a JPEG, shrunk where it is large."""
    longer = max(pixels.shape[:2])
    if scan := 2 * longer <= _SIDE:
        kind, data = "png", to_png(Image.fromarray(pixels))
    else:
        stream = BytesIO()
        thumbnail(pixels, min(longer, _SIDE)).save(stream, "JPEG", quality=85)
        kind, data = "jpeg", stream.getvalue()
    source = f"data:image/{kind};base64,{b64encode(data).decode()}"
    return tag("img", src=source, alt=spoken, loading="lazy", class_="scan" if scan else None)
