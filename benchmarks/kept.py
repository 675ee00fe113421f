"""What the option ``kept`` of ``posterior-dual`` trades: learned classes against unseen ones, as a picture.

python benchmarks/kept.py -o docs/kept.svg      # from results/kept-seen and results/kept-unseen
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from anglehash.serve.report.charts import Axis, Line, Look, Point, Size, line_chart
from anglehash.serve.report.parts import standing_alone
from anglehash.serve.report.scales import Scale

RESULTS = Path(__file__).parents[1] / "results"
SIZE = Size()
SHARES = {"kept 0": 0.0, "kept 1/4": 0.25, "kept 1/2": 0.5, "kept 3/4": 0.75}


def main() -> None:
    """Draw both lines, and ITQ beside them."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("-o", "--out", type=Path, required=True)
    arguments = parser.parse_args()
    cells = {name: cells_of(name) for name in ("kept-seen", "kept-unseen")}
    lines = [
        line("learned", cells["kept-seen"], Look("accent")),
        line("unseen", cells["kept-unseen"], Look("c0", marker=1)),
    ]
    across = Scale(-0.03, 1.03, [(x, f"{x:g}") for x in (0, 0.25, 0.5, 0.75, 1)])
    up = Scale(0.35, 0.85, [(y, f"{y:g}") for y in (0.4, 0.5, 0.6, 0.7, 0.8)])
    title = "mAP at 64 bits by the share of bits that keep the features; 1 is ITQ"
    axes = Axis("share of the bits that are ITQ's", across), Axis("mAP", up)
    chart = line_chart(title, lines, *axes, size=SIZE)
    picture = standing_alone(title, chart, width=SIZE.width, height=SIZE.height)
    arguments.out.write_text(picture, encoding="utf-8")


def cells_of(name: str) -> list[dict[str, Any]]:
    """The finished cells of a recorded result."""
    cells: list[dict[str, Any]] = json.loads((RESULTS / name / "result.json").read_text(encoding="utf-8"))[
        "cells"
    ]
    return cells


def line(name: str, cells: list[dict[str, Any]], look: Look) -> Line:
    """Means over seeds or draws, from all bits of the posterior to all of ITQ."""
    points = []
    for variant, share in {**SHARES, "itq": 1.0}.items():
        mean = float(np.mean([cell["map"] for cell in cells if cell["variant"] == variant]))
        points.append(Point(share, mean, f"{name}, {variant}: {mean:.3f}"))
    return Line(name, points, look)


if __name__ == "__main__":
    main()
