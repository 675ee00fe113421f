from __future__ import annotations

from typing import Any

from anglehash.benchmark.report.costs import seconds_section
from anglehash.benchmark.report.leaderboard import Leaderboard


def cell(variant: str, **others: Any) -> dict[str, Any]:
    return {"variant": variant, "method": variant, "kind": "deep", "bits": 32, "map": 0.5, **others}


def section(*cells: dict[str, Any], fine_tuned: bool = False) -> str:
    return seconds_section(Leaderboard.of({"cells": cells}), fine_tuned=fine_tuned)


def test_cpu_seconds_where_they_are_known() -> None:
    found = section(
        cell("a", train_seconds=9, train_cpu_seconds=3), cell("b", train_seconds=8, train_cpu_seconds=4)
    )
    assert "<h2>CPU seconds to train</h2>" in found
    assert "3 s" in found
    assert "9 s" not in found


def test_elapsed_seconds_where_they_are_not() -> None:
    found = section(cell("a", train_seconds=9))
    assert "<h2>Seconds to train</h2>" in found
    assert "9 s" in found
    mixed = section(cell("a", train_seconds=9, train_cpu_seconds=3), cell("b", train_seconds=8))
    assert "<h2>Seconds to train</h2>" in mixed
    assert "elapsed seconds of b" in mixed


def test_baselines_do_not_train() -> None:
    baseline = cell("pq", kind="baseline", bytes=4, train_seconds=5, train_cpu_seconds=5)
    assert "pq" not in section(cell("a", train_cpu_seconds=3), baseline)
    assert section(baseline) == ""


def test_of_fine_tuning_it_says_what_else_is_in_the_time() -> None:
    words = "decoding the images and validation are in it"
    assert words in section(cell("a", train_cpu_seconds=3), fine_tuned=True)
    assert words not in section(cell("a", train_cpu_seconds=3))
