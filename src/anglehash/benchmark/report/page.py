"""The report of a benchmark: what ``anglehash benchmark`` measured, many methods side by side.

Every key of the result may be missing: that part of the page is left out. Keys that are not known are
passed over.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from anglehash.benchmark.report import plots, tables
from anglehash.benchmark.report.classes import class_table
from anglehash.benchmark.report.costs import seconds_section
from anglehash.benchmark.report.header import failures, leaders, subtitle
from anglehash.benchmark.report.leaderboard import Leaderboard
from anglehash.benchmark.report.likeness import likeness_section
from anglehash.benchmark.report.notes import how_to_read
from anglehash.files import refuse_existing, write_atomic
from anglehash.report.components import definitions, folded, header, page, row, scrolled, section, table
from anglehash.report.figures import plot
from anglehash.report.html import Markup, join, tag
from anglehash.report.pictures import Tile
from anglehash.report.tiles import answer_list, query_tile
from anglehash.report.values import count, figure, mapping, mappings, plain, sequence

Result = Mapping[str, Any]

_PUBLISHED = (
    "These figures are context, not competitors: their features, training and often their splits and tie rules "
    "differ from ours, so no difference between a row here and a row above says which method is better."
)
_RADII = "All images within r bits of each query, r growing along the line. Of the first {}."
_FEW = "Of many variants the best are drawn, by their mean over the lengths; the table has all."
_FACTS = {"data": "data", "protocol": "protocol", "backbone": "backbone", "size": "image size, px",
          "options": "options", "rank_cut": "ranks that count", "trains_on_database": "labels of the database used "
          "in training", "tie_rule": "ties"}  # fmt: skip


class Example(NamedTuple):
    """A query, and what each of some variants answers to it, nearest first."""

    query: Tile
    answers: Mapping[str, Sequence[Tile]]


def write_benchmark_report(
    path: Path,
    result: Result,
    examples: Sequence[Example] = (),
    *,
    highlight: str | None = None,
    force: bool = False,
) -> None:
    """Write the report of a benchmark as one HTML file.

    Args:
        path: the new file.
        result: what the benchmark returned, or its JSON.
        examples: some queries and the answers of some variants, shown with their images.
        highlight: the variant or method that is marked.
        force: replace a file that is there.

    Raises:
        OutputExistsError: ``path`` exists and ``force`` is not set.
    """
    refuse_existing(path, force=force)
    write_atomic(path, render_benchmark(result, examples, highlight=highlight).encode())


def render_benchmark(
    result: Result, examples: Sequence[Example] = (), *, highlight: str | None = None
) -> str:
    """The page of :func:`write_benchmark_report`."""
    leaderboard = Leaderboard.of(result, highlight)
    name = str(result.get("title") or result.get("name") or "benchmark")
    notes = [tag("p", str(note), class_="note") for note in sequence(result.get("notes"))]
    top = header("benchmark", name, tag("p", subtitle(leaderboard, result), class_="subtitle"), *notes)
    return page(name, top, _sections(leaderboard, result, examples))


def _sections(leaderboard: Leaderboard, result: Result, examples: Sequence[Example]) -> list[Markup]:
    at = f" at {leaderboard.example:,} bits" if leaderboard.example else ""
    fine_tuned = mapping(result.get("place")).get("fine_tuned") is True
    charts = {name: plot(chart) for name, chart in plots.charts_of(leaderboard, result).items()}
    few = tag("p", _FEW, class_="note")
    radii = tag("p", _RADII.format(leaderboard.run), class_="note")
    return [
        failures(result),
        section(
            "mAP by code length", *([charts["bits"], few] if "bits" in charts else []), leaders(leaderboard)
        ),
        section("All scores", tables.score_table(leaderboard, result), tables.measures_table(leaderboard)),
        likeness_section(leaderboard, result),
        section("Against what needs no training", *([charts["bytes"], few] if "bytes" in charts else [])),
        section(f"Precision and recall{at}", *([charts["recall"], radii, few] if "recall" in charts else [])),
        seconds_section(leaderboard, fine_tuned=fine_tuned),
        section(f"By class{at}", class_table(leaderboard)),
        section("The same queries, asked of several methods", *_examples(leaderboard, examples)),
        section("Published figures", _published(result)),
        section(
            "Settings and circumstances", tables.settings_table(leaderboard, result), *_circumstances(result)
        ),
        section("How to read this", definitions(how_to_read(leaderboard, result).items())),
    ]


def _examples(leaderboard: Leaderboard, examples: Sequence[Example]) -> list[Markup]:
    note = [tag("p", "Of the first draw.", class_="note")] if examples and leaderboard.draws else []
    return [*note, *map(_example, examples)]


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
    splits = mappings(result.get("splits"))
    if not splits:
        return join()
    drawn = [{**split, "draw": mapping(split.get("options")).get("draw")} for split in splits]
    wanted = ("seed", "draw", "held_out", "hash", "train", "validation", "queries", "database", "classes",
              "dropped_queries", "posterior_map", "class_id_map")  # fmt: skip
    head = [key for key in wanted if any(split.get(key) not in (None, []) for split in drawn)]
    rows = [row([_fact(key, split.get(key)) for key in head]) for split in drawn]
    return scrolled(table("The splits that were drawn", [key.replace("_", " ") for key in head], rows))


def _fact(key: str, value: object) -> str:
    if key in ("posterior_map", "class_id_map"):
        return figure(value)
    return plain(value) if key in ("seed", "draw", "held_out", "hash") else count(value)
