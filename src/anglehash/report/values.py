"""Values of a result as a page writes them.

A result may come from a file that someone wrote by hand: a value of another kind counts as absent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def number(value: object) -> float | None:
    """The value, if it is a number that a page can show; ``True`` is none.

    >>> number(3), number(True), number("3"), number(float("nan"))
    (3, None, None, None)
    """
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15:
        return value
    return None


def numbers(value: object, *keys: str) -> list[float]:
    """The numbers under these keys, or nothing where one of them is missing."""
    found = [number(mapping(value).get(key)) for key in keys]
    return [one for one in found if one is not None] if None not in found else []


def mapping(value: object) -> Mapping[Any, Any]:
    """The value, if it is a mapping; else an empty one."""
    return value if isinstance(value, Mapping) else {}


def sequence(value: object) -> Sequence[Any]:
    """The value, if it is a list; else an empty one."""
    return value if isinstance(value, list | tuple) else ()


def mappings(value: object) -> list[Mapping[Any, Any]]:
    """The mappings of a list that hold something.

    >>> mappings([{"seed": 0}, {}, 3]), mappings(None)
    ([{'seed': 0}], [])
    """
    return [one for one in map(mapping, sequence(value)) if one]


def first_split(result: Mapping[str, Any]) -> Mapping[Any, Any]:
    """What a result says of its first split, whose scores are the headline; nothing where it has none."""
    return mapping(next(iter(sequence(result.get("splits"))), None))


def by_number(value: object) -> dict[int, float]:
    """Values by number of answers, which is text in JSON; in ascending order.

    >>> by_number({"100": 0.6, "5": 0.7, "all": 0.5})
    {5: 0.7, 100: 0.6}
    """
    pairs = ((str(key), number(score)) for key, score in mapping(value).items())
    return dict(sorted((int(key), score) for key, score in pairs if key.isdecimal() and score is not None))


def figure(value: object) -> str:
    """A measured share: three decimals, or a dash where there is none.

    >>> figure(0.69449), figure(None)
    ('0.694', '–')
    """
    found = number(value)
    return "–" if found is None else f"{found:.3f}"


def count(value: object) -> str:
    """A whole number with its thousands apart, or a dash.

    >>> count(59000), count("many")
    ('59,000', '–')
    """
    found = number(value)
    return "–" if found is None else f"{found:,.0f}"


def in_bytes(size: float) -> str:
    """A size in words.

    >>> in_bytes(1), in_bytes(5120), in_bytes(1.5)
    ('1 byte', '5,120 bytes', '1.5 bytes')
    """
    return f"{size:,g} byte{'s' * (size != 1)}"


def percent(value: object, of: str) -> str:
    """A share of something, or nothing.

    >>> percent(0.034, "found nothing")
    '3.4% found nothing'
    """
    found = number(value)
    return "" if found is None else f"{found:.1%} {of}"


def plain(value: object) -> str:
    """Any value as one line.

    >>> plain({"margin": 0.2, "layers": [256, None]})
    'margin 0.2, layers 256, none'
    """
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {plain(own)}" for key, own in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(map(plain, value)) or "none"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
