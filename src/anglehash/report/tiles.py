"""Images inside a page, with what is known of them."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from anglehash.report.html import Markup, tag
from anglehash.report.pictures import Tile, caption, thumbnail, to_png

_SIDE = 160  # pixels of a photo's longer side; the page shows it smaller, for screens with fine pixels
_KINDS = {True: ("right answer", "✓"), False: ("wrong answer", "✗"), None: ("answer", "")}


def query_tile(tile: Tile) -> Markup:
    """The image that was asked with."""
    return _tile(tile, "query", mark="", note="query")


def answer_list(tiles: Sequence[Tile]) -> Markup:
    """Answers, nearest first; right and wrong differ by a tick and a cross, not by color alone."""
    return tag("ol", *(tag("li", _answer(tile)) for tile in tiles))


def _answer(tile: Tile) -> Markup:
    kind, mark = _KINDS[tile.correct]
    if tile.distance is None:
        return _tile(tile, kind, mark=mark, note="")
    return _tile(tile, kind, mark=mark, note=f"{tile.distance} bit{'s' * (tile.distance != 1)}")


def _tile(tile: Tile, kind: str, *, mark: str, note: str) -> Markup:
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
