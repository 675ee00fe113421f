"""The sections of a report: each takes the result, and gives markup or nothing."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from anglehash.serve.markup import Markup, join, tag
from anglehash.serve.report.charts import SHARE, Axis, Point, line_chart

Result = Mapping[str, Any]

_LADDER = {
    "map": ("codes", "mean over all orders of tied items"),
    "map_convention": ("codes, the papers’ way", "tied items in one random order"),
    "map_features": ("real-valued codes", "before they become bits, by cosine"),
    "class_id_map": ("class-id code", "a classifier’s answer alone"),
    "ceiling": ("posterior agreement", "a calibrated classifier’s probabilities"),
}
_BY_RANK = {"precision_at": "precision", "recall_at": "recall", "acg": "ACG", "ndcg": "NDCG"}
_NOTES = {
    "Ties": "Codes of K bits have only K + 1 distances, so most of a ranking is tied. The headline is the "
    "exact mean over all orders of tied items: it does not depend on how the database happens to be sorted.",
    "The papers’ way": "Published figures mostly put tied items in one random order and, where a ranking is "
    "cut, divide by the relevant items before the cut. That figure is here to be compared with them.",
    "Relevant": "An answer is relevant when it shares at least one label with its query. A query without a "
    "relevant item in the database counts 0, and so does an empty ball: no item within the radius.",
    "Posterior agreement": "Ranks by the probability of sharing a label, as a calibrated classifier on the "
    "same features sees it. It is a reference, not a bound, and it is not defined for classes that the "
    "classifier has not seen.",
}
_BALANCE = (
    "Between {0:.1%} and {2:.1%} of the database have a 1 in a bit, {1:.1%} on average. "
    "A bit that is the same for all images tells nothing."
)
_CLASS_CODES = (
    "The codes of two classes differ in {0:.1f} bits on average (standard deviation {1:.1f}), "
    "and in {2:.0f} at least."
)
_DRAWN = {*_LADDER, *_BY_RANK, "precision_recall", "precision_radius_2", "per_class", "bit_balance",
          "class_codes", "queries", "database", "unique_codes"}  # fmt: skip
_FEW = 24  # so many classes stand in one table; of more, the best and the worst stand first


def sections(result: Result, *, answers: Markup) -> list[Markup]:
    """The body of the report, from the headline to the notes."""
    return [
        _headline(result),
        _cards(result),
        _curves(result),
        answers,
        _classes(result),
        _codes(result),
        _everything(result),
        tag("section", tag("h2", "How to read this"), _definitions(_NOTES.items())),
    ]


def figure(value: object) -> str:
    """A measured share: three decimals, or a dash where there is none.

    >>> figure(0.69449), figure(None)
    ('0.694', '–')
    """
    number = _number(value)
    return "–" if number is None else f"{number:.3f}"


def _headline(result: Result) -> Markup:
    rungs = [
        _bar_row(join(name, tag("small", note)), result[key], class_="ours" if key == "map" else None)
        for key, (name, note) in _LADDER.items()
        if key in result
    ]
    if not rungs:
        return join()
    cut = _number(result.get("rank_cut"))
    ranks = f"over the first {cut:,.0f} ranks" if cut else "over all ranks"
    hero = tag(
        "div",
        tag("p", figure(result.get("map")), class_="hero"),
        tag("p", tag("b", "mAP"), f" of the codes: mean average precision {ranks}, exact under ties"),
    )
    return tag("section", hero, _table("mAP, by what ranks", (), rungs, class_="bars"), class_="headline")


def _cards(result: Result) -> Markup:
    ball = _mapping(result.get("precision_radius_2"))
    unique, database = _number(result.get("unique_codes")), _number(result.get("database"))
    dropped = _number(result.get("dropped_queries"))
    share = f"{unique / database:.1%} of the database" if unique and database else ""
    cards = [
        (_count(result.get("queries")), "queries", f"{_count(dropped)} more were dropped" if dropped else ""),
        (_count(database), "images in the database", ""),
        (_count(unique), "distinct codes", share),
        (
            figure(ball.get("value")),
            "precision within 2 bits",
            _percent(ball.get("empty_balls"), "found nothing"),
        ),
    ]
    shown = [
        tag("div", tag("dt", name, tag("small", note)), tag("dd", value))
        for value, name, note in cards
        if value != "–"
    ]
    return tag("dl", *shown, class_="cards") if shown else join()


def _curves(result: Result) -> Markup:
    """Precision against recall by radius, and both by number of answers; as charts, and as tables."""
    rows = _sequence(result.get("precision_recall"))
    balls = [_mapping(row) for row in rows if _numbers(row, "radius", "precision", "recall")]
    ranks = {name: _by_number(result.get(key)) for key, name in _BY_RANK.items()}
    ranks = {name: values for name, values in ranks.items() if values}
    charts, tables = [], []
    if balls:
        charts.append(_radius_chart(balls))
        tables.append(_table("By radius", ("radius", "precision", "recall"), map(_row, map(_ball, balls))))
    if ranks:
        numbers = sorted({number for values in ranks.values() for number in values})
        charts.append(_rank_chart(ranks, numbers))
        cells = [(f"{n:,}", *(figure(values.get(n)) for values in ranks.values())) for n in numbers]
        tables.append(_table("By number of answers", ("answers", *ranks), map(_row, cells)))
    if not charts:
        return join()
    behind = tag(
        "details", tag("summary", "The numbers behind the charts"), tag("div", *tables, class_="pair")
    )
    return tag("section", tag("h2", "Precision and recall"), tag("div", *charts, class_="pair"), behind)


def _radius_chart(balls: Sequence[Mapping[str, Any]]) -> Markup:
    points = [
        Point(
            ball["recall"],
            ball["precision"],
            note="radius {}: precision {}, recall {}".format(*_ball(ball)),
            mark=f"r {ball['radius']}",
        )
        for ball in balls
    ]
    title = "Precision against recall as the radius grows"
    chart = line_chart(title, {"": points}, Axis("recall", SHARE), y_name="precision")
    return tag("figure", chart, tag("figcaption", "All images within r bits of each query"))


def _rank_chart(ranks: Mapping[str, Mapping[int, float]], numbers: Sequence[int]) -> Markup:
    place = {number: (i + 0.5) / len(numbers) for i, number in enumerate(numbers)}
    lines = {
        name: [Point(place[n], value, note=f"{name} at {n}: {figure(value)}") for n, value in values.items()]
        for name, values in ranks.items()
        if name != "ACG"  # a number of labels, not a share
    }
    ticks = [(place[number], f"{number:,}") for number in numbers[:: math.ceil(len(numbers) / 7)]]
    title = f"{', '.join(lines)} by number of answers"
    chart = line_chart(title, lines, Axis("N nearest images", ticks), y_name="share")
    return tag("figure", chart, tag("figcaption", "The N nearest images of each query"))


def _classes(result: Result) -> Markup:
    """Classes from the best to the worst; those without a query last."""
    scores = {str(name): _number(score) for name, score in _mapping(result.get("per_class")).items()}
    if not scores:
        return join()
    order = sorted(scores, key=lambda name: (scores[name] is None, -(scores[name] or 0.0), name))
    rows = [_bar_row(name, scores[name]) for name in order]
    head = ("class", "", "mAP")
    measured = sum(score is not None for score in scores.values())
    whole = _table("Best first", head, rows, class_="bars")
    if len(rows) <= _FEW:
        return tag("section", tag("h2", "By class"), whole)
    half = _FEW // 2
    pair = tag(
        "div",
        _table("The best", head, rows[:half], class_="bars"),
        _table("The worst", head, rows[max(measured - half, 0) : measured][::-1], class_="bars"),
        class_="pair",
    )
    rest = tag("details", tag("summary", f"All {len(rows)} classes"), whole)
    return tag("section", tag("h2", "By class"), pair, rest)


def _codes(result: Result) -> Markup:
    """Are all bits used, and are the classes' codes far apart?"""
    facts = {
        "Balance of the bits": (_BALANCE, _numbers(result.get("bit_balance"), "min", "mean", "max")),
        "Codes of the classes": (_CLASS_CODES, _numbers(result.get("class_codes"), "mean", "std", "min")),
    }
    known = [(name, text.format(*numbers)) for name, (text, numbers) in facts.items() if numbers]
    return tag("section", tag("h2", "The codes"), _definitions(known)) if known else join()


