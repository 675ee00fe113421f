"""Measures of likeness as people read them: one list for the terminal, the pages and the documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

from anglehash.benchmark.report.leaderboard import Cell, Leaderboard, over_runs
from anglehash.report.components import row, scrolled, section, table
from anglehash.report.html import Markup, join, tag
from anglehash.report.values import count, figure, first_split, mapping, mappings, number

MEASURES = {
    "map": "class mAP",
    "finer_map": "finer mAP",
    "finer_precision_at_10": "finer P@10",
    "distinct_lists": "distinct lists",
    "copy_recall_at_1": "copies R@1",
    "copy_recall_at_10": "copies R@10",
    "self_retrieval": "self-retrieval",
    "feature_agreement": "feature agreement",
}
"""The measures in the order of the tables, ``map`` first, which a result holds at its top level."""

NOTE = (
    "Class mAP does not see the order inside a class. Finer: by a second label that training never saw. Distinct "
    "lists: different sets of the first ten answers, divided by the queries. Copies: crops of database images find "
    "their originals. Self-retrieval: a database image comes first for itself. Feature agreement: the first ten are "
    "among the 50 nearest of the right class by the features."
)


def reference_name(key: str, width: object = None) -> str:
    """A reference as the tables name it.

    >>> reference_name("float_cosine"), reference_name("feature_signs", 1280)
    ('float cosine', '1,280 signs')
    """
    size = number(width)
    names = {
        "feature_signs": f"{size:,.0f} signs" if size else "signs of the features",
        "right_class_random": "right class, random inside",
        "right_class_cosine": "right class, cosine inside",
    }
    return names.get(key, key.replace("_", " "))


def likeness_rows(name: str, score: object, likeness: object) -> dict[str, Mapping[str, Any]]:
    """The measures of some codes and of the references under them, by name; nothing where none were taken.

    Args:
        name: of the codes.
        score: their class mAP.
        likeness: what a result holds under ``likeness``.
    """
    own = mapping(likeness)
    if not own:
        return {}
    return {name: {**own, "map": score}, **reference_rows(own)}


def reference_rows(likeness: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The measures of the references, by name, of a table that holds them under ``references``."""
    width = likeness.get("feature_width")
    return {
        reference_name(str(key), width): mapping(values)
        for key, values in mapping(likeness.get("references")).items()
    }


def known_measures(rows: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The measures that a row has."""
    return [key for key in MEASURES if any(number(values.get(key)) is not None for values in rows.values())]


def likeness_table(title: str, rows: Mapping[str, Mapping[str, Any]]) -> Markup:
    """A row for each ranking, a column for each measure that any of them has; nothing without a measure."""
    known = known_measures(rows)
    if not set(known) - {"map"}:
        return join()
    head = ("", *(MEASURES[key] for key in known))
    body = (row((name, *(figure(values.get(key)) for key in known))) for name, values in rows.items())
    return scrolled(table(title, head, body))


def likeness_of_variants(
    leaderboard: Leaderboard, result: Mapping[str, Any], bits: int
) -> dict[str, Mapping[str, Any]]:
    """Means over seeds or draws of the variants at a length, best class mAP first, then the references.

    Nothing where no variant has a measure at this length.
    """
    found = {}
    for name in leaderboard.best_first(n for n in leaderboard.variants if leaderboard.scores(n)):
        cells = [cell for cell in leaderboard.at(name, bits) if mapping(cell.all.get("likeness"))]
        if cells:
            found[name] = _means(cells)
    return {**found, **_mean_references(result)} if found else {}


def _means(cells: Sequence[Cell]) -> dict[str, float]:
    values: dict[str, list[tuple[Cell, float]]] = {"map": [(cell, cell.map) for cell in cells]}
    for cell in cells:
        for key, value in mapping(cell.all.get("likeness")).items():
            if (known := number(value)) is not None:
                values.setdefault(str(key), []).append((cell, known))
    return {key: mean(over_runs(own)) for key, own in values.items()}


def _mean_references(result: Mapping[str, Any]) -> dict[str, Mapping[str, float]]:
    """The references of the splits with the first split seed, means over draws."""
    seed = first_split(result).get("seed")
    splits = [s for s in mappings(result.get("splits")) if s.get("seed") == seed]
    values: dict[str, dict[str, list[float]]] = {}
    for split in splits:
        for name, own in reference_rows(mapping(split.get("likeness"))).items():
            for key, value in own.items():
                if (known := number(value)) is not None:
                    values.setdefault(name, {}).setdefault(str(key), []).append(known)
    return {name: {key: mean(known) for key, known in own.items()} for name, own in values.items()}


def likeness_section(leaderboard: Leaderboard, result: Mapping[str, Any]) -> Markup:
    """A table a code length that has measures."""
    tables = [
        likeness_table(f"{bits:,} bits", rows)
        for bits in leaderboard.lengths
        if (rows := likeness_of_variants(leaderboard, result, bits))
    ]
    if not any(tables):
        return join()
    return section("Likeness", *tables, likeness_note(mapping(first_split(result).get("likeness"))))


def likeness_note(likeness: Mapping[str, Any]) -> Markup:
    """What the measures mean, and how many copies and queries they were taken with."""
    counted = {"copies": "copies", "finer_queries": "queries with a finer label"}
    counts = [f"{count(likeness[key])} {what}" for key, what in counted.items() if number(likeness.get(key))]
    return tag("p", f"{NOTE} {', '.join(counts)}." if counts else NOTE, class_="note")
