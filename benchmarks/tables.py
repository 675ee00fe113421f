"""The tables of docs/results.md, from the results that ``anglehash benchmark`` wrote.

    python benchmarks/tables.py results/cifar10-I

Each entry is the mean over training seeds on the first split (over draws, where there are draws) and their
standard deviation; "splits" is the range over split seeds with the first training seed, at 32 bits or the
middle length; "CPU s" the median training time at that length.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

Cell = dict[str, Any]


def main() -> None:
    """Print the tables of some results."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("results", type=Path, nargs="+")
    parser.add_argument("--cut", help="mAP at this cut, out of map_at, in place of the headline's")
    parser.add_argument("--key", default="map", help="another number of a cell: map_features, map_convention")
    arguments = parser.parse_args()
    for path in arguments.results:
        file = path / "result.json" if path.is_dir() else path
        result = json.loads(file.read_text(encoding="utf-8"))
        print(f"### {result['name']}\n")
        print(table(result, arguments.cut, arguments.key), end="\n\n")


def table(result: dict[str, Any], cut: str | None = None, key: str = "map") -> str:
    """Markdown: a row a variant, a column a code length, the best mean first; then rivals and references."""
    cells = [cell for cell in result["cells"] if cell["bits"]]
    first = result["splits"][0]["seed"]
    here = [cell for cell in cells if cell["split_seed"] == first]
    lengths = sorted({cell["bits"] for cell in cells})
    middle = 32 if 32 in lengths else lengths[len(lengths) // 2]
    several = len({cell["split_seed"] for cell in cells}) > 1

    def value(cell: Cell) -> float:
        return float(cell["map_at"][cut] if cut else cell[key])

    def means(variant: str) -> list[float]:
        return [statistics.mean(map(value, own(here, variant, bits))) for bits in lengths]

    rows = [["method", *map(str, lengths), *(["splits"] if several else []), "CPU s"]]
    names = list(dict.fromkeys(cell["variant"] for cell in here))
    for variant in sorted(names, key=lambda name: -statistics.mean(means(name))):
        row = [variant, *(spell(map(value, own(here, variant, bits))) for bits in lengths)]
        if several:
            row.append(extent(value(c) for c in own(cells, variant, middle) if c["seed"] == here[0]["seed"]))
        row.append(f"{statistics.median(c['train_cpu_seconds'] for c in own(here, variant, middle)):.1f}")
        rows.append(row)
    parts = [markdown(rows)]
    if rivals := [cell for cell in result["cells"] if not cell["bits"]]:
        parts.append(markdown(rival_rows(rivals, value)))
    return "\n\n".join([*parts, references(result)])


def own(cells: Sequence[Cell], variant: str, bits: int) -> list[Cell]:
    """The cells of one entry."""
    return [cell for cell in cells if (cell["variant"], cell["bits"]) == (variant, bits)]


def rival_rows(cells: Sequence[Cell], value: Any) -> list[list[str]]:
    """Untrained rivals by bytes an item."""
    sizes = sorted({cell["bytes"] for cell in cells})
    rows = [["untrained, bytes an item", *(f"{size:,}" for size in sizes)]]
    for variant in dict.fromkeys(cell["variant"] for cell in cells):
        found = [[value(c) for c in cells if (c["variant"], c["bytes"]) == (variant, size)] for size in sizes]
        rows.append([variant, *(spell(values) if values else "" for values in found)])
    return rows


def references(result: dict[str, Any]) -> str:
    """The class-id code and the posterior agreement, and the sizes of the split."""
    split = result["splits"][0]
    known = split["ceiling"] is not None
    trivial = (
        f"Class-id code {digits(split['class_id_map'])}, posterior agreement {digits(split['ceiling'])}; "
    )
    return (
        f"{trivial if known else ''}{split['queries']:,} queries, {split['database']:,} database images, "
        f"{split['train']:,} training and {split['validation']:,} validation images, "
        f"{split['dropped_queries']} queries dropped; split {split['hash'][:12]}."
    )


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """Rows as a Markdown table, the first of them its head."""
    lines = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    return "\n".join("| " + " | ".join(row) + " |" for row in lines)


def digits(value: float) -> str:
    """Three digits, as the field writes them: .561."""
    return f"{value:.3f}".removeprefix("0")


def spell(values: Iterable[float]) -> str:
    """Mean and standard deviation."""
    numbers = list(values)
    mean = digits(statistics.mean(numbers))
    return f"{mean} ± {digits(statistics.stdev(numbers))}" if len(numbers) > 1 else mean


def extent(values: Iterable[float]) -> str:
    """Smallest and largest."""
    numbers = list(values)
    return f"{digits(min(numbers))}-{digits(max(numbers))}"


if __name__ == "__main__":
    main()
