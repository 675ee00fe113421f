"""The tables of docs/results.md, from the JSON that benchmarks/figures.py wrote.

    python benchmarks/tables.py results/ablation-cifar10.json

Each entry is the mean over training seeds on the first split, and their standard deviation; "splits" is the
range over split seeds, with training seed 0.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

Cell = dict[str, Any]


def main() -> None:
    """Print the tables of some result files."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("results", type=Path, nargs="+")
    parser.add_argument("--cut", help="also mAP at this cut, out of map_at")
    arguments = parser.parse_args()
    for path in arguments.results:
        content = json.loads(path.read_text(encoding="utf-8"))
        print(f"### {path.stem}\n")
        print(table(content["run"], content["cells"], arguments.cut), end="\n\n")


def table(run: dict[str, Any], cells: list[Cell], cut: str | None = None) -> str:
    """A Markdown table: a row a variant and number of bits."""
    first = run["split_seeds"][0]
    spread = len(run["split_seeds"]) > 1
    head = ["method", "bits", "mAP codes", "mAP features", "papers' convention"]
    head += [f"mAP@{cut}"] if cut else []
    head += ["splits"] if spread else []
    rows = [head, ["---"] * len(head)]
    for variant, bits in dict.fromkeys((cell["variant"], cell["bits"]) for cell in cells):
        own = [cell for cell in cells if (cell["variant"], cell["bits"]) == (variant, bits)]
        here = [cell for cell in own if cell["split_seed"] == first]
        row = [variant, str(bits)]
        row += [spell(cell[key] for cell in here) for key in ("map", "map_features", "map_convention")]
        row += [spell(cell["map_at"][cut] for cell in here)] if cut else []
        row += [extent(cell["map"] for cell in own if cell["seed"] == 0)] if spread else []
        rows.append(row)
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([*lines, "", references(cells, first)])


def references(cells: list[Cell], first: int) -> str:
    """The class-id code and the posterior agreement, which depend on the split alone."""
    here = next(cell for cell in cells if cell["split_seed"] == first)
    return (
        f"Class-id code {digits(here['class_id_map'])}, posterior agreement {digits(here['ceiling'])}; "
        f"{here['queries']} queries, {here['database']} database images, {here['dropped_queries']} queries dropped; "
        f"split {here['split_hash'][:12]}."
    )


def digits(value: float) -> str:
    """Three digits, as the field writes them: .561."""
    return f"{value:.3f}".removeprefix("0")


def spell(values: Iterable[float]) -> str:
    """Mean and standard deviation."""
    numbers = list(values)
    return digits(statistics.mean(numbers)) + (
        f" ± {digits(statistics.stdev(numbers))}" if len(numbers) > 1 else ""
    )


def extent(values: Iterable[float]) -> str:
    """Smallest and largest."""
    numbers = list(values)
    return f"{digits(min(numbers))}-{digits(max(numbers))}"


if __name__ == "__main__":
    main()
