"""Line charts as inline SVG, colored by ``charts.css``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

from anglehash.serve.markup import Markup, join, tag
from anglehash.serve.report.scales import Scale

_PITCH = 15  # units from one entry of the key to the next
_LETTER = 7  # units that a letter is wide, about
_MARKERS: tuple[tuple[tuple[float, float], ...], ...] = (  # the first, (), is a circle
    (),
    ((-3.4, -3.4), (3.4, -3.4), (3.4, 3.4), (-3.4, 3.4)),
    ((0, -4.6), (4.4, 3.4), (-4.4, 3.4)),
    ((0, -5), (5, 0), (0, 5), (-5, 0)),
    ((0, 4.6), (4.4, -3.4), (-4.4, -3.4)),
)
MARKERS = len(_MARKERS)
"""So many forms of points."""


class Point(NamedTuple):
    """A point of a line, in the units of the axes."""

    x: float
    y: float
    note: str = ""
    """What the point says when it is pointed at; a point without a note has no marker."""
    mark: str = ""
    """Written beside the point."""
    spread: float = 0.0
    """The error bar reaches so far up and down."""


class Look(NamedTuple):
    """How a line looks; the classes are those of ``charts.css``."""

    color: str = "accent"
    dash: str = ""
    marker: int = 0
    hollow: bool = False


PLAIN = (Look("accent"), Look("c0"), Look("c2"), Look("c4"))
"""For a handful of lines."""


class Line(NamedTuple):
    """Points from left to right, under one name."""

    name: str
    points: Sequence[Point]
    look: Look = PLAIN[0]


class Axis(NamedTuple):
    """What an axis measures, and from where to where."""

    name: str
    scale: Scale


class Size(NamedTuple):
    """The drawing and its margins, in units; the plot lies inside the margins."""

    width: float = 420
    height: float = 300
    right: float = 16
    left: float = 54
    top: float = 22
    bottom: float = 46


Key = Literal["top", "ends", "list", "below"]


def line_chart(
    title: str, lines: Sequence[Line], x: Axis, y: Axis, *, size: Size | None = None, key: Key = "top"
) -> Markup:
    """Lines through points.

    Args:
        title: what the chart shows, read out in its place.
        lines: what is drawn; a single one needs no key.
        x: the horizontal axis.
        y: the vertical axis.
        size: of the drawing; it grows downwards where the key needs more room.
        key: where the names stand: over the plot side by side, or to the right of it, each as near to
            the end of its line as the others allow (``ends``), or in the order given (``list``); or under
            the plot in two columns (``below``).
    """
    size = size or Size()
    if key == "below":
        more = 12 + _PITCH * math.ceil(len(lines) / 2) * (len(lines) > 1)
        size = size._replace(height=size.height + more, bottom=size.bottom + more)
    elif key != "top":
        size = size._replace(height=max(size.height, size.top + size.bottom + _PITCH * len(lines)))
    plot = _Plot(size, x.scale, y.scale)
    entries = [join()] * len(lines) if len(lines) < 2 else _key(plot, lines, key)
    drawn = [_line(plot, line, entry) for line, entry in zip(lines, entries, strict=True)]
    box = f"0 0 {size.width:g} {size.height:g}"
    return tag("svg", tag("title", title), _grid(plot, x, y), *drawn, viewBox=box, role="img", class_="chart")


class _Plot(NamedTuple):
    """Where values lie in the drawing."""

    size: Size
    x: Scale
    y: Scale

    def at(self, x: float, y: float) -> tuple[float, float]:
        return self.across(self.x.place(x)), self.up(self.y.place(y))

    def across(self, share: float) -> float:
        size = self.size
        return round(size.left + share * (size.width - size.left - size.right), 1)

    def up(self, share: float) -> float:
        size = self.size
        return round(size.height - size.bottom - share * (size.height - size.top - size.bottom), 1)


def _grid(plot: _Plot, x: Axis, y: Axis) -> Markup:
    left, right, bottom, middle = plot.across(0), plot.across(1), plot.up(0), plot.up(0.5)
    heights = [(plot.up(y.scale.place(value)), text) for value, text in y.scale.ticks]
    parts = [
        join(
            tag("line", x1=left, x2=right, y1=height, y2=height, class_="grid"),
            tag("text", text, x=left - 8, y=height + 4, class_="end"),
        )
        for height, text in heights
    ]
    free = -math.inf  # a text that would run into the one before it is left out
    for value, text in x.scale.ticks:
        at, half = plot.across(x.scale.place(value)), _LETTER * len(text) / 2
        parts.append(tag("line", x1=at, x2=at, y1=bottom, y2=bottom + 4, class_="grid"))
        if at - half >= free:
            parts.append(tag("text", text, x=at, y=bottom + 18, class_="middle"))
            free = at + half + 4
    parts.append(tag("text", x.name, x=plot.across(0.5), y=bottom + 38, class_="middle name"))
    turned = f"rotate(-90 12 {middle})"
    parts.append(tag("text", y.name, x=12, y=middle, transform=turned, class_="middle name"))
    return join(*parts)


def _line(plot: _Plot, line: Line, entry: Markup) -> Markup:
    places = [plot.at(point.x, point.y) for point in line.points]
    path = " ".join(f"{x:g},{y:g}" for x, y in places)
    parts = [tag("polyline", points=path), *_bars(plot, line.points)]
    for point, place in zip(line.points, places, strict=True):
        if point.note:
            parts.append(_marker(line.look, place, tag("title", point.note)))
    return tag("g", *parts, *_marks(plot, line.points), entry, class_=_classes(line.look))


def _classes(look: Look) -> str:
    return " ".join(filter(None, ("series", look.color, look.dash, "hollow" if look.hollow else "")))


def _bars(plot: _Plot, points: Sequence[Point]) -> list[Markup]:
    bars = []
    for point in points:
        if point.spread > 0:
            (x, low), (_, high) = (plot.at(point.x, point.y + way * point.spread) for way in (-1, 1))
            bars.append(tag("path", d=f"M{x - 3:g},{high:g}h6m-3,0V{low:g}m-3,0h6", class_="error"))
    return bars


def _marker(look: Look, place: tuple[float, float], *content: Markup) -> Markup:
    x, y = place
    corners = _MARKERS[look.marker % MARKERS]
    if not corners:
        return tag("circle", *content, cx=x, cy=y, r=3.6, class_="dot")
    points = " ".join(f"{x + dx:g},{y + dy:g}" for dx, dy in corners)
    return tag("polygon", *content, points=points, class_="dot")


def _marks(plot: _Plot, points: Sequence[Point]) -> list[Markup]:
    """What is written beside the points, where it does not run into what is written already."""
    written: list[tuple[float, float, str]] = []
    for point in points:
        place = plot.at(point.x, point.y)
        if point.mark and all(math.dist(place, other[:2]) > 36 for other in written):
            written.append((*place, point.mark))
    return [tag("text", mark, x=x + 6, y=y - 8) for x, y, mark in written]


def _key(plot: _Plot, lines: Sequence[Line], key: Key) -> list[Markup]:
    """The entries of the key, one a line."""
    size = plot.size
    if key == "top":
        return [_entry(line, size.left + 110 * number, 9) for number, line in enumerate(lines)]
    if key == "below":
        rows = math.ceil(len(lines) / 2)
        places = [(number // rows * size.width / 2 + 4, number % rows) for number in range(len(lines))]
        top = plot.up(0) + 62
        return [_entry(line, x, top + _PITCH * row) for line, (x, row) in zip(lines, places, strict=True)]
    heights = [size.top + _PITCH * (number + 0.5) for number in range(len(lines))]
    ends = [plot.at(*line.points[-1][:2]) if line.points else (0.0, 0.0) for line in lines]
    if key == "ends":
        heights = spread([y for _, y in ends], _PITCH, size.top, size.height - size.bottom)
    edge = size.width - size.right
    entries = []
    for line, height, (x, y) in zip(lines, heights, ends, strict=True):
        led = key == "ends" and edge - x < 40  # a longer leader would cross other lines
        leader = tag("path", d=f"M{x + 6:g},{y:g}L{edge + 10:g},{height:g}", class_="leader")
        entries.append(join(leader if led else join(), _entry(line, edge + 12, height)))
    return entries


def _entry(line: Line, x: float, y: float) -> Markup:
    sample = tag("line", x1=x, x2=x + 22, y1=y, y2=y, class_="sample")
    marked = any(point.note for point in line.points)
    marker = _marker(line.look, (x + 11, y)) if marked else join()
    return join(sample, marker, tag("text", line.name, x=x + 28, y=y + 4, class_="key"))


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    r"""Places at least ``gap`` apart, as near as possible to those wanted.

    With :math:`u_i` the wanted places in order, minimise :math:`\sum (p_i - u_i)^2` under
    :math:`p_{i+1} - p_i \ge gap`: an isotonic regression of :math:`u_i - i\,gap`, solved by pooling
    neighbours that are out of order into their mean. Then all are kept between ``low`` and ``high``.

    Two wish for 10: they part around it.

    >>> spread([10, 30, 10], 4, 0, 100)
    [8.0, 30.0, 12.0]
    """
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    pools: list[list[float]] = []
    for place, i in enumerate(order):
        pools.append([wanted[i] - place * gap])
        while len(pools) > 1 and _mean(pools[-2]) > _mean(pools[-1]):
            pools[-2:] = [pools[-2] + pools[-1]]
    level = [_mean(pool) for pool in pools for _ in pool]
    top = max(high - (len(wanted) - 1) * gap, low)
    found = [0.0] * len(wanted)
    for place, i in enumerate(order):
        found[i] = min(max(level[place], low), top) + place * gap
    return found


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
