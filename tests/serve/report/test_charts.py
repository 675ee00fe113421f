from __future__ import annotations

import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anglehash.serve.report.charts import MARKERS, Axis, Key, Line, Look, Point, Size, line_chart, spread
from anglehash.serve.report.scales import SHARE, Scale


def chart(*lines: Line, key: Key = "top", size: Size | None = None) -> ElementTree.Element:
    x, y = Axis("recall", SHARE), Axis("precision", SHARE)
    return ElementTree.fromstring(line_chart("a <title>", lines, x, y, size=size, key=key))


def series(root: ElementTree.Element) -> list[ElementTree.Element]:
    return [group for group in root.iter("g") if "series" in group.attrib["class"].split()]


def places(group: ElementTree.Element) -> list[tuple[float, float]]:
    return [(float(dot.attrib["cx"]), float(dot.attrib["cy"])) for dot in group.findall("circle")]


def entry(group: ElementTree.Element) -> tuple[float, float, str]:
    (text,) = [text for text in group.findall("text") if text.get("class") == "key"]
    return float(text.attrib["x"]), float(text.attrib["y"]), str(text.text)


def names(count: int) -> list[Line]:
    return [Line(f"line {i}", [Point(0, 0.5, "a"), Point(1, 0.5 + i / 1000, "b")]) for i in range(count)]


def test_the_corners_of_the_plot_are_the_ends_of_the_axes() -> None:
    root = chart(Line("a", [Point(0, 0, "-"), Point(1, 1, "-"), Point(0.5, 0.25, "-")]))
    (x0, y0), (x1, y1), middle = places(series(root)[0])
    grid = [line.attrib for line in root.findall("line")]
    assert {float(line["y1"]) for line in grid} >= {y0, y1}
    assert (float(grid[0]["x1"]), float(grid[0]["x2"])) == (x0, x1)
    assert middle == pytest.approx(((x0 + x1) / 2, y0 + (y1 - y0) / 4), abs=0.1)
    assert x0 < x1
    assert y0 > y1  # up is more


def test_the_line_runs_through_its_points() -> None:
    root = chart(Line("a", [Point(0, 0.8, "-"), Point(0.4, 0.6, "-"), Point(1, 0.1, "-")]))
    (line,) = root.iter("polyline")
    path = [tuple(map(float, p.split(","))) for p in line.attrib["points"].split()]
    assert path == places(series(root)[0])


@pytest.mark.parametrize("key", ["top", "ends", "list", "below"])
def test_everything_lies_inside_the_drawing(key: Key) -> None:
    root = chart(*names(3 if key == "top" else 24), key=key, size=Size(500, 300, right=100))
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    texts = [text for text in root.iter("text") if "transform" not in text.attrib]
    assert all(0 < float(t.attrib["x"]) < width and 0 < float(t.attrib["y"]) < height for t in texts)
    assert all(0 < x < width and 0 < y < height for group in series(root) for x, y in places(group))


def test_is_read_out_and_points_tell_what_they_are() -> None:
    root = chart(Line("a", [Point(0, 1, "radius 0: <b>")]))
    assert root.attrib["role"] == "img"
    assert root[0].tag == "title"
    assert root[0].text == "a <title>"
    assert [dot.findtext("title") for dot in root.iter("circle")] == ["radius 0: <b>"]


def test_points_without_a_note_have_no_marker() -> None:
    root = chart(Line("a", [Point(0, 0, "-"), Point(0.5, 0.5), Point(1, 1, "-")]))
    assert len(list(root.iter("circle"))) == 2
    (line,) = root.iter("polyline")
    assert len(line.attrib["points"].split()) == 3


def test_marks_do_not_run_into_each_other() -> None:
    crowd = [Point(i / 1000, 0.5, "-", mark=f"r {i}") for i in range(100)]
    alone = Point(0.9, 0.5, "-", mark="r far")
    texts = [text.text for text in chart(Line("a", [*crowd, alone])).iter("text")]
    assert [text for text in texts if text and re.match("r ", text)] == ["r 0", "r far"]


