"""The charts of a benchmark's page, and one of how a cost grows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from anglehash.serve.markup import Markup, join, tag
from anglehash.serve.report.charts import MARKERS, Axis, Key, Line, Look, Point, Size, line_chart
from anglehash.serve.report.parts import style
from anglehash.serve.report.scales import SHARE, linear, listed, logarithmic
from anglehash.serve.report.standings import KINDS, Score, Standings
from anglehash.serve.report.values import figure, in_bytes, mapping, number, numbers, sequence
from anglehash.serve.report.verdict import headline_variant

_COLORS, _OURS = 10, 4  # so many colors are in charts.css
_DASHES = {"deep": "", "shallow": "dashed", "rival": "dotted"}
_WIDE, _NARROW = Size(900, 520, right=190), Size(350, 330, right=12, left=46)
_BELOW: Key = "below"
_LEVELS = {"ceiling": "posterior agreement", "class_id_map": "class-id code"}
_LONGEST = {_WIDE: 26, _NARROW: 19}  # letters of a name in the key


def looks(standings: Standings) -> dict[str, Look]:
    """How each variant is drawn, in every chart alike: color and marker by variant, dash by kind."""
    found: dict[str, Look] = {}
    first = headline_variant(standings)
    ours = [name for name in standings.order if standings.variants[name].ours]
    ours.sort(key=lambda name: name != first)
    for index, name in enumerate(ours):
        found[name] = Look(f"ours{index % _OURS}", "", index % MARKERS, hollow=index >= _OURS)
    for shift, kind in enumerate((*KINDS, None)):
        others = [name for name in standings.of_kind(kind) if name not in found]
        for index, name in enumerate(others):
            dash, turn = _DASHES.get(kind or "", "dotted"), index + 2 * shift
            found[name] = Look(f"c{turn % _COLORS}", dash, turn % MARKERS, hollow=index >= _COLORS)
    return found


def by_bits(standings: Standings, result: Mapping[str, Any]) -> Markup:
    """The mAP against code length."""
    if not standings.lengths:
        return join()
    styles, lines = looks(standings), []
    for name in standings.order:
        scores = standings.scores(name)
        if scores and standings.variants[name].kind not in ("rival", "reference"):
            lines.append(
                Line(
                    name,
                    [_point(name, f"{bits:,} bits", bits, own) for bits, own in scores.items()],
                    styles[name],
                )
            )
    x = listed(standings.lengths)
    lines += _levels(result, x.low, x.high)
    y = linear(_reach(lines), about=6)
    return _both("mAP by code length", lines, Axis("bits", x), Axis("mAP", y), key="ends")


def by_bytes(standings: Standings, result: Mapping[str, Any], *, most: int = 3) -> Markup:
    """The mAP against size: what was not trained, AnDSH, and the best of the others."""
    trained = [name for kind in ("deep", "shallow", None) for name in standings.of_kind(kind)]
    chosen = [name for name in trained if standings.variants[name].ours]
    chosen += [name for name in trained if name not in chosen][:most]
    rivals = [
        n for n in (*standings.of_kind("rival"), *standings.of_kind("reference")) if standings.by_bytes(n)
    ]
    if not rivals:
        return join()
    styles = looks(standings)
    lines = [
        Line(
            n,
            [_point(n, in_bytes(size), size, score) for size, score in standings.by_bytes(n).items()],
            styles[n],
        )
        for n in (*chosen, *rivals)
    ]
    lines = sorted(lines, key=lambda line: -max((point.y for point in line.points), default=0.0))
    split = _first_split(result)
    if found := numbers(split, "class_id_bytes", "class_id_map"):
        size, score = found
        if size > 0:
            note = f"class-id code, {in_bytes(size)}: {figure(score)}"
            lines.append(Line("class-id code", [Point(size, score, note)], Look("faint", "", 3)))
    x = logarithmic((point.x for line in lines for point in line.points), base=2)
    lines += [line for line in _levels(result, x.low, x.high) if line.name == _LEVELS["ceiling"]]
    y = Axis("mAP", linear(_reach(lines), about=6))
    return _both("mAP by bytes an image", lines, Axis("bytes an image", x), y, key="list")


def precision_recall(standings: Standings) -> Markup:
    """Precision against recall as the radius grows, of the first seed at the example length."""
    styles, lines = looks(standings), []
    for name in standings.order:
        cells = standings.at(name, standings.example)
        points = _curve(name, cells[0].all) if cells else []
        if points:
            lines.append(Line(name, points, styles[name]))
    if not lines:
        return join()
    x, y = Axis("recall", SHARE), Axis("precision", linear(_reach(lines)))
    return _both("Precision against recall", lines, x, y, key="list")


def growth_chart(
    title: str, lines: Mapping[str, Sequence[tuple[float, float]]], *, x_name: str, y_name: str = "seconds"
) -> Markup:
    """How a cost grows: lines over two logarithmic axes, as an SVG that stands alone.

    Args:
        title: what the chart shows, read out in its place.
        lines: name -> (x, y) pairs from left to right; those that are not positive are left out.
        x_name: what grows, as "training images".
        y_name: the cost and its unit.

    Returns:
        The text of an SVG file, with its own colors for light and dark.
    """
    drawn = []
    for turn, (name, pairs) in enumerate(lines.items()):
        points = [Point(x, y, f"{name}, {x:,g}: {y:,.3g}") for x, y in pairs if x > 0 and y > 0]
        look = Look(f"c{turn % _COLORS}", "", turn % MARKERS, hollow=turn >= _COLORS)
        if name.casefold().startswith("andsh"):
            look = look._replace(color="ours0")
        drawn.append(Line(name, points, look))
    known = [point for line in drawn for point in line.points]
    x, y = listed(sorted({point.x for point in known})), logarithmic(point.y for point in known)
    size = Size(760, 420, right=170, left=64)
    chart = line_chart(title, drawn, Axis(x_name, x), Axis(y_name, y), size=size, key="ends")
    own = join(
        tag("style", style("alone.css"), style("charts.css")), tag("rect", width="100%", height="100%", rx=10)
    )
    opening, _, rest = chart.partition("<title>")
    opening = opening.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"')
    first, _, rest = rest.partition("</title>")
    return Markup(f"{opening}<title>{first}</title>{own}{rest}\n")


def _point(name: str, where: str, x: float, score: Score) -> Point:
    deviation = f" ± {figure(score.deviation)}" if score.seeds > 1 else ""
    return Point(x, score.mean, f"{name}, {where}: {figure(score.mean)}{deviation}", spread=score.deviation)


def _reach(lines: Iterable[Line]) -> list[float]:
    """How far the lines reach up and down, error bars included."""
    return [p.y + way * p.spread for line in lines for p in line.points for way in (-1, 1)]


def _levels(result: Mapping[str, Any], low: float, high: float) -> list[Line]:
    """The references of the first split, as lines from side to side."""
    split = _first_split(result)
    levels = {name: number(split.get(key)) for key, name in _LEVELS.items()}
    look = Look("faint", "dashed")
    return [
        Line(name, [Point(low, level), Point(high, level)], look)
        for name, level in levels.items()
        if level is not None
    ]


def _first_split(result: Mapping[str, Any]) -> Mapping[str, Any]:
    return mapping(next(iter(sequence(result.get("splits"))), None))


def _curve(name: str, cell: Mapping[str, Any]) -> list[Point]:
    """The balls of a cell that found something; a marker about every tenth of the way."""
    points: list[Point] = []
    marked = -1.0
    for ball in sequence(cell.get("precision_recall")):
        known = numbers(ball, "radius", "precision", "recall")
        if not known or known[2] <= 0 or not 0 <= known[1] <= 1:
            continue  # nothing within the radius of any query: there is no precision to speak of
        radius, precision, recall = known
        note = ""
        if recall - marked >= 0.1:
            note = f"{name}, radius {radius:g}: precision {figure(precision)}, recall {figure(recall)}"
            marked = recall
        if note or not points or recall - points[-1].x >= 0.004:
            points.append(Point(recall, precision, note))
    return points


def _both(title: str, lines: Sequence[Line], x: Axis, y: Axis, *, key: Key) -> Markup:
    """A chart for wide screens and the same for narrow ones; the style sheet shows one of them."""
    charts = []
    for name, size, place in (("wide", _WIDE, key), ("narrow", _NARROW, _BELOW)):
        short = [line._replace(name=_short(line.name, _LONGEST[size])) for line in lines]
        charts.append(tag("div", line_chart(title, short, x, y, size=size, key=place), class_=name))
    return tag("figure", *charts, class_="plot")


def _short(name: str, most: int) -> str:
    return name if len(name) <= most else name[: most - 1].rstrip() + "…"