def _everything(result: Result) -> Markup:
    """What is not drawn above, and the whole of it."""
    rest = {key: value for key, value in result.items() if key not in _DRAWN}
    facts = _definitions((str(key).replace("_", " "), _plain(value)) for key, value in rest.items())
    whole = json.dumps(result, indent=2, default=str)  # ASCII: nothing in it can be invisible
    lines = join(*(join(line, Markup("\n")) for line in whole.splitlines()))
    raw = tag("details", tag("summary", "The whole result as JSON"), tag("pre", lines, tabindex=0))
    return tag("section", tag("h2", "Circumstances"), tag("div", facts, class_="facts"), raw)


def _bar_row(name: str, value: object, *, class_: str | None = None) -> Markup:
    """A value as a bar; the bar is drawn for the eye only, the number says the same."""
    bar = tag("span", style=f"--share: {min(max(_number(value) or 0.0, 0.0), 1.0):.1%}")
    drawn = tag("td", bar, class_="bar", aria_hidden="true")
    return tag("tr", tag("th", name, scope="row"), drawn, tag("td", figure(value)), class_=class_)


def _row(cells: Iterable[str]) -> Markup:
    first, *others = cells
    return tag("tr", tag("th", first, scope="row"), *(tag("td", cell) for cell in others))


def _table(caption: str, head: Sequence[str], rows: Iterable[Markup], *, class_: str | None = None) -> Markup:
    top = tag("thead", tag("tr", *(tag("th", name, scope="col") for name in head))) if any(head) else join()
    return tag("table", tag("caption", caption), top, tag("tbody", *rows), class_=class_)


def _definitions(pairs: Iterable[tuple[str, str]]) -> Markup:
    return tag("dl", *(tag("div", tag("dt", name), tag("dd", text)) for name, text in pairs))


# Results may come from a file that someone wrote by hand: a value of another kind counts as absent.


def _number(value: object) -> float | None:
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15:
        return value
    return None


def _numbers(value: object, *keys: str) -> list[float]:
    """The numbers under these keys, or nothing where one of them is missing."""
    found = [_number(_mapping(value).get(key)) for key in keys]
    return [number for number in found if number is not None] if None not in found else []


def _mapping(value: object) -> Mapping[Any, Any]:
    return value if isinstance(value, Mapping) else {}


def _sequence(value: object) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else ()


def _ball(ball: Mapping[str, Any]) -> tuple[str, str, str]:
    return str(ball["radius"]), figure(ball["precision"]), figure(ball["recall"])


def _by_number(value: object) -> dict[int, float]:
    """Values by number of answers, which is text in JSON; in ascending order."""
    pairs = ((str(key), _number(score)) for key, score in _mapping(value).items())
    return dict(sorted((int(key), score) for key, score in pairs if key.isdecimal() and score is not None))


def _count(value: object) -> str:
    number = _number(value)
    return "–" if number is None else f"{number:,.0f}"


def _percent(value: object, of: str) -> str:
    number = _number(value)
    return "" if number is None else f"{number:.1%} {of}"


def _plain(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_plain(own)}" for key, own in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain, value)) or "none"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
