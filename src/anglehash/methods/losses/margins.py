r"""Margins: how much harder than the other classes the true class is held.

Each function turns the cosine ``c`` between an image and its class vector into a smaller one, ``g(c) / s``:
the margin in front of the scale ``s``. None ever raises a cosine, so to reach the same loss an image must
come nearer to its class than a plain softmax would ask.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from anglehash.errors import ConfigError, unknown
from anglehash.methods.checks import is_number


def psi(cosine: Tensor, m: int) -> Tensor:
    r"""The monotone extension of :math:`\cos m\theta` to all angles.

    .. math:: \psi_m(\theta) = (-1)^k \cos m\theta - 2k, \quad
              \theta \in [k\pi/m, (k+1)\pi/m], \quad k = 0 \ldots m - 1

    It falls strictly from 1 at 0 to 1 - 2m at pi, without a jump, and is never above cos.

    The gradient is finite everywhere: k, a constant between its steps, is all that comes from acos (whose
    slope is infinite at c = 1 and -1), and cos m theta is the Chebyshev polynomial T_m(c).

    Args:
        cosine: any shape, in [-1, 1] up to rounding.
        m: how many times the angle is multiplied, a whole number >= 1; with 1 it is cos itself.

    Source:
        Liu et al., "SphereFace", CVPR 2017.

    At 120 degrees with m = 4, k = 2: cos 480 - 4 = -4.5.

    >>> round(float(psi(torch.tensor(-0.5), m=4)), 4)
    -4.5
    """
    theta = torch.acos(cosine.detach().clamp(-1, 1))
    k = torch.floor(theta * (m / math.pi)).clamp_max(m - 1)  # theta = pi would open a piece m
    sign = 1 - 2 * (k % 2)
    return sign * chebyshev(cosine, m) - 2 * k


def chebyshev(x: Tensor, m: int) -> Tensor:
    """The polynomial T_m, by T_{i+1} = 2 x T_i - T_{i-1}: T_m(cos theta) = cos(m theta).

    >>> float(chebyshev(torch.tensor(0.5), 3))  # cos 180 degrees
    -1.0
    """
    previous, current = torch.ones_like(x), x
    for _ in range(m - 1):
        previous, current = current, 2 * x * current - previous
    return current


def asoftmax(cosine: Tensor, m: float, lambda_: float) -> Tensor:
    """The angle times m: (lambda c + psi_m) / (1 + lambda); a large lambda softens it to a softmax."""
    return (lambda_ * cosine + psi(cosine, int(m))) / (1 + lambda_)


def arcface(cosine: Tensor, m: float, lambda_: float = 0.0) -> Tensor:
    """The angle plus m: cos(theta + m), and c - m sin m where that would pass pi; lambda is not used.

    At theta = pi - m the first piece ends at -1 and the second begins at -cos m - m sin m. So it falls throughout as
    long as cos m + m sin m >= 1, up to :data:`ARCFACE_MOST`; with more it would jump up there.

    1 - c^2 is clamped at 1e-6: the slope of its root is infinite at c = 1 and -1.
    """
    sine = (1 - cosine.square()).clamp_min(1e-6).sqrt()
    shifted = cosine * math.cos(m) - sine * math.sin(m)
    return torch.where(cosine < -math.cos(m), cosine - m * math.sin(m), shifted)


def cosface(cosine: Tensor, m: float, lambda_: float = 0.0) -> Tensor:
    """A constant off: c - m; lambda is not used."""
    return cosine - m


def softmax(cosine: Tensor, m: float, lambda_: float = 0.0) -> Tensor:
    """No margin: c itself; m and lambda are not used."""
    return cosine


ARCFACE_MOST = 2.3311223704144224
"""The largest m with cos m + m sin m >= 1: the root of tan(m / 2) = m."""


class Margin(NamedTuple):
    """A margin and its strength.

    Attributes:
        apply: ``(cosine, m, lambda) -> g(c) / s``.
        m: the default strength.
        valid: whether a strength makes sense.
        range: the same in words.
    """

    apply: Callable[[Tensor, float, float], Tensor]
    m: float
    valid: Callable[[float], bool]
    range: str


MARGINS = {
    "asoftmax": Margin(asoftmax, 4, lambda m: m >= 1 and float(m).is_integer(), "a whole number >= 1"),
    "arcface": Margin(
        arcface,
        0.2,
        lambda m: 0 <= m <= ARCFACE_MOST,
        "an angle in radians, in [0, 2.331]: with more it is not monotone",
    ),
    "cosface": Margin(cosface, 0.2, lambda m: 0 <= m < 2, "a part of a cosine's range, in [0, 2)"),
    "softmax": Margin(softmax, 0, lambda m: m == 0, "0: it has none"),
}


def choose_strength(name: str, m: float | None) -> float:
    """The strength of a margin: ``m``, or the default of that margin.

    Raises:
        ConfigError: no such margin, or ``m`` is out of its range.

    >>> choose_strength("cosface", 4)
    Traceback (most recent call last):
    anglehash.errors.ConfigError: m of the margin 'cosface' is a part of a cosine's range, in [0, 2), got 4
    """
    if name not in MARGINS:
        raise unknown("margin", name, MARGINS)
    margin = MARGINS[name]
    if m is None:
        return margin.m
    if not is_number(m) or not margin.valid(m):
        raise ConfigError(f"m of the margin {name!r} is {margin.range}, got {m!r}")
    return m


@dataclass(frozen=True, slots=True)
class Annealing:
    r"""The fall of lambda, from all but a plain softmax to the full margin of ``asoftmax``.

    .. math:: \lambda = \max(\lambda_{min},\; base / (1 + decay \cdot iteration))

    Attributes:
        minimum: lambda at the end. The curve never reaches 0 (the bare psi): 0 stands for 0 throughout.
        base: lambda at the start.
        decay: speed, per iteration; it cancels where the curve is scaled to the length of the run.
        part: the part of the run at which the scaled curve reaches ``minimum``.

    Raises:
        ConfigError: a setting is out of range.

    Scaled to the run, and as it was published:

    >>> fall = Annealing(minimum=5, base=1000, decay=0.12, part=0.45)
    >>> [round(fall.at(progress), 1) for progress in (0, 0.045, 0.45, 1)]
    [1000.0, 47.8, 5, 5]
    >>> [round(fall.at_iteration(iteration), 3) for iteration in (0, 1658, 1659)]
    [1000.0, 5.001, 5]
    """

    minimum: float
    base: float
    decay: float
    part: float

    def __post_init__(self) -> None:
        if not 0 <= self.minimum <= self.base < math.inf:
            raise ConfigError(
                f"lambda falls from lambda_base to lambda_min >= 0, got {self.base} and {self.minimum}"
            )
        if not 0 < self.decay < math.inf or not 0 < self.part <= 1:
            raise ConfigError(
                f"lambda_decay must be > 0 and anneal in (0, 1], got {self.decay} and {self.part}"
            )

    def at(self, progress: float) -> float:
        """Lambda when this part of the run is over, in [0, 1]."""
        if not self.minimum:
            return 0.0
        last = (self.base / self.minimum - 1) / self.decay  # the iteration that reaches the minimum
        return self.at_iteration(last * progress / self.part)

    def at_iteration(self, iteration: float) -> float:
        """Lambda after ``steps`` steps, whatever the length of the run."""
        return max(self.minimum, self.base / (1 + self.decay * iteration))
