"""Axes: where a value lies between the two ends, and which values are written beside the axis."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)  # steps that people count in, times a power of ten
_NEARLY = 1 + 1e-9  # logarithms are not exact


class Scale(NamedTuple):
    """An axis from ``low`` to ``high``.

    >>> Scale(2, 32, (), logarithmic=True).place(8)  # 2 -> 4 -> 8 -> 16 -> 32
    0.5
    """

    low: float
    high: float
    ticks: Sequence[tuple[float, str]]
    """(value, text) of what is written beside the axis."""
    logarithmic: bool = False

    def place(self, value: float) -> float:
        """The share of the way from ``low`` to ``high``."""
        if self.logarithmic:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


SHARE = Scale(0, 1, tuple((quarter / 4, f"{quarter / 4:g}") for quarter in range(5)))
"""The axis of a share, whole: 0 to 1."""


def linear(values: Iterable[float], *, about: int = 5) -> Scale:
    """An axis just around the values, with about so many round steps.

    >>> scale = linear([0.507, 0.648])
    >>> scale.low, scale.high, [text for _, text in scale.ticks]
    (0.5, 0.65, ['0.5', '0.525', '0.55', '0.575', '0.6', '0.625', '0.65'])
    """
    low, high = _ends(values)
    if high - low < 1e-6 * max(abs(low), abs(high), 1e-3):  # one value: show its surroundings
        low, high = low - max(abs(low), 0.1) / 10, high + max(abs(high), 0.1) / 10
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * min(_STEPS, key=lambda size: abs(math.log(size * power / rough)))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = [(float(f"{k * step:.6g}"), f"{k * step:.6g}") for k in range(first, last + 1)]
    return Scale(ticks[0][0], ticks[-1][0], ticks)


def logarithmic(values: Iterable[float], *, base: int = 10, most: int = 8) -> Scale:
    """A logarithmic axis around positive values, from one round value to another.

    Round are the powers of ``base``; of 10, 2 and 5 times a power too, which are written where there are
    few of them.

    >>> [text for _, text in logarithmic([3, 5120], base=2, most=5).ticks]
    ['2', '16', '128', '1,024', '8,192']
    >>> [text for _, text in logarithmic([0.3, 8]).ticks]
    ['0.2', '0.5', '1', '2', '5', '10']
    >>> scale = logarithmic([3, 1500])
    >>> scale.low, scale.high, [text for _, text in scale.ticks]
    (2.0, 2000.0, ['10', '100', '1,000'])
    """
    low, high = _ends(value for value in values if value > 0)
    first, last = math.floor(math.log(low, base)) - 1, math.ceil(math.log(high, base)) + 1
    steps = (1, 2, 5) if base == 10 else (1,)
    marks = [float(base) ** power * step for power in range(first, last + 1) for step in steps]
    start = max(i for i, mark in enumerate(marks) if mark <= low * _NEARLY)
    end = min(i for i, mark in enumerate(marks) if mark * _NEARLY >= high and i > start)
    written = marks[start : end + 1]
    if len(written) > most:
        written = [mark for i, mark in enumerate(marks) if start <= i <= end and i % len(steps) == 0]
    written = written[:: math.ceil(len(written) / most)]
    return Scale(marks[start], marks[end], [(mark, f"{mark:,.6g}") for mark in written], logarithmic=True)


def listed(values: Sequence[float]) -> Scale:
    """A logarithmic axis whose ticks are the (positive) values themselves.

    >>> listed([16, 64]).ticks
    [(16, '16'), (64, '64')]
    """
    low, high = _ends(values)
    room = (high / low) ** 0.04 if high > low else 2.0  # so that no point lies on the edge
    return Scale(low / room, high * room, [(value, f"{value:,g}") for value in values], logarithmic=True)


def _ends(values: Iterable[float]) -> tuple[float, float]:
    known = list(values) or [1.0]
    return min(known), max(known)
