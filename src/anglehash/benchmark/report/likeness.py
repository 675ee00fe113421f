"""Measures of likeness of a benchmark's variants, means over its runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

from anglehash.benchmark.report.leaderboard import Cell, Leaderboard, over_runs
from anglehash.report.components import section
from anglehash.report.html import Markup, join
from anglehash.report.likeness import likeness_note, likeness_table, reference_rows
from anglehash.report.values import first_split, mapping, mappings, number


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
