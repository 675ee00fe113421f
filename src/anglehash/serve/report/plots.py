"""The charts of a benchmark's page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from anglehash.serve.markup import Markup, join, tag
from anglehash.serve.report.charts import MARKERS, Axis, Key, Line, Look, Point, Size, line_chart
from anglehash.serve.report.scales import SHARE, Scale, linear, listed, logarithmic
from anglehash.serve.report.scores import Score
from anglehash.serve.report.standings import KINDS, Standings
from anglehash.serve.report.values import figure, first_split, in_bytes, number, numbers, sequence
from anglehash.serve.report.verdict import headline_variant

_COLORS, _OURS = 10, 4  # so many colors are in charts.css
_DASHES = {"deep": "", "shallow": "dashed", "rival": "dotted"}
_WIDE, _NARROW = Size(900, 520, right=190), Size(350, 330, right=12, left=54)
_LOW = 260  # height of a chart of few lines
_BELOW: Key = "below"
_LEVELS = {"ceiling": "posterior agreement", "class_id_map": "class-id code"}
_CROWD = 8  # so many lines may share a chart, however they lie
_MOST, _DEEP, _SHALLOW = 12, 5, 3  # of more curves than 12, the best of each kind are drawn
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
    """The mAP against code length, of two or more; in two parts where many lines crowd far above a few others."""
    if len(standings.lengths) < 2:
        return join()
    styles, lines = looks(standings), []
    for name in standings.order:
        scores = standings.scores(name)
        if scores and standings.variants[name].trained:
            points = [_point(name, f"{bits:,} bits", bits, own) for bits, own in scores.items()]
            lines.append(Line(name, points, styles[name]))
    x = listed(standings.lengths)
    upper, lower = bands(lines)
    levels = _levels(result, x.low, x.high)
    charts = [_by_bits("mAP by code length", upper, levels, x)]
    if lower:
        low = max(_reach(lower))
        beneath = [line for line in levels if line.points[0].y <= low]
        charts = [_by_bits("mAP by code length", upper, [one for one in levels if one not in beneath], x)]
        charts.append(_by_bits("mAP by code length, the rest", lower, beneath, x, height=_LOW))
        words = (
            f"The {len(lower)} variants far below the others have a chart of their own, with its own axis."
        )
        charts.append(tag("p", words, class_="note"))
    return join(*charts)


def _by_bits(
    title: str, lines: Sequence[Line], levels: Sequence[Line], x: Scale, *, height: float | None = None
) -> Markup:
    every = [*lines, *levels]
    y = linear(_reach(every), about=6 if height is None else 4)
    return _both(title, every, Axis("bits", x), Axis("mAP", y), key="ends", height=height)


def bands(lines: Sequence[Line]) -> tuple[list[Line], list[Line]]:
    """The lines above and those below the widest gap between them; all are above where one chart shows them well.

    It does not where there are more than eight, and the gap takes more than a quarter of the height.
    """
    reach = {index: _reach([line]) for index, line in enumerate(lines) if line.points}
    if len(reach) <= _CROWD:
        return list(lines), []
    order = sorted(reach, key=lambda index: -min(reach[index]))
    height = max(map(max, reach.values())) - min(reach[order[-1]])
    gaps = {  # below so many lines
        n: min(reach[order[n - 1]]) - max(max(reach[index]) for index in order[n:])
        for n in range(1, len(order))
    }
    n = max(gaps, key=lambda n: gaps[n])
    below = set(order[n:]) if gaps[n] > height / 4 else set()
    return (
        [line for index, line in enumerate(lines) if index not in below],
        [line for index, line in enumerate(lines) if index in below],
    )


def by_bytes(standings: Standings, result: Mapping[str, Any]) -> Markup:
    """The mAP against size: what was not trained, AnDSH, and the best of the others."""
    trained = standings.best_first([n for n in standings.order if standings.variants[n].trained])
    chosen = [name for name in trained if standings.variants[name].ours]
    chosen += [name for name in trained if name not in chosen][:3]
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
    split = first_split(result)
    if found := numbers(split, "class_id_bytes", "class_id_map"):
        size, score = found
        if size > 0:
            note = f"class-id code, {in_bytes(size)}: {figure(score)}"
            lines.append(Line("class-id code", [Point(size, score, note)], Look("faint", "", 3)))
    x = logarithmic((point.x for line in lines for point in line.points), base=2)
    lines += [line for line in _levels(result, x.low, x.high) if line.name == _LEVELS["ceiling"]]
    y = Axis("mAP", linear(_reach(lines), about=6))
    chart = _both("mAP by bytes an image", lines, Axis("bytes an image", x), y, key="list")
    words = "AnDSH and the best three of the other trained methods (by mean over the lengths), and all untrained ones."
    return join(chart, tag("p", words, class_="note"))


def precision_recall(standings: Standings) -> Markup:
    """Precision against recall as the radius grows, of the first seed at the example length."""
    styles, curves = looks(standings), {}
    for name in standings.order:
        cell = standings.first_cell(name)
        if cell and (points := _curve(name, cell.all)):
            curves[name] = Line(name, points, styles[name])
    if not curves:
        return join()
    few = _few(standings, list(curves))
    lines = [line for name, line in curves.items() if name in few]
    x, y = Axis("recall", SHARE), Axis("precision", linear(_reach(lines)))
    words = (
        "All images within r bits of each query, r growing along the line; a query without any within r counts as "
        f"precision 0. Of the first {standings.run}."
    )
    if len(few) < len(curves):
        words += f" AnDSH, and the best {_DEEP} deep and {_SHALLOW} conventional methods (by mean over the lengths)."
    chart = _both("Precision against recall", lines, x, y, key="list")
    return join(chart, tag("p", words, class_="note"))


def _few(standings: Standings, names: Sequence[str]) -> set[str]:
    """Those that are drawn where there are too many to follow: AnDSH, and the best of each kind."""
    if len(names) <= _MOST:
        return set(names)
    few = {name for name in names if standings.variants[name].ours}
    for kind, most in (("deep", _DEEP), ("shallow", _SHALLOW)):
        few.update([name for name in standings.of_kind(kind) if name in names and name not in few][:most])
    return few


def _point(name: str, where: str, x: float, score: Score) -> Point:
    deviation = f" ± {figure(score.deviation)}" if score.runs > 1 else ""
    return Point(x, score.mean, f"{name}, {where}: {figure(score.mean)}{deviation}", spread=score.deviation)


def _reach(lines: Iterable[Line]) -> list[float]:
    """How far the lines reach up and down, error bars included."""
    return [p.y + way * p.spread for line in lines for p in line.points for way in (-1, 1)]


def _levels(result: Mapping[str, Any], low: float, high: float) -> list[Line]:
    """The references of the first split, as lines from side to side."""
    split = first_split(result)
    levels = {name: number(split.get(key)) for key, name in _LEVELS.items()}
    dashes = dict(zip(_LEVELS.values(), ("dashed", "dotted"), strict=True))
    return [
        Line(name, [Point(low, level), Point(high, level)], Look("faint", dashes[name]))
        for name, level in levels.items()
        if level is not None
    ]


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


def _both(
    title: str, lines: Sequence[Line], x: Axis, y: Axis, *, key: Key, height: float | None = None
) -> Markup:
    """A chart for wide screens and the same for narrow ones; the style sheet shows one of them."""
    charts = []
    for name, size, place in (("wide", _WIDE, key), ("narrow", _NARROW, _BELOW)):
        short = [line._replace(name=_short(line.name, _LONGEST[size])) for line in lines]
        own = size._replace(height=height or size.height)
        charts.append(tag("div", line_chart(title, short, x, y, size=own, key=place), class_=name))
    return tag("figure", *charts, class_="plot")


def _short(name: str, most: int) -> str:
    return name if len(name) <= most else name[: most - 1].rstrip() + "…"
