from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import pytest

from anglehash.benchmark.report.header import failures, leaders, subtitle
from anglehash.benchmark.report.leaderboard import Leaderboard

SPLIT: dict[str, Any] = {"seed": 0, "queries": 3000, "train": 42000}


def failed(n: int) -> list[dict[str, Any]]:
    return [
        {"variant": "CSQ", "bits": 32, "seed": i, "split_seed": 0, "error": "the loss is NaN"}
        for i in range(n)
    ]


def lines(result: dict[str, Any]) -> list[str]:
    return [
        "".join(item.itertext())
        for item in ElementTree.fromstring(failures(result)).iter()
        if item.tag in "pli"
    ]


def test_failed_cells_are_named() -> None:
    assert lines({"failed": failed(1)}) == [
        "1 cell failed and is missing below:",
        "CSQ, 32 bits, seed 0, split 0: the loss is NaN",
    ]
    baseline = {"variant": "pq", "bits": None, "seed": 0, "split_seed": 0, "error": "too small"}
    assert lines({"failed": [baseline]})[1] == "pq, seed 0, split 0: too small"


def test_at_most_ten_are_listed() -> None:
    assert len(lines({"failed": failed(10)})) == 1 + 10
    found = lines({"failed": failed(12)})
    assert found[0] == "12 cells failed and are missing below:"
    assert found[-1] == "and 2 more"
    assert len(found) == 1 + 10 + 1


@pytest.mark.parametrize("value", [None, [], {}, "text", 3, [None], [[]], [{}]])
def test_nothing_where_none_failed(value: Any) -> None:
    assert failures({"failed": value}) == ""
    assert failures({}) == ""


def cells(scores: dict[str, dict[int, float]]) -> dict[str, Any]:
    found = [
        {"variant": name, "bits": bits, "map": score, "seed": 0}
        for name, own in scores.items()
        for bits, score in own.items()
    ]
    return {"cells": found}


def test_the_subtitle_counts_draws_and_says_whose_sizes_follow() -> None:
    splits = [SPLIT | {"held_out": ["cat", "dog"], "options": {"draw": draw}} for draw in (0, 1)]
    drawn = [{"variant": "a", "bits": 32, "map": 0.5, "split_seed": 0, "draw": draw} for draw in (0, 1)]
    result = {"splits": splits, "cells": drawn}
    assert subtitle(Leaderboard.of(result), result) == (
        "2 draws of classes kept out of training · the first draw has 3,000 queries, 42,000 training images · "
        "classes kept out of training in it: cat, dog"
    )
    plain = {"splits": [SPLIT]}
    assert subtitle(Leaderboard.of(plain), plain) == "3,000 queries · 42,000 training images"


def rows(scores: dict[str, dict[int, float]], highlight: str | None) -> list[list[str]]:
    root = ElementTree.fromstring(leaders(Leaderboard.of(cells(scores), highlight)))
    return [["".join(cell.itertext()) for cell in row] for row in root.iter("tr")]


SCORES = {
    "AnDSH": {16: 0.6, 24: 0.5, 32: 0.6},
    "CSQ": {16: 0.5, 24: 0.6, 32: 0.7},
    "CE": {16: 0.6001, 24: 0.7},
}


def test_leaders_and_where_the_highlighted_stand() -> None:
    assert rows(SCORES, "AnDSH") == [
        ["", "best, and all level with it", "mAP", "AnDSH"],
        ["16 bits", "CE, AnDSH", "0.600", "0.600 · 2 of 3 · +0.000 · level"],
        ["24 bits", "CE", "0.700", "0.500 · 3 of 3 · -0.200"],
        ["32 bits", "CSQ", "0.700", "0.600 · 2 of 2 · -0.100"],
    ]
    assert rows(SCORES, "CE")[1:] == [
        ["16 bits", "CE, AnDSH", "0.600", "0.600 · 1 of 3 · best"],
        ["24 bits", "CE", "0.700", "0.700 · 1 of 3 · best"],
        ["32 bits", "CSQ", "0.700", "–"],
    ]


def test_nobody_need_be_highlighted() -> None:
    assert rows(SCORES, None)[0] == ["", "best, and all level with it", "mAP"]
    assert leaders(Leaderboard.of({})) == ""
