from __future__ import annotations

import itertools
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from numpy.typing import NDArray

from anglehash.errors import OutputExistsError
from anglehash.report.components import style
from anglehash.report.figures import COLORS, Chart, Line, apart, draw, inline, plot, save_pdf

CHART = Chart(
    "How it grows: A/B", "bits", "mAP",
    (Line("one", (16, 32), (0.5, 0.6), spread=(0.01, 0.02)), Line("two", (16, 32), (0.4, 0.5), "c0", "dashed", "s")),
    base=2, ticks=(16, 32),
)  # fmt: skip

SIGHT = {  # Machado, Oliveira and Fernandes 2009, severity 1
    "all": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}  # fmt: skip


def linear(color: str) -> NDArray[np.float64]:
    share = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)


def lab(rgb: NDArray[np.float64]) -> NDArray[np.float64]:
    matrix = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = matrix @ np.clip(rgb, 0, 1) / np.array([0.9505, 1, 1.089])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def contrast(one: str, other: str) -> float:
    weights = np.array([0.2126, 0.7152, 0.0722])
    dark, light = sorted(float(weights @ linear(color)) for color in (one, other))
    return (light + 0.05) / (dark + 0.05)


def themes() -> dict[str, dict[str, str]]:
    """The colors of the style sheet, by name, on light and dark screens."""
    light, dark = re.split(r"@media \(prefers-color-scheme: dark\)", style("style.css"))[:2]
    return {
        name: dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", css))
        for name, css in (("light", light), ("dark", dark))
    }


def test_paper_and_light_screens_have_the_same_colors() -> None:
    assert COLORS.items() <= themes()["light"].items()
    assert COLORS.keys() <= themes()["dark"].keys()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("sight", SIGHT)
def test_everyone_tells_the_lines_apart(theme: str, sight: str) -> None:
    colors = themes()[theme]
    seen = {n: lab(np.array(SIGHT[sight]) @ linear(colors[n])) for n in COLORS if n not in ("ink", "rule")}
    for one, other in itertools.combinations(seen, 2):
        assert np.linalg.norm(seen[one] - seen[other]) > 15, (one, other)  # 2.3 is just noticeable


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_lines_and_words_stand_out_from_the_ground(theme: str) -> None:
    colors = themes()[theme]
    assert min(contrast(colors[n], colors["card"]) for n in ("accent", "c0", "c1", "c2", "c3")) > 3
    assert min(contrast(colors[n], colors["card"]) for n in ("ink", "faint")) > 4.5


def test_an_inline_chart_needs_nothing_and_has_the_colors_of_the_page() -> None:
    svg = inline(CHART)
    root = ElementTree.fromstring(svg)
    assert (root.tag, root.get("role")) == ("svg", "img")
    assert root.findtext("title") == CHART.title
    assert not re.search(r"https?:|//|url\(|@import|<style|#[0-9a-f]{6}|font-family", svg)
    used = set(re.findall(r"var\(--(\w+)\)", svg))
    assert used == {"accent", "c0", "ink", "faint", "rule"}
    assert {"one", "two", "bits", "mAP", "16", "32"} <= set("\n".join(root.itertext()).split("\n"))
    assert inline(CHART) == svg


@pytest.mark.parametrize("name", ['<script>&"', "$x_1$", "日本語 🦊", "a\nb", "\udcff", "-->", "]]>"])
def test_any_name_can_be_drawn_and_stays_text(name: str, tmp_path: Path) -> None:
    chart = CHART._replace(title=name, lines=(CHART.lines[0]._replace(name=name), CHART.lines[1]))
    root = ElementTree.fromstring(inline(chart))
    assert not {"script"} & {element.tag for element in root.iter()}
    assert sum(text.count(name) for text in root.itertext()) == (2 if name.isprintable() else 0)
    save_pdf(tmp_path, [chart])


def test_names_do_not_run_into_each_other() -> None:
    lines = tuple(Line(f"line {i}", (1, 2), (0.5, 0.5 + i / 1000)) for i in range(40))
    figure = draw(Chart("many", "x", "y", lines))
    places = sorted(text.get_position()[1] for text in figure.axes[0].texts if text.get_text())
    points = np.diff(places) * figure.axes[0].get_position().height * figure.get_figheight() * 72
    assert len(places) == 40
    assert points.min() > 9
    assert [round(place, 6) for place in apart([0.0, 1.0], 0.1)] == [0, 1]


def test_papers_get_a_pdf_of_each_chart(tmp_path: Path) -> None:
    folder = tmp_path / "figures"
    (path,) = save_pdf(folder, [CHART])
    assert path.name == "how-it-grows-a-b.pdf"
    first = path.read_bytes()
    assert first.startswith(b"%PDF")
    with pytest.raises(OutputExistsError):
        save_pdf(folder, [CHART])
    save_pdf(folder, [CHART], force=True)
    assert path.read_bytes() == first


def test_nothing_is_drawn_where_there_is_nothing() -> None:
    assert plot(None) == ""
    assert "<svg" in plot(Chart("empty", "x", "y", ()))
