"""The classes of a benchmark, by variant: a heat table, or the spread of many classes; of the first run."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import mean, quantiles

from anglehash.benchmark.report.leaderboard import Leaderboard
from anglehash.report.components import scrolled, table
from anglehash.report.html import Markup, join, tag
from anglehash.report.values import figure, mapping, number

_FEW = 24  # most classes of one table; of more, their spread
_LEVEL = 12  # above this many, the names of classes are turned


def class_table(leaderboard: Leaderboard) -> Markup:
    """The mAP of each class by variant, at the example length: a heat table, or the spread of many classes."""
    scores = {name: _per_class(leaderboard, name) for name in leaderboard.order}
    scores = {name: own for name, own in scores.items() if own}
    classes = {cls for own in scores.values() for cls in own}
    if not classes:
        return join()
    if len(classes) > _FEW:
        return scrolled(_spread_table(leaderboard, scores))
    means = {cls: mean(own[cls] for own in scores.values() if cls in own) for cls in classes}
    order = sorted(means, key=lambda cls: (-means[cls], cls))
    values = [value for own in scores.values() for value in own.values()]
    low, high = min(values), max(values)
    rows = [
        tag(
            "tr",
            tag("th", name, scope="row"),
            *(_heat(own.get(cls), low, high) for cls in order),
            class_="marked" if leaderboard.highlighted(name) else None,
        )
        for name, own in scores.items()
    ]
    turned = "turned" if len(order) > _LEVEL else None
    names = [tag("th", tag("span", cls), scope="col", class_=turned) for cls in order]
    head = tag("tr", tag("td"), *names)
    words = (
        f"mAP of the queries of a class, of the first {leaderboard.run}; the color goes from {figure(low)} to "
        f"{figure(high)}. Easiest class first."
    )
    body = tag("thead", head), tag("tbody", *rows)
    return scrolled(tag("table", tag("caption", tag("span", words)), *body, class_="heat"))


def _heat(value: float | None, low: float, high: float) -> Markup:
    if value is None:
        return tag("td", "–")
    share = (value - low) / (high - low) if high > low else 0.5
    return tag("td", f"{value:.2f}".removeprefix("0"), style=f"--share: {share:.3f}")


def _spread_table(leaderboard: Leaderboard, scores: Mapping[str, Mapping[str, float]]) -> Markup:
    head = ("", "0 to 1", "worst", "quarter", "median", "quarter", "best")
    words = (
        f"mAP of the classes, of the first {leaderboard.run}: the line goes from the worst to the best, the "
        "box holds the middle half, its mark is the median"
    )
    rows = [_spread_row(name, own, marked=leaderboard.highlighted(name)) for name, own in scores.items()]
    return table(words, head, rows, class_="spread")


def _spread_row(name: str, own: Mapping[str, float], *, marked: bool) -> Markup:
    worst, best = min(own, key=lambda cls: own[cls]), max(own, key=lambda cls: own[cls])
    ordered = list(own.values())
    middle = quantiles(ordered, n=4, method="inclusive") if len(ordered) > 1 else ordered * 3
    ends = (own[worst], *middle, own[best])
    places = " ".join(f"--q{i}: {min(max(value, 0), 1):.1%};" for i, value in enumerate(ends))
    strip = tag("td", tag("span", style=places), class_="strip", aria_hidden="true")
    named = [join(figure(own[cls]), tag("small", cls)) for cls in (worst, best)]
    numbers = [named[0], *map(figure, middle), named[1]]
    cells = (tag("td", one) for one in numbers)
    return tag("tr", tag("th", name, scope="row"), strip, *cells, class_="marked" if marked else None)


def _per_class(leaderboard: Leaderboard, name: str) -> dict[str, float]:
    """Each class that was asked for, of the first seed; another draw has other classes."""
    cell = leaderboard.first_cell(name)
    known = mapping(cell.all.get("per_class")) if cell else {}
    return {str(cls): found for cls, score in known.items() if (found := number(score)) is not None}
