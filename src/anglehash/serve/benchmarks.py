"""A benchmark's result, for people: the table on the terminal, and the images that two methods retrieve."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anglehash.data.split import RetrievalSplit
from anglehash.serve.console import table
from anglehash.serve.report.benchmark import Example
from anglehash.serve.report.standings import Standings
from anglehash.serve.report.values import first_split
from anglehash.serve.results import tile


def summary_of(result: Mapping[str, Any]) -> str:
    """Mean mAP over the seeds of the first split: a row a variant, a column a code length."""
    standings, split = Standings.of(result), first_split(result)
    rows: list[list[str]] = [["mAP", *(f"{bits} bits" for bits in standings.lengths)]]
    names = [name for name in standings.variants if standings.cells_of(name)]
    for name in names:
        if standings.variants[name].trained:
            scores = standings.scores(name)
            rows.append([name, *(f"{scores[n].mean:.3f}" if n in scores else "-" for n in standings.lengths)])
    for name in names:
        if not standings.variants[name].trained:
            for size, score in standings.by_bytes(name).items():
                rows.append([f"{name}, {size} bytes: {score.mean:.3f}", *[""] * len(standings.lengths)])
    ceiling, class_id = split.get("ceiling"), split.get("class_id_map")
    notes = [
        f"{name}: {value:.3f}"
        for name, value in (("posterior agreement", ceiling), ("class-id code", class_id))
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
