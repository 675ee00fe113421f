"""What training costs, by variant: bars, or dots on a logarithmic axis where the costs differ much."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from anglehash.benchmark.report.leaderboard import Leaderboard, median_of
from anglehash.report.components import section
from anglehash.report.html import Markup, join, tag

_WIDE = 50  # above this ratio of the largest to the smallest, the axis is logarithmic


class _Decades(NamedTuple):
    """A logarithmic axis over whole powers of ten."""

    first: int
    last: int

    def place(self, value: float) -> float:
        return (math.log10(value) - self.first) / (self.last - self.first) if value > 0 else 0.0

    def head(self) -> Markup:
        texts = [tag("span", _seconds(10.0**power)) for power in range(self.first, self.last + 1)]
        return tag("thead", tag("tr", tag("td"), tag("td", tag("div", *texts), class_="steps"), tag("td")))


def seconds_section(leaderboard: Leaderboard, *, fine_tuned: bool = False) -> Markup:
    """Seconds of training at the example length, the quickest first; baselines do not train.

    CPU seconds, where a cell has them: several processes on a busy machine stretch the others.

    Args:
        leaderboard: what was measured.
        fine_tuned: whether the backbone learned too, from images.
    """
    cells = {name: leaderboard.at(name, leaderboard.example) for name in leaderboard.order}
    trained = {name: own for name, own in cells.items() if leaderboard.variants[name].trained}
    cpu = {name: median_of(own, "train_cpu_seconds") for name, own in trained.items()}
    found = {n: median_of(own, "train_seconds") if cpu[n] is None else cpu[n] for n, own in trained.items()}
    seconds = {name: value for name, value in found.items() if value is not None and value >= 0}
    if not any(seconds.values()):
        return join()
    elapsed = [name for name in seconds if cpu[name] is None]
    words = f"At {leaderboard.example:,} bits, median over the cells"
    if elapsed and len(elapsed) < len(seconds):
        words += f"; elapsed seconds of {', '.join(elapsed)}"
    if fine_tuned:
        words += "; decoding the images and validation are in it"
    title = "Seconds to train" if elapsed else "CPU seconds to train"
    return section(title, _seconds_table(leaderboard, seconds, words))


def _seconds_table(leaderboard: Leaderboard, seconds: Mapping[str, float], words: str) -> Markup:
    positive = [value for value in seconds.values() if value > 0]
    low, high = min(positive), max(positive)
    axis = _Decades(math.floor(math.log10(low)), math.ceil(math.log10(high))) if high > _WIDE * low else None
    rows = [
        tag(
            "tr",
            tag("th", name, scope="row"),
            _bar(axis.place(value) if axis else value / high),
            tag("td", _seconds(value)),
            class_="marked" if leaderboard.highlighted(name) else None,
        )
        for name, value in sorted(seconds.items(), key=lambda item: item[1])
    ]
    if axis is None:
        return tag("table", tag("caption", words), tag("tbody", *rows), class_="bars tight")
    caption = tag("caption", f"{words}; each step of the axis is ten times longer")
    steps = f"--steps: {axis.last - axis.first}"
    return tag("table", caption, axis.head(), tag("tbody", *rows), class_="bars tight dots", style=steps)


def _bar(share: float) -> Markup:
    return tag("td", tag("span", style=f"--share: {share:.1%}"), class_="bar", aria_hidden="true")


def _seconds(value: float) -> str:
    """Two or three digits that matter.

    >>> _seconds(0.01234), _seconds(3.217), _seconds(432.1), _seconds(10)
    ('0.012 s', '3.2 s', '432 s', '10 s')
    """
    if value >= 99.5:
        return f"{value:,.0f} s"
    return f"{value:.3g} s" if value >= 9.95 else f"{value:.2g} s"
