from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from anglehash.benchmark.report.leaderboard import Leaderboard, median_of
from anglehash.benchmark.report.scores import Score


def cell(variant: str, bits: int | None, score: float, **others: Any) -> dict[str, Any]:
    return {"variant": variant, "method": variant, "kind": "deep", "bits": bits, "map": score, **others}


def leaderboard(*cells: dict[str, Any], **others: Any) -> Leaderboard:
    return Leaderboard.of({"cells": cells, **others})


def test_mean_and_sample_deviation_over_seeds() -> None:
    found = leaderboard(*(cell("a", 32, score, seed=i) for i, score in enumerate((0.4, 0.5, 0.6))))
    (score,) = found.scores("a").values()
    assert score == Score(0.5, 0.1, 3)


def test_the_table_is_of_the_first_split() -> None:
    cells = [
        cell("a", 32, 0.5, split_seed=0),
        cell("a", 32, 0.7, split_seed=1),
        cell("a", 32, 0.6, split_seed=2),
    ]
    found = leaderboard(*cells)
    assert found.scores("a")[32].mean == 0.5
    assert found.over_splits("a") == (0.5, 0.7)
    assert leaderboard(*cells, splits=[{"seed": 1}, {"seed": 0}]).scores("a")[32].mean == 0.7
    assert leaderboard(cells[0]).over_splits("a") is None


def test_the_range_over_splits_is_of_the_first_seed() -> None:
    # three seeds on the first split, whose mean is .6; the range must compare seed 4 with seed 4
    first = [cell("a", 32, score, seed=seed, split_seed=0) for seed, score in ((4, 0.5), (5, 0.6), (6, 0.7))]
    others = [cell("a", 32, 0.52, seed=4, split_seed=1), cell("a", 32, 0.9, seed=5, split_seed=2)]
    assert leaderboard(*first, *others).over_splits("a") == (0.5, 0.52)
    assert leaderboard(*first, others[1]).over_splits("a") is None


def drawn(variant: str, scores: Sequence[Sequence[float]], **others: Any) -> list[dict[str, Any]]:
    """One list of scores a draw, one score a seed."""
    return [cell(variant, 32, score, draw=draw, seed=seed, split_seed=0, **others)
            for draw, own in enumerate(scores) for seed, score in enumerate(own)]  # fmt: skip


def test_over_draws_seeds_are_averaged_first() -> None:
    found = leaderboard(*drawn("a", [(0.3, 0.5), (0.5,), (0.5, 0.7)]))
    # draws .4, .5, .6: mean .5, deviation .1; pooled seeds would give the mean .5 and the deviation .141
    assert found.scores("a") == {32: Score(0.5, 0.1, 3)}
    assert found.by_bytes("a") == {4: Score(0.5, 0.1, 3)}
    assert (found.run, found.draws) == ("draw", ["0", "1", "2"])
    assert leaderboard(cell("a", 32, 0.5)).run == "seed"


def test_over_draws_level_is_by_pairs() -> None:
    hard, easy = (
        (0.3, 0.5, 0.7),
        (0.31, 0.52, 0.73),
    )  # differences .01 .02 .03: .02 > 2 * .01 / sqrt(3) = .0115
    found = leaderboard(*drawn("a", [[s] for s in hard]), *drawn("b", [[s] for s in easy]))
    assert found.top(32) == ["b"]  # although the deviations, .2 and .21, are ten times the gap
    noisy = (0.25, 0.55, 0.79)  # differences to b -.06 .03 .06: mean .01, deviation .062
    found = leaderboard(*drawn("b", [[s] for s in easy]), *drawn("c", [[s] for s in noisy]))
    assert found.top(32) == ["c", "b"]


def test_level_is_judged_on_the_draws_that_both_have() -> None:
    a = drawn("a", [[0.3], [0.5], [0.9]])
    found = leaderboard(
        *a, *drawn("b", [[0.31], [0.51]])
    )  # .01 and .01: not level, whatever the third of a is
    assert not found.level("a", "b", 32)
    assert leaderboard(*a, *drawn("b", [[0.3], [0.5]])).level("a", "b", 32)


