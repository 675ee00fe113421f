from __future__ import annotations

from anglehash.serve.report.charts import Line, Point
from anglehash.serve.report.plots import bands


def flat(*heights: float) -> list[Line]:
    return [Line(str(height), [Point(0, height), Point(1, height)]) for height in heights]


def test_many_lines_with_a_wide_gap_are_drawn_in_two_parts() -> None:
    lines = flat(0.2, *(0.6 + i / 100 for i in range(8)), 0.1)
    upper, lower = bands(lines)
    assert (upper, lower) == (lines[1:9], [lines[0], lines[9]])


def test_few_lines_or_a_narrow_gap_stay_together() -> None:
    few = flat(0.1, *(0.6 + i / 100 for i in range(7)))
    assert bands(few) == (few, [])
    even = flat(*(i / 10 for i in range(10)))
    assert bands(even) == (even, [])


def test_a_line_that_crosses_the_gap_closes_it() -> None:
    lines = flat(0.1, *(0.6 + i / 100 for i in range(8)))
    crossing = Line("crossing", [Point(0, 0.1), Point(1, 0.65)])
    assert bands([*lines, crossing]) == ([*lines, crossing], [])
