from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from anglehash.serve.report.charts import SHARE, Axis, Point, line_chart


def chart(**lines: list[Point]) -> ElementTree.Element:
    return ElementTree.fromstring(line_chart("a <title>", lines, Axis("recall", SHARE), y_name="precision"))


def places(root: ElementTree.Element, number: int = 0) -> list[tuple[float, float]]:
    return [
        (float(dot.attrib["cx"]), float(dot.attrib["cy"]))
        for dot in root.findall("circle")
        if dot.attrib["class"] == f"dot{number}"
    ]


def test_the_corners_of_the_plot_are_the_ends_of_the_axes() -> None:
    root = chart(a=[Point(0, 0, ""), Point(1, 1, ""), Point(0.5, 0.25, "")])
    (x0, y0), (x1, y1), middle = places(root)
    grid = [line.attrib for line in root.findall("line")]
    assert {line["y1"] for line in grid} >= {str(y0), str(y1)}
    assert (float(grid[0]["x1"]), float(grid[0]["x2"])) == (x0, x1)
    assert middle == pytest.approx(((x0 + x1) / 2, y0 + (y1 - y0) / 4))
    assert x0 < x1
    assert y0 > y1  # up is more


def test_the_line_runs_through_its_points() -> None:
    root = chart(a=[Point(0, 0.8, ""), Point(0.4, 0.6, ""), Point(1, 0.1, "")])
    (line,) = root.findall("polyline")
    assert [tuple(map(float, p.split(","))) for p in line.attrib["points"].split()] == places(root)


def test_everything_lies_inside_the_drawing() -> None:
    root = chart(a=[Point(0, 0, ""), Point(1, 1, "")])
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    assert all(0 < x < width and 0 < y < height for x, y in places(root))
    texts = [text for text in root.findall("text") if "transform" not in text.attrib]
    assert all(0 < float(t.attrib["x"]) < width and 0 < float(t.attrib["y"]) < height for t in texts)


def test_is_read_out_and_points_tell_what_they_are() -> None:
    root = chart(a=[Point(0, 1, "radius 0: <b>")])
    assert root.attrib["role"] == "img"
    assert root[0].tag == "title"
    assert root[0].text == "a <title>"
    assert [dot.findtext("title") for dot in root.findall("circle")] == ["radius 0: <b>"]


def test_marks_do_not_run_into_each_other() -> None:
    crowd = [Point(i / 1000, 0.5, "", mark=f"r {i}") for i in range(100)]
    alone = Point(0.9, 0.5, "", mark="r far")
    texts = [text.text for text in chart(a=[*crowd, alone]).findall("text")]
    assert [text for text in texts if text and re.match("r ", text)] == ["r 0", "r far"]


def test_several_lines_are_named_and_one_is_not() -> None:
    both = chart(precision=[Point(0, 1, "")], recall=[Point(0, 0, "")])
    names = [text.text for text in both.findall("text")]
    assert "precision" in names
    assert "recall" in names
    assert len(places(both, 0)) == len(places(both, 1)) == 1
    alone = chart(precision=[Point(0, 1, "")])
    assert len(alone.findall("line")) == len(both.findall("line")) - 2


def test_no_point_at_all() -> None:
    assert places(chart(a=[])) == []
