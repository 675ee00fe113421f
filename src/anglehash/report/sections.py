"""The sections of a report: each takes the result, and gives markup or nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from anglehash.report.components import bar_row, cards, definitions, folded, row, section, table
from anglehash.report.figures import Chart, Line, plot
from anglehash.report.html import Markup, join, tag
from anglehash.report.likeness import likeness_note, likeness_rows, likeness_table
from anglehash.report.values import (
    by_number,
    count,
    figure,
    mapping,
    number,
    numbers,
    percent,
    plain,
    sequence,
)

Result = Mapping[str, Any]

_LADDER = {
    "map": ("codes", "mean over all orders of tied items"),
    "map_convention": ("codes, the papers’ way", "tied items in one random order"),
    "map_asymmetric": ("real-valued queries", "a bit counts as much as the query is sure of it"),
    "map_logits": ("real-valued codes", "before they become bits, by cosine"),
    "class_id_map": ("class-id code", "a classifier’s answer alone"),
    "posterior_map": ("posterior agreement", "a calibrated classifier’s probabilities"),
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
          "class_codes", "likeness", "queries", "database", "unique_codes"}  # fmt: skip
_SMALL: Any = {"width": 5.0, "height": 3.8}  # two charts side by side
_FEW = 24  # most classes of one table; of more, the best and the worst stand first


def sections(result: Result, *, answers: Markup) -> list[Markup]:
    """The body of the report, from the headline to the notes."""
    return [
        _headline(result),
        _cards(result),
        _likeness(result),
        _curves(result),
        answers,
        _classes(result),
        _codes(result),
        _everything(result),
        section("How to read this", definitions(_NOTES.items())),
    ]


def _headline(result: Result) -> Markup:
    rungs = [
        bar_row(join(name, tag("small", note)), result[key], class_="marked" if key == "map" else None)
        for key, (name, note) in _LADDER.items()
        if key in result
    ]
    if not rungs:
        return join()
    cut = number(result.get("rank_cut"))
    ranks = f"over the first {cut:,.0f} ranks" if cut else "over all ranks"
    hero = tag(
        "div",
        tag("p", figure(result.get("map")), class_="hero"),
        tag("p", tag("b", "mAP"), f" of the codes: mean average precision {ranks}, exact under ties"),
    )
    return tag("section", hero, table("mAP, by what ranks", (), rungs, class_="bars"), class_="headline")


def _cards(result: Result) -> Markup:
    ball = mapping(result.get("precision_radius_2"))
    unique, database = number(result.get("unique_codes")), number(result.get("database"))
    dropped = number(result.get("dropped_queries"))
    share = f"{unique / database:.1%} of the database" if unique and database else ""
    facts = [
        (count(result.get("queries")), "queries", f"{count(dropped)} more were dropped" if dropped else ""),
        (count(database), "images in the database", ""),
        (count(unique), "distinct codes", share),
        (
            figure(ball.get("value")),
            "precision within 2 bits",
            percent(ball.get("empty_balls"), "found nothing"),
        ),
    ]
    return cards(facts)


def _likeness(result: Result) -> Markup:
    """Measures of likeness, of the codes and of the references."""
    own = mapping(result.get("likeness"))
    found = likeness_table(
        "Codes, and what needs no training", likeness_rows("codes", result.get("map"), own)
    )
    return section("Likeness", found, likeness_note(own)) if found else join()


def charts_of(result: Result) -> list[Chart]:
    """Precision against recall by radius, and shares by number of answers, where the result has them."""
    balls, ranks = _balls(result), _ranks(result)
    charts = []
    if balls:
        x, y = (tuple(ball[key] for ball in balls) for key in ("recall", "precision"))
        notes = tuple(f"r {ball['radius']}" for ball in balls)
        title = "Precision against recall as the radius grows"
        line = Line("", x, y, marker="o", notes=notes)
        charts.append(Chart(title, "recall", "precision", (line,), share=True, **_SMALL))
    shares = {
        name: values for name, values in ranks.items() if name != "ACG"
    }  # a number of labels, not a share
    lines = [
        Line(name, tuple(values), tuple(values.values()), color, marker="o")
        for (name, values), color in zip(shares.items(), ("accent", "c0", "c1"), strict=False)
    ]
    if lines:
        ticks = tuple(sorted({n for line in lines for n in line.x}))
        title = f"{', '.join(shares)} by number of answers"
        charts.append(Chart(title, "nearest images", "share", tuple(lines), base=10, ticks=ticks, **_SMALL))
    return charts


def _curves(result: Result) -> Markup:
    """The charts, and their numbers as tables."""
    balls, ranks = _balls(result), _ranks(result)
    tables = []
    if balls:
        tables.append(table("By radius", ("radius", "precision", "recall"), map(row, map(_ball, balls))))
    if ranks:
        answers = sorted({answer for values in ranks.values() for answer in values})
        cells = [(f"{n:,}", *(figure(values.get(n)) for values in ranks.values())) for n in answers]
        tables.append(table("By number of answers", ("answers", *ranks), map(row, cells)))
    if not tables:
        return join()
    behind = folded("The numbers behind the charts", tag("div", *tables, class_="pair"))
    return section("Precision and recall", tag("div", *map(plot, charts_of(result)), class_="pair"), behind)


def _balls(result: Result) -> list[Mapping[str, Any]]:
    radii = sequence(result.get("precision_recall"))
    return [mapping(radius) for radius in radii if numbers(radius, "radius", "precision", "recall")]


def _ranks(result: Result) -> dict[str, dict[int, float]]:
    ranks = {name: by_number(result.get(key)) for key, name in _BY_RANK.items()}
    return {name: {n: v for n, v in values.items() if n > 0} for name, values in ranks.items() if values}


def _classes(result: Result) -> Markup:
    """Classes from the best to the worst; those without a query last."""
    scores = {str(name): number(score) for name, score in mapping(result.get("per_class")).items()}
    if not scores:
        return join()
    order = sorted(scores, key=lambda name: (scores[name] is None, -(scores[name] or 0.0), name))
    rows = [bar_row(name, scores[name]) for name in order]
    head = ("class", "", "mAP")
    measured = sum(score is not None for score in scores.values())
    whole = table("Best first", head, rows, class_="bars")
    if len(rows) <= _FEW:
        return section("By class", whole)
    half = _FEW // 2
    pair = tag(
        "div",
        table("The best", head, rows[:half], class_="bars"),
        table("The worst", head, rows[max(measured - half, 0) : measured][::-1], class_="bars"),
        class_="pair",
    )
    return section("By class", pair, folded(f"All {len(rows)} classes", whole))


def _codes(result: Result) -> Markup:
    """Are all bits used, and are the classes' codes far apart?"""
    facts = {
        "Balance of the bits": (_BALANCE, numbers(result.get("bit_balance"), "min", "mean", "max")),
        "Codes of the classes": (_CLASS_CODES, numbers(result.get("class_codes"), "mean", "std", "min")),
    }
    return section(
        "The codes", definitions((name, text.format(*own)) for name, (text, own) in facts.items() if own)
    )


def _everything(result: Result) -> Markup:
    """What is not drawn above, and the whole of it."""
    rest = {key: value for key, value in result.items() if key not in _DRAWN}
    facts = definitions((str(key).replace("_", " "), plain(value)) for key, value in rest.items())
    whole = json.dumps(result, indent=2, default=str)  # ASCII: nothing in it can be invisible
    lines = join(*(join(line, Markup("\n")) for line in whole.splitlines()))
    raw = folded("The whole result as JSON", tag("pre", lines, tabindex=0))
    return section("Circumstances", tag("div", facts, class_="facts"), raw)


def _ball(ball: Mapping[str, Any]) -> tuple[str, str, str]:
    return str(ball["radius"]), figure(ball["precision"]), figure(ball["recall"])
