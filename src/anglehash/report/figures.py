"""Line charts by matplotlib: SVG inside the pages, PDF for papers.

Names stand at the ends of their lines. The colors are distinguished by people who see few of them, and each is a
variable of ``style.css`` inside a page, so that a chart is as legible in dark mode as in light.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from anglehash.errors import MissingExtraError
from anglehash.files import refuse_existing, write_atomic
from anglehash.report.html import Markup, tag, visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = {
    "accent": "#2b62d9", "c0": "#d55e00", "c1": "#009e73", "c2": "#c766a3", "c3": "#6b3a00",
    "ink": "#1b2330", "faint": "#5d6775", "rule": "#dfe2e6",
}  # fmt: skip
"""The colors of a chart on paper; ``style.css`` has those of the dark."""
MARKERS = "osD^v"
_FONT = 9  # points
_PITCH = 12.5  # points from one name to the next
_INCH = 72


class Line(NamedTuple):
    """Points from left to right, under one name.

    Attributes:
        name: written where the line ends.
        x: of the points.
        y: of the points, as many.
        color: a name of :data:`COLORS`.
        dash: how the line is drawn.
        marker: one of :data:`MARKERS`, or none.
        spread: error bars reach so far up and down from the points; none by default.
        notes: written beside the points, where they do not run into each other; none by default.
    """

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    color: str = "accent"
    dash: Literal["solid", "dashed", "dotted"] = "solid"
    marker: str = ""
    spread: tuple[float, ...] = ()
    notes: tuple[str, ...] = ()


class Chart(NamedTuple):
    """Lines on two axes.

    Attributes:
        title: what it shows; read out in its place, and the name of its file.
        x: what the horizontal axis measures.
        y: what the vertical axis measures.
        lines: what is drawn; a single one needs no name.
        base: of a logarithmic horizontal axis; 0 for a linear one.
        ticks: values that are written below the horizontal axis; matplotlib's own by default.
        logarithmic: the vertical axis, too.
        share: both axes go from 0 to 1.
        ends: names stand where their lines end; otherwise in the order of the lines, which come together there.
        width: in inches.
        height: in inches; more where the names need it.
    """

    title: str
    x: str
    y: str
    lines: tuple[Line, ...]
    base: int = 0
    ticks: tuple[float, ...] = ()
    logarithmic: bool = False
    share: bool = False
    ends: bool = True
    width: float = 9.0
    height: float = 5.0


def inline(chart: Chart) -> Markup:
    """The chart as SVG for a page, without a fixed size; its colors are the page's."""
    stream = StringIO()
    with drawing(hashsalt=visible(chart.title)):
        draw(chart).savefig(
            stream, format="svg", transparent=True, metadata=dict.fromkeys(("Date", "Creator"))
        )
    svg = stream.getvalue()
    box = re.search(r'viewBox="[^"]*"', svg)
    body = svg[svg.index(">", svg.index("<svg")) + 1 : svg.rindex("</svg>")]
    body = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->|<style.*?</style>", "", body, flags=re.DOTALL)
    body = re.sub(r'(<g) id="[^"]*"| clip-path="[^"]*"| transform="rotate\(-0 [^"]*"', r"\1", body)
    body = re.sub(r"font-family: [^;]*; ", "", body).replace("xlink:href", "href")
    for name, color in COLORS.items():
        body = body.replace(f": {color}", f": var(--{name})")
    title = tag("title", chart.title)
    return Markup(f'<svg {box[0] if box else ""} role="img" class="chart">{title}{body}</svg>')


def plot(chart: Chart | None) -> Markup:
    """The chart in a frame of a page, which scrolls where the screen is narrow; nothing where there is none."""
    return tag("figure", tag("div", inline(chart), tabindex=0), class_="plot") if chart else Markup("")


def save_pdf(folder: Path, charts: Sequence[Chart], *, force: bool = False) -> list[Path]:
    """Write a PDF file of each chart, named after its title, without a title in it.

    Raises:
        OutputExistsError: one of the files exists and ``force`` is not set.
    """
    from io import BytesIO

    paths = [folder / f"{re.sub('[^a-z0-9]+', '-', c.title.casefold()).strip('-')}.pdf" for c in charts]
    for path in paths:
        refuse_existing(path, force=force)
    folder.mkdir(parents=True, exist_ok=True)
    for path, chart in zip(paths, charts, strict=True):
        stream = BytesIO()
        with drawing():
            draw(chart).savefig(
                stream, format="pdf", metadata={"CreationDate": None, "Title": visible(chart.title)}
            )
        write_atomic(path, stream.getvalue())
    return paths