def test_ticks_that_would_run_into_each_other_are_left_out() -> None:
    crowd = Scale(0, 1, [(0, "zero"), (0.001, "near"), (1, "one")])
    svg = line_chart("t", [Line("a", [])], Axis("x", crowd), Axis("y", SHARE))
    assert {"zero", "one"} <= {text.text for text in ElementTree.fromstring(svg).iter("text")}
    assert "near" not in svg


def test_error_bars_reach_as_far_as_they_say() -> None:
    root = chart(Line("a", [Point(0.5, 0.5, "-", spread=0.25), Point(1, 0.5, "-")]))
    (bar,) = [path for path in root.iter("path") if path.get("class") == "error"]
    heights = [line.attrib["y1"] for line in root.findall("line")][:5]  # of 0, .25, .5, .75, 1
    match = re.fullmatch(r"M[\d.]+,([\d.]+)h6m-3,0V([\d.]+)m-3,0h6", bar.attrib["d"])
    assert match
    assert [float(end) for end in match.groups()] == [float(heights[3]), float(heights[1])]


@pytest.mark.parametrize("key", ["top", "ends", "list", "below"])
def test_several_lines_are_named_and_one_is_not(key: Key) -> None:
    both = chart(*names(2), key=key)
    assert [entry(group)[2] for group in series(both)] == ["line 0", "line 1"]
    alone = chart(*names(1), key=key)
    assert not [text for text in alone.iter("text") if text.get("class") == "key"]


def test_lines_can_be_told_apart_without_color() -> None:
    looks = [Look(marker=marker, hollow=hollow) for marker in range(MARKERS) for hollow in (False, True)]
    root = chart(*(Line(f"{i}", [Point(0, 0, "-")], look) for i, look in enumerate(looks)), key="list")
    drawn = set()
    for group in series(root):
        shape = next(item for item in group if item.get("class") == "dot")
        drawn.add((shape.tag, shape.get("points"), "hollow" in group.attrib["class"]))
    assert len(drawn) == len(looks)


@pytest.mark.parametrize("key", ["ends", "list", "below"])
def test_entries_of_the_key_do_not_run_into_each_other(key: Key) -> None:
    entries = [entry(group)[:2] for group in series(chart(*names(24), key=key))]
    assert len(set(entries)) == 24
    columns = {x for x, _ in entries}
    for column in columns:
        heights = sorted(y for x, y in entries if x == column)
        assert all(b - a >= 14.9 for a, b in pairwise(heights))


def test_names_stand_beside_the_ends_of_their_lines() -> None:
    lines = [Line("low", [Point(1, 0.1, "-")]), Line("high", [Point(1, 0.9, "-")])]
    root = chart(*lines, key="ends", size=Size(500, 300, right=100))
    for group in series(root):
        (_, y), *_ = places(group)
        assert entry(group)[1] == pytest.approx(y + 4, abs=0.1)  # 4: from the middle of a letter to its foot


def test_no_line_and_no_point_at_all() -> None:
    assert series(chart()) == []
    assert places(series(chart(Line("a", [])))[0]) == []


@given(st.lists(st.integers(0, 100), min_size=1, max_size=7))
def test_spread_keeps_gap_and_order_and_moves_no_more_than_it_must(wanted: list[int]) -> None:
    found = spread(wanted, 5, -1000, 1000)
    order = sorted(range(len(wanted)), key=lambda i: (wanted[i], found[i]))
    assert all(found[b] - found[a] >= 5 - 1e-9 for a, b in pairwise(order))
    if all(wanted[b] - wanted[a] >= 5 for a, b in pairwise(order)):
        assert found == pytest.approx(wanted)
    # A pool is moved as one: no shift of all places fits better than none.
    assert sum(found) == pytest.approx(sum(wanted))


def test_spread_stays_between_the_ends() -> None:
    assert spread([0, 0, 0], 10, 0, 100) == [0, 10, 20]
    assert spread([100, 100], 10, 0, 100) == [90, 100]
