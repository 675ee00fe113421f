from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from benchmarks import cost

ROOT = Path(__file__).parents[2]
SVG = "{http://www.w3.org/2000/svg}"
SIZES = [images for images, _ in cost.SWEEPS["images"].columns]


def run(epochs: int, seconds: float, score: float) -> dict[str, Any]:
    return {"epochs": epochs, "cpu_seconds": seconds, "validation_map": score}


def column(images: int, seconds: Callable[[str, int], float]) -> list[dict[str, Any]]:
    """A cell a method: two runs, the first of twice the seconds of an epoch; the last method is the best."""
    cells = []
    for place, name in enumerate(cost.METHODS):
        epoch = seconds(name, images)
        runs = [run(1, 2 * epoch, 0.3 + place / 100), run(2, 3 * epoch, 0.5 + place / 100)]
        cells.append(
            {"sweep": "images", "images": images, "classes": 10, "method": name, "runs": runs}
            | {"megabytes_before": 300.0, "megabytes_peak": 301.5 + place}
        )
    return cells


def columns(seconds: Callable[[str, int], float] = lambda name, n: n / 1000) -> list[dict[str, Any]]:
    return cost.summary([cell for images in SIZES for cell in column(images, seconds)])


def test_the_first_epoch_is_unlike_the_others() -> None:
    # three epochs took 9 - 3 = 6 seconds; the second run is in between
    assert cost.epoch_seconds([run(1, 3.0, 0), run(2, 5.5, 0), run(4, 9.0, 0)]) == 2.0


def test_the_cost_of_an_map_is_that_of_the_cheapest_run_that_ends_there() -> None:
    runs = [run(1, 3.0, 0.4), run(2, 5.0, 0.6), run(4, 9.0, 0.55)]
    found = [cost.seconds_to(runs, target) for target in (0.4, 0.5, 0.6, 0.61)]
    assert found == [3.0, 5.0, 5.0, None]


def test_the_exponent_in_all_and_of_the_three_largest() -> None:
    square = [(10.0**i, 100.0**i) for i in range(4)]
    assert cost.exponent(square[:2]) == pytest.approx(2)
    assert cost.slopes(square) == "2.00 (2.00)"
    assert cost.slopes(square[1:]) == "2.00"
    # flat at first: the last three are (1, 1), (10, 10), (100, 100)
    assert cost.slopes([(0.1, 1.0), (1.0, 1.0), (10.0, 10.0), (100.0, 100.0)]).endswith("(1.00)")


def test_a_column_is_summed_up_when_all_methods_are_there() -> None:
    cells = column(1000, lambda name, images: 0.25)
    assert cost.summary(cells[1:]) == []
    (found,) = cost.summary(cells)
    first, last = (found["methods"][name] for name in (next(iter(cost.METHODS)), "andsh"))
    # best mAP .50 to .58: .98 * .50 = .49 and .9 * .58 = .522
    assert found["targets"] == pytest.approx({"all reach": 0.49, "near the best": 0.522})
    assert first == {
        "epoch_seconds": 0.25,
        "megabytes": 1.5,
        "best_map": 0.5,
        "seconds_to": {"all reach": 0.75, "near the best": None},
    }
    assert last["seconds_to"] == {"all reach": 0.75, "near the best": 0.75}


def test_a_table_says_never_and_how_a_cost_grows() -> None:
    lines = cost.tables(columns()).splitlines()
    epoch = next(line for line in lines if line.startswith("| dpsh, all"))
    assert epoch == "| dpsh, all images | 1 | 2 | 5 | 10 | 20 | 47.5 | 1.00 (1.00) |"
    assert "| dpsh, all images | never | never | never | never | never | never |  |" in lines
    assert any(
        line.startswith("| CPU seconds to the mAP that all reach | 1,000 / 10 (0.490) |") for line in lines
    )


def test_a_cell_under_other_settings_is_not_kept() -> None:
    (wanted, *_) = cost.wanted_cells("images", 1000, 10)
    finished = wanted | {"runs": []}
    assert cost.same(wanted, finished)
    other = finished | {"settings": finished["settings"] | {"hidden": 256}}
    assert not cost.same(wanted, other)
    assert cost.name_of(other) == cost.name_of(wanted)  # so that it is replaced


def test_a_run_sees_so_many_images_or_is_one_of_the_first_two() -> None:
    budgets = {n: cost.wanted_cells("images", n, 10)[0]["settings"]["epochs"] for n in SIZES}
    assert budgets[1000] == [1, 2, 4, 8, 16, 32]
    assert budgets[10_000] == [1, 2, 4]
    assert budgets[47_500] == [1, 2]


def test_the_drawing_stands_alone() -> None:
    svg = cost.drawing(columns())
    root = ElementTree.fromstring(svg)
    assert root.tag == f"{SVG}svg"
    assert root.findtext(f"{SVG}title")
    assert "--ink" in str(root.findtext(f"{SVG}style"))
    assert not re.search(r"https?:|url\(|@import", svg.replace("http://www.w3.org/2000/svg", ""))
    texts = {text.text for text in root.iter(f"{SVG}text")}
    assert {"training images", "seconds", "MB", "1,000", "47,500", *cost.METHODS} <= texts
    titles = {title.text for title in root.iter(f"{SVG}title")}
    assert {title for *_, title in cost.PANELS} <= titles


def recorded() -> dict[str, Any]:
    kept: dict[str, Any] = json.loads((ROOT / "results" / "cost.json").read_text())
    return kept


def test_the_recorded_summary_is_that_of_its_cells() -> None:
    kept = recorded()
    assert kept["summary"] == json.loads(json.dumps(cost.summary(kept["cells"])))


def test_the_tables_of_the_documentation_are_those_of_the_record() -> None:
    text = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    section = text.split("\n## What training costs\n")[1].split("\n## ")[0]
    written = [line for line in section.splitlines() if line.startswith("|")]
    assert len(written) > len(cost.METHODS)
    assert set(written) <= set(cost.tables(recorded()["summary"]).splitlines())
