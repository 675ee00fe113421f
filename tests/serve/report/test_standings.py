from __future__ import annotations

from typing import Any

import pytest

from anglehash.serve.report.standings import Score, Standings, level, median_of


def cell(variant: str, bits: int | None, score: float, **others: Any) -> dict[str, Any]:
    return {"variant": variant, "method": variant, "kind": "deep", "bits": bits, "map": score, **others}


def standings(*cells: dict[str, Any], **others: Any) -> Standings:
    return Standings.of({"cells": cells, **others})


def test_mean_and_sample_deviation_over_seeds() -> None:
    found = standings(*(cell("a", 32, score, seed=i) for i, score in enumerate((0.4, 0.5, 0.6))))
    (score,) = found.scores("a").values()
    assert score == Score(0.5, 0.1, 3)


@pytest.mark.parametrize(
    ("one", "other", "answer"),
    [
        ((0.60, 0.010), (0.609, 0.001), True),  # .009 < .010, whichever has it
        ((0.60, 0.001), (0.609, 0.010), True),
        ((0.60, 0.005), (0.609, 0.008), False),
        ((0.60, 0.0), (0.6004, 0.0), True),  # both are shown as 0.600
        ((0.60, 0.0), (0.601, 0.0), False),
    ],
)
def test_level_is_within_the_larger_deviation(
    one: tuple[float, float], other: tuple[float, float], answer: bool
) -> None:
    assert level(Score(*one, 3), Score(*other, 3)) is answer
    assert level(Score(*other, 3), Score(*one, 3)) is answer


def test_the_table_is_of_the_first_split() -> None:
    cells = [
        cell("a", 32, 0.5, split_seed=0),
        cell("a", 32, 0.7, split_seed=1),
        cell("a", 32, 0.6, split_seed=2),
    ]
    found = standings(*cells)
    assert found.scores("a")[32].mean == 0.5
    assert found.over_splits("a") == (0.5, 0.7)
    assert standings(*cells, splits=[{"seed": 1}, {"seed": 0}]).scores("a")[32].mean == 0.7
    assert standings(cells[0]).over_splits("a") is None


def test_variants_stand_best_first_within_their_kind() -> None:
    found = standings(
        cell("bad", 16, 0.2), cell("bad", 32, 0.3), cell("good", 16, 0.5), cell("good", 32, 0.4),
        cell("old", 32, 0.9, kind="shallow"), cell("new", 32, 0.1, kind="a new kind"),
    )  # fmt: skip
    assert found.of_kind("deep") == ["good", "bad"]
    assert found.order == ["good", "bad", "old", "new"]
    assert found.lengths == [16, 32]


def test_untrained_ones_stand_at_their_bytes() -> None:
    rivals = [
        cell("pq", None, 0.3, bytes=4, kind="rival"),
        cell("float", None, 0.4, bytes=5120, kind="rival"),
    ]
    found = standings(cell("a", 32, 0.6), *rivals, cell("sign", 1280, 0.35, bytes=160, kind="rival"))
    assert found.lengths == [32]  # 1,280 bits are no column
    assert found.scores("pq") == {32: Score(0.3, 0.0, 1)}
    assert found.scores("float") == {}
    assert found.by_bytes("sign") == {160: Score(0.35, 0.0, 1)}
    assert found.by_bytes("a") == {4: Score(0.6, 0.0, 1)}
    assert list(found.contenders(32)) == ["a", "pq"]


def test_references_do_not_contend() -> None:
    found = standings(cell("a", 32, 0.5), cell("ceiling", 32, 0.7, kind="reference"))
    assert found.top(32) == ["a"]


def test_the_top_holds_all_that_are_level_with_the_best() -> None:
    many = [cell(name, 32, score) for name, base in (("a", 0.6), ("b", 0.605), ("c", 0.5)) for score in
            (base - 0.01, base, base + 0.01)]  # fmt: skip
    assert standings(*many).top(32) == ["b", "a"]
    assert standings(*many).top(64) == []


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
    assert standings(*(cell("a", bits, 0.5) for bits in lengths), **others).example == example


def test_median_of_what_is_there() -> None:
    cells = [cell("a", 32, 0.5, seed=i, train_seconds=s) for i, s in enumerate((3.0, None, 1.0, 10.0, "x"))]
    found = standings(*cells)
    assert median_of(found.cells_of("a"), "train_seconds") == 3.0
    assert median_of(found.cells_of("a"), "nothing") is None


@pytest.mark.parametrize("value", [None, 3, "text", [], {}, {"map": "x"}, {"variant": "a"}, {"map": 0.5}])
def test_what_is_not_a_cell_is_passed_over(value: Any) -> None:
    assert Standings.of({"cells": [value], "variants": [value]}).cells == []
    assert Standings.of({"cells": value, "variants": value}).cells == []
