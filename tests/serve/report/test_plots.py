from __future__ import annotations

import re
from itertools import pairwise
from xml.etree import ElementTree

from anglehash.serve.report.charts import Line, Point
from anglehash.serve.report.plots import bands, growth_chart

SVG = "{http://www.w3.org/2000/svg}"


def test_growth_stands_alone() -> None:
    svg = growth_chart("Cost <of> training", {"DPSH": [(1000, 2.5), (10000, 40)]}, x_name="training images")
    root = ElementTree.fromstring(svg)
    assert root.tag == f"{SVG}svg"
    assert root.findtext(f"{SVG}title") == "Cost <of> training"
    assert "--ink" in str(root.findtext(f"{SVG}style"))
    assert not re.search(r"https?:|url\(|@import", svg.replace("http://www.w3.org/2000/svg", ""))
    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert {"training images", "seconds", "1,000", "10,000"} <= set(texts)
    assert {"DPSH, 1,000: 2.5", "DPSH, 10,000: 40"} <= {title.text for title in root.iter(f"{SVG}title")}


def test_equal_ratios_are_straight_lines() -> None:
    square = [(10.0**i, 0.5 * 100.0**i) for i in range(4)]
    root = ElementTree.fromstring(growth_chart("t", {"a": square}, x_name="x"))
    (line,) = root.iter(f"{SVG}polyline")
    points = [tuple(map(float, p.split(","))) for p in line.attrib["points"].split()]
    steps = {(round(b[0] - a[0]), round(b[1] - a[1])) for a, b in pairwise(points)}
    assert len(steps) == 1


def test_what_has_no_logarithm_is_left_out() -> None:
    root = ElementTree.fromstring(growth_chart("t", {"a": [(0, 1), (1, 0), (1, 1)], "b": []}, x_name="x"))
    assert [len(line.attrib["points"].split()) for line in root.iter(f"{SVG}polyline")] == [1, 0]


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