@contextmanager
def drawing(hashsalt: str = "") -> Iterator[None]:
    """Matplotlib with text as text, the same bytes each time, and letters that its font lacks passed over.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise MissingExtraError("matplotlib", extra="report") from error
    options: Any = {"svg.fonttype": "none", "svg.hashsalt": hashsalt, "pdf.fonttype": 42}
    options |= {"font.size": _FONT, "font.family": ["DejaVu Sans"], "axes.linewidth": 0.8}
    with warnings.catch_warnings(), matplotlib.rc_context(options):
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        yield


def draw(chart: Chart) -> Figure:
    """The chart as a figure of matplotlib."""
    from matplotlib.figure import Figure

    lines = [line for line in chart.lines if line.x]
    named = len(lines) > 1
    longest = max((len(visible(line.name)) for line in lines), default=0) if named else 0
    right = min(0.65 + 0.085 * longest, 0.45 * chart.width) if named else 0.2
    height = max(chart.height, 0.8 + len(lines) * _PITCH / _INCH * named)
    figure = Figure(figsize=(chart.width, height))
    box = (0.68 / chart.width, 0.52 / height, 1 - (0.68 + right) / chart.width, 1 - 0.66 / height)
    axes = figure.add_axes(box)
    _frame(axes, chart)
    if chart.logarithmic:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:,g}")
        axes.minorticks_off()
    for line in lines:
        _line(axes, line, grey=line.color == "faint")
    if chart.share:
        axes.set(xlim=(0, 1), ylim=(0, 1))
    else:
        axes.margins(x=0.03, y=0.05)
    _ticks(axes, chart)
    if named:
        _names(axes, lines, gap=_PITCH / _INCH / (height - 0.66), ends=chart.ends)
    return figure


def _frame(axes: Axes, chart: Chart) -> None:
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(COLORS["rule"])
    axes.grid(axis="y", color=COLORS["rule"], linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=COLORS["faint"], length=0, pad=5)
    for name, label in ((chart.x, axes.set_xlabel), (chart.y, axes.set_ylabel)):
        label(name, color=COLORS["ink"], labelpad=7)


def _ticks(axes: Axes, chart: Chart) -> None:
    """The horizontal axis; matplotlib's own ticks of a logarithm are powers, which few people read."""
    if not chart.base:
        return
    axes.set_xscale("log", base=chart.base)
    axes.minorticks_off()
    low, high = axes.get_xlim()
    ticks = [t for t in chart.ticks or axes.get_xticks() if low <= t <= high]
    ticks = ticks[:: max(1, -(-len(ticks) // 9))]
    axes.set_xticks(ticks, labels=[f"{tick:,.6g}" for tick in ticks])


def _line(axes: Axes, line: Line, *, grey: bool) -> None:
    color, first = COLORS[line.color], line.color == "accent"
    style: dict[str, Any] = {"color": color, "zorder": 4 if first else 2 if grey else 3, "clip_on": False}
    width = 2.4 if first else 1.0 if grey else 1.5
    axes.plot(
        line.x, line.y, linestyle=line.dash, linewidth=width, marker=line.marker or "None",
        markersize=4.5 if first else 3.5, **style,
    )  # fmt: skip
    if any(line.spread):
        axes.errorbar(line.x, line.y, line.spread, fmt="none", elinewidth=0.8, capsize=2, **style)
    last = None
    for x, y, note in zip(line.x, line.y, line.notes, strict=False):
        place = axes.transAxes.inverted().transform(axes.transData.transform((x, y)))
        if note and place[0] < 0.9 and (last is None or abs(place - last).max() > 0.09):
            axes.annotate(note, (x, y), (4, 5), textcoords="offset points", color=COLORS["faint"])
            last = place


def _names(axes: Axes, lines: Sequence[Line], *, gap: float, ends: bool) -> None:
    """Each name to the right of the plot, with a piece of its line; ``gap`` is a share of the plot's height."""
    wanted = [1 - place * gap for place in range(len(lines))]
    if ends:
        way = axes.transData + axes.transAxes.inverted()
        wanted = apart([float(way.transform((line.x[-1], line.y[-1]))[1]) for line in lines], gap)
    for line, height in zip(lines, wanted, strict=True):
        first, grey = line.color == "accent", line.color == "faint"
        piece: dict[str, Any] = {
            "color": COLORS[line.color],
            "linewidth": 2 if first else 1,
            "clip_on": False,
        }
        axes.plot((1.035, 1.06), (height, height), linestyle=line.dash, transform=axes.transAxes, **piece)
        if ends:
            axes.annotate(
                "", (line.x[-1], line.y[-1]), (1.035, height), textcoords="axes fraction", annotation_clip=False,
                arrowprops={"arrowstyle": "-", "shrinkA": 0, "alpha": 0.45, **piece, "linewidth": 0.7},
            )  # fmt: skip
        axes.text(
            1.068, height, visible(line.name), transform=axes.transAxes, va="center", parse_math=False,
            color=COLORS["faint" if grey else "ink"], weight="bold" if first else "normal",
        )  # fmt: skip


def apart(wanted: Sequence[float], gap: float) -> list[float]:
    r"""Places in 0..1, at least ``gap`` apart where there is room, as near as possible to those wanted.

    With :math:`u_i` the wanted places in order, minimise :math:`\sum (p_i - u_i)^2` under
    :math:`p_{i+1} - p_i \ge gap`: an isotonic regression of :math:`u_i - i\,gap`.

    Two wish for 0.5: they part around it.

    >>> [round(place, 6) for place in apart([0.5, 0.9, 0.5], 0.1)]
    [0.45, 0.9, 0.55]
    """
    import numpy as np
    from scipy.optimize import isotonic_regression

    order = np.argsort(wanted, kind="stable")
    steps = np.arange(len(order)) * min(gap, 1 / max(len(order) - 1, 1))
    level = isotonic_regression(np.asarray(wanted, dtype=float)[order] - steps).x
    found = np.empty(len(order))
    found[order] = np.clip(level, 0, 1 - steps[-1]) + steps
    return [float(place) for place in found]
