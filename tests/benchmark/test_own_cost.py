from __future__ import annotations

import json
from pathlib import Path

from benchmarks import own_cost

ROOT = Path(__file__).parents[2]


def test_methods_take_turns_and_are_held_against_the_first() -> None:
    asked: list[str] = []
    found = own_cost.alternating(("ours", "one", "two"), asked.append)
    assert asked == ["ours", "one", "two"] * own_cost.ROUNDS
    assert list(found["cpu_seconds"]) == ["ours", "one", "two"]
    assert list(found["ratio"]) == ["one", "two"]


def test_a_row_is_a_set_and_a_method_that_was_not_run_has_no_seconds() -> None:
    cells = [
        {"data": "a", "images": 5000, "cpu_seconds": {"ours": 2.0, "one": 4.0}, "ratio": {"one": 0.5}},
        {"data": "b", "images": 20, "cpu_seconds": {"ours": 3.0, "two": 1.0}, "ratio": {"two": 3.0}},
    ]
    assert own_cost.table(cells).splitlines() == [
        "| images | `ours` | `one` | `two` | ratio |",
        "| --- | --- | --- | --- | --- |",
        "| a, 5,000 | 2.0 | 4.0 |  | 0.50 one |",
        "| b, 20 | 3.0 |  | 1.0 | 3.00 two |",
    ]


def test_the_table_of_the_documentation_is_that_of_the_record() -> None:
    cells = json.loads((ROOT / "results" / "own-cost.json").read_text(encoding="utf-8"))["cells"]
    text = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    assert own_cost.table(cells) in text
