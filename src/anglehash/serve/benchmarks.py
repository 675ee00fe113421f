"""A benchmark's result, for people: the table on the terminal, and the images that two methods retrieve."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

from anglehash.data.split import RetrievalSplit
from anglehash.serve.console import table
from anglehash.serve.report.benchmark import Example
from anglehash.serve.results import tile


def summary_of(result: Mapping[str, Any]) -> str:
    """Mean mAP over the seeds of the first split: a row a variant, a column a code length."""
    first = result["splits"][0]["seed"]
    cells = [cell for cell in result["cells"] if cell["split_seed"] == first]
    sizes = sorted({cell["bits"] for cell in cells if cell["bits"]})
    rows: list[list[str]] = [["mAP", *(f"{bits} bits" for bits in sizes)]]
    for variant in dict.fromkeys(cell["variant"] for cell in cells if cell["bits"]):
        own = {
            bits: [c["map"] for c in cells if (c["variant"], c["bits"]) == (variant, bits)] for bits in sizes
        }
        rows.append([variant, *(f"{statistics.mean(m):.3f}" if m else "-" for m in own.values())])
    for variant, size in dict.fromkeys((c["variant"], c["bytes"]) for c in cells if not c["bits"]):
        own_map = statistics.mean(c["map"] for c in cells if (c["variant"], c["bytes"]) == (variant, size))
        rows.append([f"{variant}, {size} bytes: {own_map:.3f}", *[""] * len(sizes)])
    ceiling, class_id = (result["splits"][0].get(key) for key in ("ceiling", "class_id_map"))
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
