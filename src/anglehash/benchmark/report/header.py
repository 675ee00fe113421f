"""The top of a benchmark's page: what was measured, what failed, and who leads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anglehash.benchmark.report.leaderboard import Leaderboard
from anglehash.report.components import row, scrolled, table
from anglehash.report.html import Markup, join, tag
from anglehash.report.values import (
    count,
    figure,
    first_split,
    mapping,
    mappings,
    number,
    plain,
    sequence,
)

Result = Mapping[str, Any]

_SHOWN = 10  # failed cells that are listed


def subtitle(leaderboard: Leaderboard, result: Result) -> str:
    """The protocol and the sizes of the first split, on one line."""
    place, split = mapping(result.get("place")), first_split(result)
    cut = number(place.get("rank_cut"))
    held, draws = sequence(split.get("held_out")), len(leaderboard.draws)
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


def leaders(leaderboard: Leaderboard) -> Markup:
    """A row a length: the best and all that are level with it, and where the highlighted variants stand."""
    rows, marked = [], [name for name in leaderboard.order if leaderboard.highlighted(name)]
    for bits in leaderboard.lengths:
        known, top = leaderboard.contenders(bits), leaderboard.top(bits)
        if not top:
            continue
        best, order = known[top[0]], list(known)
        cells = [f"{bits:,} bits", ", ".join(top), figure(best.mean)]
        for name in marked:
            if name in known:
                gap = f"{round(known[name].mean - best.mean, 3) + 0.0:+.3f}" if order[0] != name else "best"
                level = "level" if name in top and order[0] != name else ""
                words = (figure(known[name].mean), f"{order.index(name) + 1} of {len(order)}", gap, level)
                cells.append(" · ".join(filter(None, words)))
            else:
                cells.append("–")
        rows.append(row(cells))
    head = ("", "best, and all level with it", "mAP", *marked)
    return scrolled(table("Leaders by code length", head, rows, class_="leaders")) if rows else join()
