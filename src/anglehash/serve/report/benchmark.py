"""The report of a benchmark: what ``anglehash benchmark`` measured, many methods side by side.

Every key of the result may be missing: that part of the page is left out. Keys that are not known are
passed over.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from anglehash.files import refuse_existing, write_atomic
from anglehash.serve.markup import Markup, join, tag
from anglehash.serve.pictures import Tile
from anglehash.serve.report import plots, tables
from anglehash.serve.report.classes import class_table
from anglehash.serve.report.costs import seconds_table
from anglehash.serve.report.parts import (
    cards,
    definitions,
    folded,
    header,
    page,
    row,
    scrolled,
    section,
    table,
)
from anglehash.serve.report.standings import Score, Standings
from anglehash.serve.report.tiles import answer_list, query_tile
from anglehash.serve.report.values import count, figure, mapping, number, plain, sequence
from anglehash.serve.report.verdict import headline_variant, noise_note, verdict

Result = Mapping[str, Any]

_NOTES = {
    "One harness": "All methods see the same features, splits, seeds and code lengths, and are measured by the "
    "same code. Their settings were chosen on validation images, a part of the training images, with the same "
    "number of trials each; never on queries.",
    "± and level": "± is the standard deviation over training seeds on one split. Where two methods differ by "
    "less than the larger of their two deviations, the page calls them level: more seeds might turn them round. "
    "Another draw of the split moves all scores more than that; where it was measured, it has its own column.",
    "Ties": "Codes of K bits have only K + 1 distances, so most of a ranking is tied. mAP here is the exact mean "
    "over all orders of tied items: it does not depend on how the database happens to be sorted.",
    "Posterior agreement": "Ranks by the probability of sharing a label, as a calibrated classifier on the same "
    "features sees it. It is a reference, not a bound. The class-id code keeps that classifier’s answer alone.",
    "Untrained": "What one would use without training a hash: the features themselves, or their compression. "
    "They have no code length of their own, so they stand at the bytes that they need.",
}
_PUBLISHED = (
    "These figures are context, not competitors: their features, training and often their splits and tie rules "
    "differ from ours, so no difference between a row here and a row above says which method is better."
)
_FACTS = {"data": "data", "protocol": "protocol", "backbone": "backbone", "size": "image size, px",
          "options": "options", "rank_cut": "ranks that count", "trains_on_database": "labels of the database used "
          "in training", "tie_rule": "ties"}  # fmt: skip


class Example(NamedTuple):
    """A query, and what each of some variants answers to it, nearest first."""

    query: Tile
    answers: Mapping[str, Sequence[Tile]]


def write_benchmark_report(
    path: Path, result: Result, examples: Sequence[Example] = (), *, force: bool = False
) -> None:
    """Write the report of a benchmark as one HTML file.

    Args:
        path: the new file.
        result: what the benchmark returned, or its JSON.
        examples: some queries and the answers of some variants, shown with their images.
        force: replace a file that is there.

    Raises:
        OutputExistsError: ``path`` exists and ``force`` is not set.
    """
    refuse_existing(path, force=force)
    write_atomic(path, render_benchmark(result, examples).encode())


def render_benchmark(result: Result, examples: Sequence[Example] = ()) -> str:
    """The page of :func:`write_benchmark_report`."""
    standings = Standings.of(result)
    name = str(result.get("title") or result.get("name") or "benchmark")
    notes = [tag("p", str(note), class_="note") for note in sequence(result.get("notes"))]
    top = header("benchmark", name, tag("p", _subtitle(result), class_="subtitle"), *notes)
    return page(name, top, _sections(standings, result, examples))


def _sections(standings: Standings, result: Result, examples: Sequence[Example]) -> list[Markup]:
    at = f" at {standings.example:,} bits" if standings.example else ""
    return [
        _headline(standings, result),
        section(
            "mAP by code length", tables.score_table(standings, result), tables.measures_table(standings)
        ),
        section("How it grows with the code", plots.by_bits(standings, result)),
        section("Against what needs no training", _bytes(standings, result)),
        section(f"Precision and recall{at}", _curves(standings)),
        section("Seconds to train", seconds_table(standings)),
        section(f"By class{at}", class_table(standings)),
        section("The same queries, asked of several methods", *map(_example, examples)),
        section("Published figures", _published(result)),
        section("Settings and circumstances", tables.settings_table(standings), *_circumstances(result)),
        section("How to read this", definitions(_NOTES.items())),
    ]


def _subtitle(result: Result) -> str:
    place = mapping(result.get("place"))
    split = mapping(next(iter(sequence(result.get("splits"))), None))
    cut = number(place.get("rank_cut"))
    held = sequence(split.get("held_out"))
    parts = [
        _said(place, "protocol", "protocol {}"),
        _said(place, "backbone", "{}"),
        _said(place, "size", "{} px"),
        _counted(split, "queries", "queries"),
        _counted(split, "database", "in the database"),
        _counted(split, "train", "training images"),
        _counted(split, "validation", "for validation"),
        f"classes kept out of training: {plain(held)}" if held else "",
        (f"mAP over the first {cut:,.0f} ranks" if cut else "mAP over all ranks") if place else "",
        _said(place, "tie_rule", "ties: {}"),
    ]
    return " · ".join(part for part in parts if part)


def _said(values: Mapping[str, Any], key: str, form: str) -> str:
    return form.format(plain(values[key])) if values.get(key) is not None else ""


def _counted(values: Mapping[str, Any], key: str, what: str) -> str:
    return f"{count(values[key])} {what}" if number(values.get(key)) is not None else ""


def _headline(standings: Standings, result: Result) -> Markup:
    words = verdict(standings)
    if not words:
        return join()
    bits, split = standings.example, mapping(next(iter(sequence(result.get("splits"))), None))
    known = standings.contenders(bits) if bits else {}
    ours, best = headline_variant(standings), next(iter(known), None)
    facts = []
    if best:
        facts.append(
            (figure(known[best].mean), f"{best} at {bits:,} bits", f"the best mean{_spread(known[best])}")
        )
    if ours in known and ours != best:
        place = list(known).index(str(ours)) + 1
        note = f"number {place} of {len(known)}{_spread(known[str(ours)])}"
        facts.append((figure(known[str(ours)].mean), f"{ours} at {bits:,} bits", note))
    facts.append((figure(split.get("ceiling")), "posterior agreement", "reference, no code"))
    measured = f"{len(standings.lengths)} lengths, {len({str(cell.seed) for cell in standings.cells})} seeds"
    facts.append(
        (str(len(standings.order)), "variants measured", f"{measured}, {len(standings.cells):,} cells")
    )
    note = tag("p", noise_note(standings), class_="note")
    return tag("section", tag("p", words, class_="verdict"), note, cards(facts), class_="lead")


def _spread(score: Score) -> str:
    return f", ± {figure(score.deviation)} over {score.seeds} seeds" if score.seeds > 1 else ""


def _bytes(standings: Standings, result: Result) -> Markup:
    chart = plots.by_bytes(standings, result)
    words = "AnDSH and the best three of the other trained methods (by mean over the lengths), and all untrained ones."
    return join(chart, tag("p", words, class_="note")) if chart else join()


def _curves(standings: Standings) -> Markup:
    chart = plots.precision_recall(standings)
    words = (
        "All images within r bits of each query, r growing along the line; the first seed of each variant."
    )
    return join(chart, tag("p", words, class_="note")) if chart else join()


def _example(example: Example) -> Markup:
    answers = [
        tag("div", tag("p", name, tag("small", _right(tiles)), class_="by"), answer_list(tiles))
        for name, tiles in example.answers.items()
    ]
    return tag("div", query_tile(example.query), tag("div", *answers, class_="compared"), class_="answers")


def _right(tiles: Sequence[Tile]) -> str:
    """How many are right, where all of them are known to be right or wrong."""
    known = [tile.correct for tile in tiles if tile.correct is not None]
    return f"{sum(known)} of {len(known)} right" if known and len(known) == len(tiles) else ""


def _published(result: Result) -> Markup:
    found = tables.published_table(result)
    return join(tag("p", _PUBLISHED, class_="note"), found) if found else join()


def _circumstances(result: Result) -> list[Markup]:
    place, own = mapping(result.get("place")), mapping(result.get("circumstances"))
    facts = [(name, plain(place[key])) for key, name in _FACTS.items() if place.get(key) is not None]
    facts += [(str(key).replace("_", " "), plain(value)) for key, value in own.items()]
    run = result.get("run")
    return [
        folded("Splits", _splits(result)),
        folded("The run file", _json(run)) if run else join(),
        tag("div", definitions(facts), class_="facts") if facts else join(),
    ]


def _json(value: object) -> Markup:
    lines = json.dumps(value, indent=2, default=str).splitlines()  # ASCII: nothing in it can be invisible
    return tag("pre", join(*(join(line, Markup("\n")) for line in lines)), tabindex=0)


def _splits(result: Result) -> Markup:
    splits = [mapping(split) for split in sequence(result.get("splits")) if mapping(split)]
    if not splits:
        return join()
    wanted = ("seed", "hash", "train", "validation", "queries", "database", "classes", "dropped_queries", "ceiling",
              "class_id_map")  # fmt: skip
    head = [key for key in wanted if any(split.get(key) is not None for split in splits)]
    rows = [row([_fact(key, split.get(key)) for key in head]) for split in splits]
    return scrolled(table("The splits that were drawn", [key.replace("_", " ") for key in head], rows))


def _fact(key: str, value: object) -> str:
    if key in ("ceiling", "class_id_map"):
        return figure(value)
    return str(value) if key in ("seed", "hash") else count(value)
