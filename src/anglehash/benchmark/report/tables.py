"""Tables of a benchmark's page: scores, further measures, published figures and settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

from anglehash.benchmark.report.leaderboard import KINDS, Cell, Leaderboard, Variant, over_runs, score_of
from anglehash.benchmark.report.notes import LEARNED_FROM, tuning_words
from anglehash.benchmark.report.scores import Score
from anglehash.report.components import folded, row, scrolled, table
from anglehash.report.html import Markup, join, tag
from anglehash.report.values import (
    count,
    figure,
    first_split,
    in_bytes,
    mapping,
    mappings,
    number,
    plain,
)

Result = Mapping[str, Any]

_BEST = "Bold on color: the best of its column, and all that are level with it. Mean ± standard deviation over {}s."


def score_table(leaderboard: Leaderboard, result: Result) -> Markup:
    """Variants by code length; the best of each column, and all level with it, are marked."""
    lengths, groups = leaderboard.lengths, []
    if not leaderboard.cells:
        return join()
    tops = {bits: leaderboard.top(bits) for bits in lengths}
    splits = any(leaderboard.over_splits(name) for name in leaderboard.variants)
    width = len(lengths) + 1 + splits
    for kind in (*KINDS, None):
        rows = [_score_row(leaderboard, name, tops, splits) for name in leaderboard.of_kind(kind)]
        rows += _reference_rows(result, width) if kind == "reference" else []
        if rows:
            name = join(
                KINDS.get(kind or "", "Other"), _reference_note(leaderboard) if kind == "reference" else ""
            )
            title = tag("th", name, colspan=width + 1, scope="rowgroup")
            groups.append(tag("tbody", tag("tr", title, class_="group"), *rows))
    head = ["", *(f"{bits:,} bits" for bits in lengths), f"{leaderboard.run}s"]
    head += [f"splits, {leaderboard.example:,} bits, first seed"] if splits else []
    top = tag("thead", tag("tr", *(tag("th", name, scope="col") for name in head)))
    caption = tag("caption", tag("span", _BEST.format(leaderboard.run)))
    width_class = "scores" if len(lengths) > 2 else "scores short"
    return join(scrolled(tag("table", caption, top, *groups, class_=width_class)), _few_runs(leaderboard))


def _few_runs(leaderboard: Leaderboard) -> Markup:
    """A note on trained variants that have fewer seeds or draws than others."""
    fewest = {
        name: min(score.runs for score in leaderboard.scores(name).values())
        for name in leaderboard.order
        if leaderboard.variants[name].trained and leaderboard.scores(name)
    }
    few = [f"{name} ({runs})" for name, runs in fewest.items() if runs < max(fewest.values())]
    words = f"Fewer {leaderboard.run}s than the others, so their means and ± are less sure: {', '.join(few)}."
    return tag("p", words, class_="note") if few else join()


def _reference_note(leaderboard: Leaderboard) -> Markup:
    return tag("small", f"{LEARNED_FROM}{'; first draw' if leaderboard.draws else ''}")


def _score_row(
    leaderboard: Leaderboard, name: str, tops: Mapping[int, Sequence[str]], splits: bool
) -> Markup:
    variant, scores = leaderboard.variants[name], leaderboard.scores(name)
    sizes = leaderboard.by_bytes(name)
    runs = {score.runs for score in (scores or sizes).values()}
    cells = [
        tag("td", _score(scores.get(bits)), class_="best" if name in tops[bits] else None) for bits in tops
    ]
    if variant.kind in ("baseline", "reference") and (not scores or set(sizes) - {b / 8 for b in scores}):
        own = [join(figure(score.mean), tag("small", in_bytes(size))) for size, score in sizes.items()]
        own = own or [_score(score_of(leaderboard.cells_of(name)))]
        cells = [tag("td", *(tag("span", one) for one in own), colspan=len(tops) or None, class_="sizes")]
    cells.append(tag("td", "–".join(str(n) for n in sorted({min(runs, default=1), max(runs, default=1)}))))
    if splits:
        ends = leaderboard.over_splits(name)
        cells.append(tag("td", "–".join(map(figure, ends)) if ends else "", class_="quiet"))
    return tag(
        "tr", tag("th", name, scope="row"), *cells, class_="marked" if leaderboard.highlighted(name) else None
    )


def _score(score: Score | None) -> Markup:
    if score is None:
        return join("–")
    spread = tag("small", f"± {figure(score.deviation)}") if score.runs > 1 else join()
    return join(figure(score.mean), spread)


def _reference_rows(result: Result, width: int) -> list[Markup]:
    """The ceiling and the class-id code of the first split."""
    split = first_split(result)
    size = number(split.get("class_id_bytes"))
    facts = {
        "Posterior agreement": (split.get("posterior_map"), "a calibrated classifier’s probabilities"),
        "Class-id code": (split.get("class_id_map"), in_bytes(size) if size else "a classifier’s answer"),
    }
    return [
        tag(
            "tr",
            tag("th", name, scope="row"),
            tag("td", tag("span", join(figure(value), tag("small", note))), colspan=width, class_="sizes"),
        )
        for name, (value, note) in facts.items()
        if number(value) is not None
    ]


_MEASURES = {
    "mAP": "map", "the papers’ way": "map_convention", "real-valued": "map_logits",
    "real-valued queries": "map_asymmetric",
    "validation": "validation_map", "P within 2 bits": ("precision_radius_2", "value"),
    "empty balls": ("precision_radius_2", "empty_balls"), "P@100": ("precision_at", "100"),
    "NDCG@100": ("ndcg", "100"), "ACG@100": ("acg", "100"), "WAP": "wap", "distinct codes": "unique_codes",
}  # fmt: skip


def measures_table(leaderboard: Leaderboard) -> Markup:
    """Further measures at the example length, means over seeds or draws; a measure that nobody has is left out."""
    found = {name: _measures(leaderboard, name) for name in leaderboard.order}
    known = [key for key in _MEASURES if any(key in own for own in found.values())]
    if len(known) < 2:
        return join()
    cells = [
        (name, *((count if key == "distinct codes" else figure)(own.get(key)) for key in known))
        for name, own in found.items()
        if own
    ]
    words = f"At {leaderboard.example:,} bits, means over {leaderboard.run}s"
    return folded("More measures", scrolled(table(words, ("", *known), map(row, cells))))


def _measures(leaderboard: Leaderboard, name: str) -> dict[str, float]:
    values: dict[str, list[tuple[Cell, float]]] = {}
    for cell in leaderboard.at(name, leaderboard.example):
        for key, path in _MEASURES.items():
            first, *rest = (path,) if isinstance(path, str) else path
            value = mapping(cell.all.get(first)).get(rest[0]) if rest else cell.all.get(first)
            if (found := number(value)) is not None:
                values.setdefault(key, []).append((cell, found))
    return {key: mean(over_runs(own)) for key, own in values.items()}


def published_table(result: Result) -> Markup:
    """Figures of papers."""
    known = mappings(result.get("published"))
    if not known:
        return join()
    head = {"method": "method", "bits": "bits", "map": "mAP", "features": "features", "source": "source"}
    rows = [row([_text(one.get(key)) for key in head]) for one in known]
    return scrolled(
        table("As their papers, or later tables, print them", tuple(head.values()), rows, class_="texts")
    )


def settings_table(leaderboard: Leaderboard, result: Result) -> Markup:
    """The settings of every variant, and what was spent on choosing them where they were tuned."""
    variants = [v for v in leaderboard.variants.values() if v.settings or v.tuned]
    if not variants:
        return join()
    tuned = tuning_words(leaderboard, result)
    head = ("variant", "method", *(("trials", "validation mAP") if tuned else ()), "settings")
    rows = [_settings_row(variant, tuned=bool(tuned)) for variant in variants]
    words = f"Settings that are not listed are the method’s defaults. {tuned}".rstrip()
    return folded("The settings of every variant",
                  scrolled(table(words, head, rows, class_="texts settings")))  # fmt: skip


def _settings_row(variant: Variant, *, tuned: bool) -> Markup:
    pairs = [tag("code", f"{key} = {_text(value)}") for key, value in _flat(variant.settings)]
    spent = (count(variant.tuned.get("trials")), figure(variant.tuned.get("validation_map")))
    chosen = join(*pairs) if pairs else "defaults"
    return row([variant.name, variant.method, *(spent if tuned else ()), chosen])


def _flat(settings: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Nested settings as dotted names."""
    pairs: list[tuple[str, Any]] = []
    for key, value in settings.items():
        name = f"{prefix}{key}"
        pairs += _flat(value, f"{name}.") if isinstance(value, Mapping) and value else [(name, value)]
    return pairs


def _text(value: object) -> str:
    return "–" if value is None else plain(value)
