"""Checks of the settings that methods share, losses and conventional ones; a message is one line."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import TypeGuard

import numpy as np

from anglehash.errors import ConfigError, unknown


def is_number(value: object) -> TypeGuard[float]:
    """Whether a setting is a number; ``True`` and ``False`` are none, nor is a text.

    >>> is_number(3), is_number(0.5), is_number(True), is_number("3")
    (True, True, False, False)
    """
    return isinstance(value, int | float) and not isinstance(value, bool)


def check_whole(name: str, value: object, least: int = 1, *, hint: str = "") -> int:
    """Return ``value`` if it can count something.

    Args:
        name: of the setting.
        value: as it was given.
        least: what it must be at least.
        hint: what the message says of the setting, in brackets.

    Raises:
        ConfigError: not a whole number, or less than ``least``.

    >>> check_whole("reference", -1, 0, hint="0: all")
    Traceback (most recent call last):
    anglehash.errors.ConfigError: reference must be a whole number >= 0 (0: all), got -1
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise ConfigError(f"{name} must be a whole number >= {least}{_brackets(hint)}, got {value!r}")
    return int(value)


def check_positive(name: str, value: object, *, hint: str = "") -> float:
    """Return ``value`` if it is a size.

    Args:
        name: of the setting.
        value: as it was given.
        hint: what the message says of the setting, in brackets.

    Raises:
        ConfigError: not a finite number > 0.
    """
    if not is_number(value) or not 0 < value < math.inf:
        raise ConfigError(f"{name} must be a finite number > 0{_brackets(hint)}, got {value!r}")
    return float(value)


def check_weight(name: str, value: object) -> float:
    """Return ``value`` if it can weigh a term.

    Raises:
        ConfigError: not a finite number >= 0.
    """
    if not is_number(value) or not 0 <= value < math.inf:
        raise ConfigError(f"{name} is a weight, a finite number >= 0, got {value!r}")
    return float(value)


def check_share(name: str, value: object) -> float:
    """Return ``value`` if it can be a part of something, and not the whole.

    Raises:
        ConfigError: not a number in [0, 1).

    >>> check_share("dropout", 1)
    Traceback (most recent call last):
    anglehash.errors.ConfigError: dropout must be a number in [0, 1), got 1
    """
    if not is_number(value) or not 0 <= value < 1:
        raise ConfigError(f"{name} must be a number in [0, 1), got {value!r}")
    return float(value)


def check_classes(classes: object) -> int:
    """Return ``classes`` if a classifier can have that many.

    Raises:
        ConfigError: not a whole number, or less than 2.
    """
    return check_whole("classes", classes, 2, hint="one class has no other to be separated from")


def check_progress(fraction: float) -> float:
    """Return ``fraction`` if it can be the part of a run that is over.

    Raises:
        ConfigError: not in [0, 1].
    """
    if not 0 <= fraction <= 1:
        raise ConfigError(f"progress is the part of the run that is over, in [0, 1], got {fraction}")
    return fraction


def choose(kind: str, name: str, known: Collection[str]) -> str:
    """Return ``name`` if it is one of ``known``.

    Raises:
        ConfigError: it is not.

    >>> choose("distance", "cosine", ["cos", "tanh_unit"])
    Traceback (most recent call last):
    anglehash.errors.ConfigError: unknown distance 'cosine'; did you mean 'cos'? Known: cos, tanh_unit
    """
    if name not in known:
        raise unknown(kind, name, known)
    return name


def _brackets(hint: str) -> str:
    return f" ({hint})" if hint else ""
