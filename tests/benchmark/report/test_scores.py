from __future__ import annotations

import pytest

from anglehash.benchmark.report.scores import Score, level, level_in_pairs


@pytest.mark.parametrize(
    ("one", "other", "answer"),
    [
        ((0.60, 0.010), (0.609, 0.001), True),  # .009 < .010, whichever has it
        ((0.60, 0.001), (0.609, 0.010), True),
        ((0.60, 0.005), (0.609, 0.008), False),
        ((0.60, 0.0), (0.6004, 0.0), True),  # both are shown as 0.600
        ((0.60, 0.0), (0.601, 0.0), False),
    ],
)
def test_level_is_within_the_larger_deviation(
    one: tuple[float, float], other: tuple[float, float], answer: bool
) -> None:
    assert level(Score(*one, 3), Score(*other, 3)) is answer
    assert level(Score(*other, 3), Score(*one, 3)) is answer


@pytest.mark.parametrize(
    ("differences", "answer"),
    [
        ((0.01, 0.02, 0.03), False),  # .02 against 2 * .01 / sqrt(3) = .0115
        ((-0.01, -0.02, -0.03), False),
        ((-0.01, 0.02, 0.05), True),  # .02 against 2 * .03 / sqrt(3) = .0346
        ((0.004, 0.004, 0.004), False),  # small, but in every draw
        ((0.0004, 0.0004), True),  # too small to be shown
        ((0.3,), False),  # one draw tells nothing of the noise
    ],
)
def test_level_in_pairs(differences: tuple[float, ...], answer: bool) -> None:
    assert level_in_pairs(differences) is answer


def test_more_draws_of_the_same_differences_tell_more() -> None:
    assert level_in_pairs([0.0, 0.1] * 2)  # .05 against 2 * .0577 / sqrt(4) = .0577
    assert not level_in_pairs([0.0, 0.1] * 3)  # .05 against 2 * .0548 / sqrt(6) = .0447
