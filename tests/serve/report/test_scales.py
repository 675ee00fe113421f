from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anglehash.serve.report.scales import SHARE, Scale, linear, listed, logarithmic

VALUES = st.lists(st.floats(1e-6, 1e9), min_size=1, max_size=9)


@given(VALUES)
def test_every_value_lies_between_the_ends(values: list[float]) -> None:
    for scale in (linear(values), logarithmic(values), logarithmic(values, base=2), listed(values)):
        assert all(-1e-6 <= scale.place(value) <= 1 + 1e-6 for value in values)
        assert scale.low < scale.high


@given(VALUES)
def test_ticks_stand_where_their_text_says(values: list[float]) -> None:
    for scale in (linear(values), logarithmic(values), logarithmic(values, base=2)):
        for value, text in scale.ticks:
            assert float(text.replace(",", "")) == pytest.approx(value, rel=1e-5, abs=1e-12)
            assert -1e-6 <= scale.place(value) <= 1 + 1e-6


@given(VALUES)
def test_there_are_a_few_ticks(values: list[float]) -> None:
    assert 3 <= len(linear(values).ticks) <= 12
    assert 1 <= len(logarithmic(values).ticks) <= 8


def test_equal_ratios_are_equal_distances() -> None:
    scale = logarithmic([1, 1000])
    assert scale.place(10) == pytest.approx(1 / 3)
    assert Scale(2, 18, (), logarithmic=True).place(6) == pytest.approx(0.5)  # 2 -> 6 -> 18


def test_a_linear_axis_is_zoomed_to_the_values() -> None:
    scale = linear([0.601, 0.648])
    assert (scale.low, scale.high) == (0.6, 0.65)
    assert [value for value, _ in scale.ticks] == [0.6, 0.61, 0.62, 0.63, 0.64, 0.65]
    assert [SHARE.place(value) for value in (0, 0.3, 1)] == [0, 0.3, 1]


@pytest.mark.parametrize("value", [0.0, 0.5, -3.0, 1e-9])
def test_one_value_stands_inside(value: float) -> None:
    assert 0 < linear([value]).place(value) < 1


def test_no_value_at_all() -> None:
    assert all(math.isfinite(scale.place(1)) for scale in (linear([]), logarithmic([]), listed([])))


def test_listed_ticks_are_the_values_and_lie_inside() -> None:
    scale = listed([12, 24, 48])
    assert [text for _, text in scale.ticks] == ["12", "24", "48"]
    left, middle, right = (scale.place(value) for value in (12, 24, 48))
    assert 0 < left < right < 1
    assert middle == pytest.approx((left + right) / 2)
