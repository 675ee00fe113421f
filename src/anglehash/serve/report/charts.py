"""Line charts as inline SVG, colored by the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from anglehash.serve.markup import Markup, join, tag

# The drawing is 420 x 300 units; the plot lies inside these margins.
_WIDTH, _HEIGHT = 420, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 54, 16, 22, 46
_QUARTERS = (0.0, 0.25, 0.5, 0.75, 1.0)


class Point(NamedTuple):
    """A point of a line; both coordinates are in [0, 1]."""

    x: float
    y: float
    note: str
    """What the point says when it is pointed at."""
    mark: str = ""
    """Written beside the point."""


class Axis(NamedTuple):
    """The horizontal axis: its name, and (place in [0, 1], text) of each tick."""

    name: str
    ticks: Sequence[tuple[float, str]]


SHARE = tuple((quarter, f"{quarter:g}") for quarter in _QUARTERS)
"""The ticks of an axis that is itself a share in [0, 1]."""


def line_chart(title: str, lines: Mapping[str, Sequence[Point]], axis: Axis, *, y_name: str) -> Markup:
    """Lines through points, over a vertical axis from 0 to 1.

    Args:
        title: what the chart shows, read out in its place.
        lines: the points of each line, from left to right, by the line's name.
        axis: the horizontal axis.
        y_name: name of the vertical axis.
    """
    drawn = [_line(number, points) for number, points in enumerate(lines.values())]
    legend = [_legend(number, name) for number, name in enumerate(lines)] if len(lines) > 1 else []
    return _svg(title, _grid(axis, y_name), *drawn, *legend)


def _svg(title: str, *content: Markup) -> Markup:
    return tag("svg", tag("title", title), *content, viewBox=f"0 0 {_WIDTH} {_HEIGHT}", role="img")


def _grid(axis: Axis, y_name: str) -> Markup:
    bottom, middle = _y(0), (_TOP + _y(0)) / 2
    parts = [
        join(
            tag("line", x1=_x(0), x2=_x(1), y1=_y(quarter), y2=_y(quarter), class_="grid"),
            tag("text", f"{quarter:g}", x=_x(0) - 8, y=_y(quarter) + 4, class_="end"),
        )
        for quarter in _QUARTERS
    ]
    parts += [tag("text", text, x=_x(at), y=bottom + 18, class_="middle") for at, text in axis.ticks]
    parts.append(tag("text", axis.name, x=_x(0.5), y=_HEIGHT - 8, class_="middle name"))
    turned = f"rotate(-90 12 {middle})"
    parts.append(tag("text", y_name, x=12, y=middle, transform=turned, class_="middle name"))
    return join(*parts)


def _line(number: int, points: Sequence[Point]) -> Markup:
    path = " ".join(f"{_x(point.x)},{_y(point.y)}" for point in points)
    dots = [
        tag("circle", tag("title", point.note), cx=_x(point.x), cy=_y(point.y), r=3.5, class_=f"dot{number}")
        for point in points
    ]
    return join(tag("polyline", points=path, class_=f"line{number}"), *dots, *_marks(points))


def _marks(points: Sequence[Point]) -> list[Markup]:
    """What is written beside the points, where it does not run into what is written already."""
    written: list[Point] = []
    for point in points:
        if point.mark and all(math.dist(point[:2], other[:2]) > 0.12 for other in written):
            written.append(point)
    return [tag("text", point.mark, x=_x(point.x) + 6, y=_y(point.y) - 8) for point in written]


def _legend(number: int, name: str) -> Markup:
    x = _LEFT + 110 * number
    return join(
        tag("line", x1=x, x2=x + 18, y1=9, y2=9, class_=f"line{number}"),
        tag("text", name, x=x + 25, y=13),
    )


def _x_span() -> int:
    return _WIDTH - _LEFT - _RIGHT


def _y_span() -> int:
    return _HEIGHT - _TOP - _BOTTOM


def _x(share: float) -> float:
    return round(_LEFT + share * _x_span(), 2)


def _y(share: float) -> float:
    return round(_HEIGHT - _BOTTOM - share * _y_span(), 2)
