"""The headline of a benchmark in words: who leads at which length, and where AnDSH stands."""

from __future__ import annotations

from collections.abc import Hashable, ItemsView, Mapping, Sequence
from typing import NamedTuple, TypeVar

from anglehash.serve.report.standings import Score, Standings
from anglehash.serve.report.values import figure

_K = TypeVar("_K", bound=Hashable)
_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")


class _Place(NamedTuple):
    """Where a variant stands at one length, and by how much it is ahead or behind."""

    form: str
    gap: float | None = None


def verdict(standings: Standings) -> str:
    """One sentence, or two: the leaders where AnDSH is not among them, and where AnDSH stands.

    A difference within the noise (:func:`~anglehash.serve.report.standings.level`) is called level, never a
    win. Places below the top count means.
    """
    ours = headline_variant(standings)
    leaders: dict[int, tuple[str, ...]] = {}
    places: dict[int, _Place] = {}
    for bits in standings.lengths:
        known = standings.contenders(bits)
        top = [
            name for name in standings.variants if name in standings.top(bits)
        ]  # one order for all lengths
        if ours not in top:
            leaders[bits] = tuple(top)
        if ours in known:
            places[bits] = _place(str(ours), top, known)
    every = len(standings.lengths)
    clauses = [_leads(standings, names, bits, every) for names, bits in _grouped(leaders) if names]
    sentences = [f"{'; '.join(clauses)}."] if clauses else []
    forms = {bits: place.form for bits, place in places.items()}
    gaps = {bits: place.gap for bits, place in places.items()}
    clauses = [
        form.format(at=_at(lengths, every), gap=_series([g for b in lengths if (g := gaps[b]) is not None]))
        for form, lengths in _grouped(forms)
    ]
    return " ".join([*sentences, f"{_called(str(ours))} {'; it '.join(clauses)}."] if clauses else sentences)


def headline_variant(standings: Standings) -> str | None:
    """The variant that the headline speaks of: the one called AnDSH, or else the first form of it."""
    ours = [name for name, variant in standings.variants.items() if variant.ours]
    return next((name for name in ours if name.casefold() == "andsh"), ours[0] if ours else None)


def noise_note(standings: Standings) -> str:
    """How far the differences can be trusted, by the number of seeds."""
    trained = [name for name, variant in standings.variants.items() if variant.kind != "rival"]
    seeds = {score.seeds for name in trained for score in standings.scores(name).values()}
    if not seeds:
        return ""
    if max(seeds) == 1:
        return "One seed only: how much of a difference is noise is not known."
    some = " Some have one seed only, so their own noise is not known." if 1 in seeds else ""
    return (
        "Level means that the difference is smaller than the larger of the two standard deviations over "
        f"training seeds.{some}"
    )


def _place(ours: str, top: Sequence[str], known: Mapping[str, Score]) -> _Place:
    order = list(known)
    if top == [ours]:
        if len(order) == 1:
            return _Place("is the only one measured {at}")
        return _Place(
            f"leads {{at}}, {{gap}} ahead of {_kept(_called(order[1]))}", _gap(known, ours, order[1])
        )
    if ours in top:
        others = _names([name for name in top if name != ours])
        return _Place(f"is level with {_kept(others)} at the top {{at}}")
    rank, leader = order.index(ours), order[0]
    ordinal = _ORDINALS[rank] if rank < len(_ORDINALS) else f"number {rank + 1}"
    return _Place(f"is {ordinal} {{at}}, {{gap}} behind {_kept(_called(leader))}", _gap(known, ours, leader))


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


def _names(names: Sequence[str]) -> str:
    """At most three by name."""
    called = [_called(name) for name in names]
    return _listed(called if len(names) <= 3 else [*called[:2], f"{len(names) - 2} more"])


def _listed(words: Sequence[str]) -> str:
    *before, last = words or ("",)
    return f"{', '.join(before)} and {last}" if before else last
