"""Checks of the settings that losses share; a message is one line."""

from __future__ import annotations

import math
from collections.abc import Collection

import numpy as np

from anglehash.errors import ConfigError, unknown


def check_classes(classes: int) -> int:
    """Return ``classes`` if a classifier can have so many.

    Raises:
        ConfigError: not a whole number, or less than 2.
    """
    if isinstance(classes, bool) or not isinstance(classes, int | np.integer) or classes < 2:
        raise ConfigError(f"classes must be a whole number >= 2 (one class has no rival), got {classes!r}")
    return int(classes)


def check_weight(name: str, value: float) -> float:
    """Return ``value`` if it can weigh a term.

    Raises:
        ConfigError: not a finite number >= 0.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ConfigError(f"{name} is a weight, a finite number >= 0, got {value!r}")
    return float(value)


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
