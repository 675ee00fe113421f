"""A benchmark's result, for people: the table on the terminal, and the images that two methods retrieve."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anglehash.benchmark.report.leaderboard import Leaderboard
from anglehash.benchmark.report.page import Example
from anglehash.cli.console import table
from anglehash.cli.results import tile
from anglehash.data.split import RetrievalSplit
from anglehash.report.values import first_split


def summary_of(result: Mapping[str, Any]) -> str:
    """Mean mAP over the seeds of the first split: a row a variant, a column a code length."""
    leaderboard, split = Leaderboard.of(result), first_split(result)
    rows: list[list[str]] = [["mAP", *(f"{bits} bits" for bits in leaderboard.lengths)]]
    names = [name for name in leaderboard.variants if leaderboard.cells_of(name)]
    for name in names:
        if leaderboard.variants[name].trained:
            scores = leaderboard.scores(name)
            rows.append(
                [name, *(f"{scores[n].mean:.3f}" if n in scores else "-" for n in leaderboard.lengths)]
            )
    for name in names:
        if not leaderboard.variants[name].trained:
            for size, score in leaderboard.by_bytes(name).items():
                rows.append([f"{name}, {size} bytes: {score.mean:.3f}", *[""] * len(leaderboard.lengths)])
    posterior_map, class_id = split.get("posterior_map"), split.get("class_id_map")
    notes = [
        f"{name}: {value:.3f}"
        for name, value in (("posterior agreement", posterior_map), ("class-id code", class_id))
        if value is not None
    ]
    return "\n".join([str(result["title"]), "", table(rows), "", *notes]).rstrip()


def examples_of(result: Mapping[str, Any], split: RetrievalSplit) -> list[Example]:
    """The same queries as two methods answer them, as the run file asks for."""
    wanted = result["examples"]
    chosen = {
        cell["variant"]: cell["answers"]
        for cell in result["cells"]
        if "answers" in cell
        and cell["bits"] == wanted.get("bits")
        and cell["variant"] in wanted.get("variants", ())
    }
    if not chosen:
        return []
    queries = next(iter(chosen.values()))["queries"]
    return [
        Example(
            tile(split, query),
            {
                name: [
                    tile(split, row, query, distance)
                    for row, distance in zip(
                        chosen[name]["rows"][i], chosen[name]["distances"][i], strict=True
                    )
                ]
                for name in wanted["variants"]
                if name in chosen
            },
        )
        for i, query in enumerate(queries)
    ]
