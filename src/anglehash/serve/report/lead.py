"""The top of a benchmark's page: what was measured, what failed, and the headline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anglehash.serve.markup import Markup, join, tag
from anglehash.serve.report.parts import cards
from anglehash.serve.report.scores import Score
from anglehash.serve.report.standings import Standings
from anglehash.serve.report.values import (
    count,
    figure,
    first_split,
    mapping,
    mappings,
    number,
    plain,
    sequence,
)
from anglehash.serve.report.verdict import headline_variant, is_short, noise_note, outcomes, verdict

Result = Mapping[str, Any]

_SHOWN = 10  # failed cells that are listed


def subtitle(standings: Standings, result: Result) -> str:
    """The protocol and the sizes of the first split, on one line."""
    place, split = mapping(result.get("place")), first_split(result)
    cut = number(place.get("rank_cut"))
    held, draws = sequence(split.get("held_out")), len(standings.draws)
    sizes = [
        _counted(split, "queries", "queries"),
        _counted(split, "database", "in the database"),
        _counted(split, "train", "training images"),
        _counted(split, "validation", "for validation"),
    ]
    shown = ", ".join(filter(None, sizes))
    parts = [
        _said(place, "protocol", "protocol {}"),
        _said(place, "backbone", "{}"),
        "fine-tuned" if place.get("fine_tuned") is True else "",
        _said(place, "size", "{} px"),
        f"{draws} draw{'s' * (draws > 1)} of classes kept out of training" if draws else "",
        *([f"the first draw has {shown}" if shown else ""] if draws else sizes),
        f"classes kept out of training{' in it' if draws else ''}: {plain(held)}" if held else "",
        (f"mAP over the first {cut:,.0f} ranks" if cut else "mAP over all ranks") if place else "",
        _said(place, "tie_rule", "ties: {}"),
    ]
    return " · ".join(part for part in parts if part)


def _said(values: Mapping[str, Any], key: str, form: str) -> str:
    return form.format(plain(values[key])) if values.get(key) is not None else ""


def _counted(values: Mapping[str, Any], key: str, what: str) -> str:
    return f"{count(values[key])} {what}" if number(values.get(key)) is not None else ""


def failures(result: Result) -> Markup:
    """A warning that names the cells that failed; nothing where none did."""
    failed = mappings(result.get("failed"))
    if not failed:
        return join()
    words = "1 cell failed and is" if len(failed) == 1 else f"{len(failed):,} cells failed and are"
    items = [tag("li", _failure(one)) for one in failed[:_SHOWN]]
    if len(failed) > _SHOWN:
        items.append(tag("li", f"and {len(failed) - _SHOWN:,} more"))
    return tag("section", tag("p", f"{words} missing below:"), tag("ul", *items), class_="warning")


def _failure(cell: Mapping[str, Any]) -> str:
    where = [
        _said(cell, "variant", "{}"),
        _said(cell, "bits", "{} bits"),
        _said(cell, "seed", "seed {}"),
        _said(cell, "split_seed", "split {}"),
        _said(cell, "draw", "draw {}"),
    ]
    return f"{', '.join(filter(None, where)) or 'a cell'}: {plain(cell.get('error', 'no reason given'))}"


def headline(standings: Standings, result: Result) -> Markup:
    """The verdict in words, what level means, and a few numbers."""
    if not (words := verdict(standings)):
        return join()
    short = is_short(standings)
    if not short and standings.example:
        words = verdict(standings, [standings.example])
    note = tag("p", noise_note(standings), class_="note")
    table = join() if short else _by_length(standings)
    return tag(
        "section", tag("p", words, class_="verdict"), note, table, _cards(standings, result), class_="lead"
    )


def _by_length(standings: Standings) -> Markup:
    """A row a length: the best, its mAP, and where AnDSH stands."""
    ours = headline_variant(standings)
    rows = [
        tag(
            "tr",
            tag("th", f"{bits:,} bits", scope="row"),
            tag("td", best),
            tag("td", figure(score)),
            tag("td", place) if ours else join(),
        )
        for bits, best, score, place in outcomes(standings)
    ]
    names = ["", "best, and all level with it", "mAP", *([ours] if ours else [])]
    head = tag("thead", tag("tr", *(tag("th", name, scope="col") for name in names)))
    return tag("table", head, tag("tbody", *rows), class_="outcomes")


def _cards(standings: Standings, result: Result) -> Markup:
    bits, split = standings.example, first_split(result)
    known = standings.contenders(bits) if bits else {}
    ours, best = headline_variant(standings), next(iter(known), None)
    facts = []
    if best:
        spread = _spread(standings, known[best])
        facts.append((figure(known[best].mean), f"{best} at {bits:,} bits", f"the best mean{spread}"))
    if ours in known and ours != best:
        place = list(known).index(str(ours)) + 1
        note = f"number {place} of {len(known)}{_spread(standings, known[str(ours)])}"
        facts.append((figure(known[str(ours)].mean), f"{ours} at {bits:,} bits", note))
    facts.append((figure(split.get("ceiling")), "posterior agreement", "reference, no code"))
    trained = sum(standings.variants[name].trained for name in standings.order)
    facts.append((str(trained), f"trained variant{'s' * (trained != 1)}", _extent(standings)))
    return cards(facts)


def _extent(standings: Standings) -> str:
    others = len(standings.of_kind("rival"))
    runs = len(standings.draws) or len({str(c.seed) for c in standings.cells})
    sizes = [(len(standings.lengths), "length"), (runs, standings.run), (len(standings.cells), "cell")]
    words = [f"{size:,} {name}{'s' * (size != 1)}" for size, name in sizes]
    return ", ".join([*([f"and {others} untrained"] if others else []), *words])


def _spread(standings: Standings, score: Score) -> str:
    return f", ± {figure(score.deviation)} over {score.runs} {standings.run}s" if score.runs > 1 else ""
