"""The charts of a benchmark's page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from anglehash.benchmark.report.leaderboard import KINDS, Leaderboard
from anglehash.benchmark.report.scores import Score
from anglehash.report.figures import MARKERS, Chart, Line
from anglehash.report.values import first_split, number, numbers, sequence

Result = Mapping[str, Any]

_COLORS = (
    "c0",
    "c1",
    "c2",
    "c3",
)  # of the best three and the best untrained; all but the highlighted are grey
_DASHES: dict[str, Literal["solid", "dashed", "dotted"]] = {"deep": "solid", "classical": "dashed"}
_LEVELS = {"posterior_map": "posterior agreement", "class_id_map": "class-id code"}
_MOST, _SHALLOW = 10, 3  # lines in a chart, and conventional ones among them: the best are drawn


def charts_of(leaderboard: Leaderboard, result: Result) -> dict[str, Chart]:
    """The charts that a result has something for, by name: ``bits``, ``bytes``, ``recall``."""
    found = {
        "bits": by_bits(leaderboard, result),
        "bytes": by_bytes(leaderboard, result),
        "recall": precision_recall(leaderboard),
    }
    return {name: chart for name, chart in found.items() if chart}


def by_bits(leaderboard: Leaderboard, result: Result) -> Chart | None:
    """The mAP against code length, of two or more."""
    lengths = leaderboard.lengths
    names = [n for n in leaderboard.order if leaderboard.scores(n) and leaderboard.variants[n].trained]
    if len(lengths) < 2 or not names:
        return None
    names = _few(leaderboard, names)
    looks = _looks(leaderboard)
    lines = [_scores(name, leaderboard.scores(name), looks[name]) for name in names]
    lines += _levels(result, lengths[0], lengths[-1])
    return Chart("mAP by code length", "bits", "mAP", tuple(lines), base=2, ticks=tuple(lengths))


def by_bytes(leaderboard: Leaderboard, result: Result) -> Chart | None:
    """The mAP against size: what was not trained, what is highlighted, and the best of the others."""
    trained = leaderboard.best_first([n for n in leaderboard.order if leaderboard.variants[n].trained])
    chosen = [name for name in trained if leaderboard.highlighted(name)]
    chosen += [name for name in trained if name not in chosen][:3]
    others = [
        n for kind in ("baseline", "reference") for n in leaderboard.of_kind(kind) if leaderboard.by_bytes(n)
    ]
    if not others:
        return None
    looks = _looks(leaderboard)
    lines = [_scores(name, leaderboard.by_bytes(name), looks[name]) for name in (*chosen, *others)]
    if (found := numbers(first_split(result), "class_id_bytes", "class_id_map")) and found[0] > 0:
        lines.append(Line(_LEVELS["class_id_map"], (found[0],), (found[1],), "faint", marker="D"))
    sizes = [size for line in lines for size in line.x]
    lines += [own for own in _levels(result, min(sizes), max(sizes)) if own.name == _LEVELS["posterior_map"]]
    ticks = tuple(2.0**power for power in range(31))
    return Chart("mAP by bytes an image", "bytes an image", "mAP", tuple(lines), base=2, ticks=ticks)


def precision_recall(leaderboard: Leaderboard) -> Chart | None:
    """Precision against recall as the radius grows, of the first run at the example length."""
    curves, looks = {}, _looks(leaderboard)
    for name in leaderboard.order:
        cell = leaderboard.first_cell(name)
        if cell and (points := _curve(cell.all)):
            x, y = zip(*points, strict=True)
            curves[name] = Line(name, x, y, **{**looks[name], "marker": ""})
    lines = tuple(curves[name] for name in _few(leaderboard, list(curves)))
    return Chart("Precision against recall", "recall", "precision", lines, ends=False) if lines else None


def _few(leaderboard: Leaderboard, names: Sequence[str]) -> list[str]:
    """Where there are too many to follow, the highlighted and the best others, best first."""
    order = leaderboard.best_first(names)
    first = [name for name in order if leaderboard.highlighted(name)]
    others = [name for name in order if name not in first]
    shallow = [name for name in others if leaderboard.variants[name].kind == "classical"][:_SHALLOW]
    rest = [name for name in others if leaderboard.variants[name].kind != "classical"]
    few = {*first, *shallow, *rest[: max(_MOST - len(first) - len(shallow), 0)]}
    return [name for name in order if name in few]


def _scores(name: str, scores: Mapping[Any, Score], look: Mapping[str, Any]) -> Line:
    values = scores.values()
    means, spread = (tuple(own) for own in zip(*((one.mean, one.deviation) for one in values), strict=True))
    return Line(name, tuple(scores), means, spread=spread, **look)


def _looks(leaderboard: Leaderboard) -> dict[str, dict[str, Any]]:
    """How variants are drawn, in every chart alike: dash by kind, color where highlighted or among the best."""
    others = [name for name in leaderboard.order if not leaderboard.highlighted(name)]
    best = leaderboard.best_first(name for name in others if leaderboard.variants[name].trained)[:3]
    best += leaderboard.of_kind("baseline")[:1]
    colors = dict(zip(best, _COLORS, strict=False))
    return {
        name: {
            "color": "accent" if leaderboard.highlighted(name) else colors.get(name, "faint"),
            "dash": _DASHES.get(variant.kind, "dotted"),
            "marker": MARKERS[list(KINDS).index(variant.kind) if variant.kind in KINDS else 0],
        }
        for name, variant in leaderboard.variants.items()
    }


def _levels(result: Result, low: float, high: float) -> list[Line]:
    """The references of the first split, as lines from side to side."""
    levels = {name: number(first_split(result).get(key)) for key, name in _LEVELS.items()}
    return [
        Line(name, (low, high), (level, level), "faint", "dotted")
        for name, level in levels.items()
        if level is not None
    ]


def _curve(cell: Mapping[str, Any]) -> list[tuple[float, float]]:
    """Recall and precision of the balls of a cell that found something."""
    points: list[tuple[float, float]] = []
    for ball in sequence(cell.get("precision_recall")):
        known = numbers(ball, "precision", "recall")
        if (
            known
            and known[1] > 0
            and 0 <= known[0] <= 1
            and (not points or known[1] - points[-1][0] >= 0.004)
        ):
            points.append((known[1], known[0]))
    return points
