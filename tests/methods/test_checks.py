from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from anglehash.errors import ConfigError
from anglehash.methods.checks import check_classes, check_positive, check_progress, check_weight, check_whole

Check = Callable[[object], float]

CHECKS: dict[str, tuple[Check, list[object], list[object]]] = {
    "whole": (lambda value: check_whole("n", value), [1, 7, np.int64(3)], [0, -1, 1.0, True]),
    "whole from 0": (lambda value: check_whole("n", value, 0), [0, 1], [-1, 0.5, False]),
    "positive": (lambda value: check_positive("n", value), [1, 0.5, 1e300], [0, -0.1, True]),
    "weight": (lambda value: check_weight("n", value), [0, 0.0, 3], [-1e-9, False]),
    "classes": (check_classes, [2, np.int32(200)], [1, 2.0, True]),
}
NEVER: list[object] = [math.nan, math.inf, "1", None, [1]]


@pytest.mark.parametrize("name", CHECKS)
def test_a_good_value_comes_back_as_a_plain_number(name: str) -> None:
    check, good, _ = CHECKS[name]
    for value in good:
        found = check(value)
        assert found == value
        assert type(found) in (int, float)


@pytest.mark.parametrize("name", CHECKS)
def test_a_bad_value_is_named_in_one_line(name: str) -> None:
    check, _, bad = CHECKS[name]
    for value in bad + NEVER:
        with pytest.raises(ConfigError) as caught:
            check(value)
        assert str(caught.value).endswith(f"got {value!r}")
        assert "\n" not in str(caught.value)


def test_a_hint_stands_in_brackets() -> None:
    with pytest.raises(ConfigError, match=r"^scale must be a finite number > 0 \(or nothing\), got 0$"):
        check_positive("scale", 0, hint="or nothing")
    with pytest.raises(
        ConfigError,
        match=r"^classes must be a whole number >= 2 \(one class has no other to be separated from\), got 1$",
    ):
        check_classes(1)
    with pytest.raises(ConfigError, match=r"^rows must be a whole number >= 5, got 4$"):
        check_whole("rows", 4, 5)


def test_progress_is_a_part_of_the_run() -> None:
    assert [check_progress(part) for part in (0, 0.5, 1)] == [0, 0.5, 1]
    for part in (-0.1, 1.1, math.nan):
        with pytest.raises(ConfigError, match="progress is the part of the run that is over"):
            check_progress(part)