def test_without_a_shared_draw_nothing_is_known_of_the_noise() -> None:
    a, b = cell("a", 32, 0.4, draw=0), cell("b", 32, 0.5, draw=1)
    assert not leaderboard(a, b).level("a", "b", 32)


def test_the_first_draw_is_that_of_the_first_split() -> None:
    cells = drawn("a", [[0.1], [0.2], [0.3]])
    splits = [{"seed": 0, "options": {"draw": draw}} for draw in (2, 0, 9)]
    found = leaderboard(*cells, splits=splits)
    assert found.draws == ["2", "0", "1"]
    shown = found.first_cell("a")
    assert shown is not None
    assert shown.map == 0.3
    assert leaderboard(*cells[:1], cell("b", 32, 0.5, draw=1, split_seed=0)).first_cell("b") is None


def test_variants_stand_best_first_within_their_kind() -> None:
    found = leaderboard(
        cell("bad", 16, 0.2), cell("bad", 32, 0.3), cell("good", 16, 0.5), cell("good", 32, 0.4),
        cell("old", 32, 0.9, kind="classical"), cell("new", 32, 0.1, kind="a new kind"),
    )  # fmt: skip
    assert found.of_kind("deep") == ["good", "bad"]
    assert found.order == ["good", "bad", "old", "new"]
    assert found.lengths == [16, 32]


def test_untrained_ones_stand_at_their_bytes() -> None:
    baselines = [
        cell("pq", None, 0.3, bytes=4, kind="baseline"),
        cell("float", None, 0.4, bytes=5120, kind="baseline"),
    ]
    found = leaderboard(cell("a", 32, 0.6), *baselines, cell("sign", 1280, 0.35, bytes=160, kind="baseline"))
    assert found.lengths == [32]  # 1,280 bits are no column
    assert found.scores("pq") == {32: Score(0.3, 0.0, 1)}
    assert found.scores("float") == {}
    assert found.by_bytes("sign") == {160: Score(0.35, 0.0, 1)}
    assert found.by_bytes("a") == {4: Score(0.6, 0.0, 1)}
    assert list(found.contenders(32)) == ["a", "pq"]


def test_references_do_not_contend() -> None:
    found = leaderboard(cell("a", 32, 0.5), cell("posterior_map", 32, 0.7, kind="reference"))
    assert found.top(32) == ["a"]


def test_the_top_holds_all_that_are_level_with_the_best() -> None:
    many = [cell(name, 32, score) for name, base in (("a", 0.6), ("b", 0.605), ("c", 0.5)) for score in
            (base - 0.01, base, base + 0.01)]  # fmt: skip
    assert leaderboard(*many).top(32) == ["b", "a"]
    assert leaderboard(*many).top(64) == []


@pytest.mark.parametrize(
    ("lengths", "others", "example"),
    [
        ((16, 32, 64), {}, 32),
        ((16, 32, 64), {"run": {"example_bits": 64}}, 64),
        ((16, 32, 64), {"example_bits": 16}, 16),
        ((16, 32, 64), {"example_bits": 17}, 32),
        ((12, 24, 48), {}, 24),
        ((), {}, None),
    ],
)
def test_the_example_length(lengths: tuple[int, ...], others: dict[str, Any], example: int | None) -> None:
    assert leaderboard(*(cell("a", bits, 0.5) for bits in lengths), **others).example == example


def test_median_of_what_is_there() -> None:
    cells = [cell("a", 32, 0.5, seed=i, train_seconds=s) for i, s in enumerate((3.0, None, 1.0, 10.0, "x"))]
    found = leaderboard(*cells)
    assert median_of(found.cells_of("a"), "train_seconds") == 3.0
    assert median_of(found.cells_of("a"), "nothing") is None


@pytest.mark.parametrize("value", [None, 3, "text", [], {}, {"map": "x"}, {"variant": "a"}, {"map": 0.5}])
def test_what_is_not_a_cell_is_passed_over(value: Any) -> None:
    assert Leaderboard.of({"cells": [value], "variants": [value]}).cells == []
    assert Leaderboard.of({"cells": value, "variants": value}).cells == []
