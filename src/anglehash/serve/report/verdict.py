"""The headline of a benchmark in words: who leads at which length, and where AnDSH stands."""

from __future__ import annotations

from collections.abc import Hashable, ItemsView, Mapping, Sequence
from typing import NamedTuple, TypeVar

from anglehash.serve.report.scores import Score
from anglehash.serve.report.standings import Standings
from anglehash.serve.report.values import figure

_K = TypeVar("_K", bound=Hashable)
_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")
_RULES = {
    "seed": "Level means that the difference is smaller than the larger of the two standard deviations over training "
    "seeds.",
    "draw": "Level means that the mean of the differences, draw by draw, is smaller than twice its standard error: "
    "the standard deviation of these differences over the draws, divided by the square root of their number.",
}


class _Place(NamedTuple):
    """Where a variant stands at one length, and by how much it is ahead or behind."""

    form: str
    gap: float | None = None
    brief: str = ""


class Outcome(NamedTuple):
    """Who is best at one length, and where AnDSH stands."""

    bits: int
    best: str
    score: float
    place: str


def verdict(standings: Standings, lengths: Sequence[int] | None = None) -> str:
    """One sentence, or two: the leaders where AnDSH is not among them, and where AnDSH stands.

    A difference within the noise (:meth:`~anglehash.serve.report.standings.Standings.level`) is called level,
    never a win. Places below the top count means.

    Args:
        standings: what was measured.
        lengths: speak of these code lengths only; of all by default.
    """
    leads, places = _clauses(standings, standings.lengths if lengths is None else lengths)
    sentences = [f"{'; '.join(leads)}."] if leads else []
    ours = _called(str(headline_variant(standings)))
    return " ".join([*sentences, f"{ours} {'; it '.join(places)}."] if places else sentences)


def is_short(standings: Standings) -> bool:
    """Whether the verdict of all lengths can be read at a glance: it has three clauses or fewer."""
    return sum(map(len, _clauses(standings, standings.lengths))) <= 3


def outcomes(standings: Standings) -> list[Outcome]:
    """The verdict length by length, in few words."""
    ours, found = headline_variant(standings), []
    for bits in standings.lengths:
        known, top = standings.contenders(bits), standings.top(bits)
        if not top:
            continue
        place = _place(str(ours), top, known) if ours in known else _Place("–")
        gap = "" if place.gap is None else figure(place.gap)
        best = _names(top, most=4)
        found.append(Outcome(bits, best, known[top[0]].mean, place.brief.format(gap=gap)))
    return found


def _clauses(standings: Standings, lengths: Sequence[int]) -> tuple[list[str], list[str]]:
    """What is said of the leaders, and what of AnDSH; lengths of the same outcome together."""
    ours = headline_variant(standings)
    leaders: dict[int, tuple[str, ...]] = {}
    places: dict[int, _Place] = {}
    for bits in lengths:
        known, top = standings.contenders(bits), standings.top(bits)
        top = [name for name in standings.variants if name in top]  # one order for all lengths
        if ours not in top:
            leaders[bits] = tuple(top)
        if ours in known:
            places[bits] = _place(str(ours), top, known)
    every = len(standings.lengths)
    forms = {bits: place.form for bits, place in places.items()}
    gaps = {bits: place.gap for bits, place in places.items()}
    return (
        [_leads(standings, names, bits, every) for names, bits in _grouped(leaders) if names],
        [
            form.format(at=_at(same, every), gap=_series([g for b in same if (g := gaps[b]) is not None]))
            for form, same in _grouped(forms)
        ],
    )


def headline_variant(standings: Standings) -> str | None:
    """The variant that the headline speaks of: the one called AnDSH, or else the first form of it."""
    ours = [name for name, variant in standings.variants.items() if variant.ours]
    return next((name for name in ours if name.casefold() == "andsh"), ours[0] if ours else None)


def noise_note(standings: Standings) -> str:
    """How far the differences can be trusted, by the number of seeds or draws."""
    trained = [name for name, variant in standings.variants.items() if variant.trained]
    runs = {score.runs for name in trained for score in standings.scores(name).values()}
    if not runs:
        return ""
    if max(runs) == 1:
        return f"One {standings.run} only: how much of a difference is noise is not known."
    some = f" Some have one {standings.run} only, so their own noise is not known." if 1 in runs else ""
    return f"{_RULES[standings.run]}{some}"


def _place(ours: str, top: Sequence[str], known: Mapping[str, Score]) -> _Place:
    order = list(known)
    if top == [ours]:
        if len(order) == 1:
            return _Place("is the only one measured {at}", None, "alone")
        gap, form = _gap(known, ours, order[1]), f"leads {{at}}, {{gap}} ahead of {_kept(_called(order[1]))}"
        return _Place(form, gap, "leads by {gap}")
    if ours in top:
        others = _names([name for name in top if name != ours])
        return _Place(f"is level with {_kept(others)} at the top {{at}}", None, "level at the top")
    rank, leader = order.index(ours), order[0]
    ordinal = _ORDINALS[rank] if rank < len(_ORDINALS) else f"number {rank + 1}"
    form = f"is {ordinal} {{at}}, {{gap}} behind {_kept(_called(leader))}"
    return _Place(form, _gap(known, ours, leader), f"{ordinal}, {{gap}} behind")


def _called(name: str) -> str:
    """A name in a sentence: in quotes where it could be taken for several words of the sentence."""
    return f"“{name}”" if any(mark in name for mark in (",", ";", " and ")) else name


def _kept(text: str) -> str:
    """Text inside a form: its braces are its own."""
    return text.replace("{", "{{").replace("}", "}}")


def _gap(known: Mapping[str, Score], one: str, other: str) -> float:
    return abs(known[one].mean - known[other].mean)


def _leads(standings: Standings, names: Sequence[str], lengths: Sequence[int], every: int) -> str:
    best = _series([next(iter(standings.contenders(bits).values())).mean for bits in lengths])
    if len(names) == 1:
        return f"{_called(names[0])} leads {_at(lengths, every)} (mAP {best})"
    return f"{_names(names)} are level at the top {_at(lengths, every)} (mAP {best})"


def _grouped(pairs: Mapping[int, _K]) -> ItemsView[_K, list[int]]:
    groups: dict[_K, list[int]] = {}
    for bits, key in pairs.items():
        groups.setdefault(key, []).append(bits)
    return groups.items()


def _at(lengths: Sequence[int], every: int) -> str:
    if len(lengths) == every > 2:
        return "at every length"
    return f"at {_listed([f'{bits:,}' for bits in lengths])} bits"


def _series(values: Sequence[float]) -> str:
    """Few figures one by one, many by their ends, equal ones once."""
    if len({figure(value) for value in values}) == 1:
        return figure(values[0])
    if len(values) > 3:
        return f"{figure(min(values))} to {figure(max(values))}"
    return _listed([figure(value) for value in values])


def _names(names: Sequence[str], *, most: int = 3) -> str:
    """At most so many by name."""
    called = [_called(name) for name in names]
    return _listed(called if len(names) <= most else [*called[: most - 1], f"{len(names) - most + 1} more"])


def _listed(words: Sequence[str]) -> str:
    *before, last = words or ("",)
    return f"{', '.join(before)} and {last}" if before else last
