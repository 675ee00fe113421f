"""Scores: a mean with its noise, and which two of them are level."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from statistics import mean, stdev
from typing import NamedTuple

_SHOWN = 0.0005  # a smaller difference does not show in three decimals


class Score(NamedTuple):
    """The mean of a measure over runs, its sample standard deviation (0 of one run), and how many runs."""

    mean: float
    deviation: float
    runs: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Score:
        """The score of one value or more.

        >>> Score.of([0.5, 0.6, 0.7])  # deviations -.1, 0, .1: sqrt(.02 / 2) = .1
        Score(mean=0.6, deviation=0.1, runs=3)
        """
        deviation = stdev(values) if len(values) > 1 else 0.0
        return cls(float(f"{mean(values):.12g}"), float(f"{deviation:.12g}"), len(values))


def level(one: Score, other: Score) -> bool:
    """Whether the difference is within the noise.

    It is where it is smaller than the larger standard deviation of the two, or too small to be shown.

    >>> level(Score(0.65, 0.01, 3), Score(0.658, 0.002, 3)), level(Score(0.65, 0, 1), Score(0.658, 0, 1))
    (True, False)
    """
    gap = abs(one.mean - other.mean)
    return gap < _SHOWN or gap < max(one.deviation, other.deviation)


def level_in_pairs(differences: Sequence[float]) -> bool:
    r"""Whether two variants are level, by their differences draw by draw.

    They are where :math:`|\bar d| < 2 s / \sqrt n`, with :math:`\bar d` the mean of the n differences and s
    their sample standard deviation (0 of one difference); or where the mean is too small to be shown.

    >>> level_in_pairs([0.01, 0.02, 0.03])  # mean .02, 2 * .01 / sqrt(3) = .0115
    False
    >>> level_in_pairs([-0.01, 0.02, 0.05])  # mean .02, 2 * .03 / sqrt(3) = .0346
    True
    """
    gap, n = abs(mean(differences)), len(differences)
    return gap < _SHOWN or gap < 2 * (stdev(differences) if n > 1 else 0.0) / sqrt(n)
