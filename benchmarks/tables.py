"""The tables of docs/results.md, from the results that ``anglehash benchmark`` wrote.

    python benchmarks/tables.py results/cifar10-I
    python benchmarks/tables.py --into docs/results.md

The second puts each table of a document between its marks, ``<!-- results/NAME [KEY] -->`` and ``<!-- end -->``.
The KEY ``leads`` asks for another table: by how much our own method leads, over all splits and training seeds;
``likeness`` for the measures of likeness, a table a code length with the references below.

Each entry is the mean over training seeds on the first split, or over draws of classes where there are draws,
± their standard deviation; "splits" is the range over split seeds with the first training seed, "CPU s" the
median training time, both at the length that the page shows as its example. "-" was not measured.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple

from anglehash.benchmark.report.leaderboard import Leaderboard, by_split, median_of
from anglehash.benchmark.report.likeness import likeness_of_variants
from anglehash.benchmark.report.scores import Score
from anglehash.errors import DataError
from anglehash.files import write_atomic
from anglehash.report.likeness import MEASURES, known_measures
from anglehash.report.values import first_split, mapping, mappings, number, sequence

HERE = Path(__file__).parent
OWN = "posterior"
"""The method whose lead over the others is shown."""
MARKED = re.compile(
    r"(?P<begin><!-- (?P<result>results/[\w-]+)(?: (?P<key>\w+))? -->)\n.*?<!-- end -->", re.DOTALL
)


def main() -> None:
    """Print the tables of some results."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("results", type=Path, nargs="*")
    parser.add_argument("--into", type=Path, help="a document whose marked tables are to be put in")
    parser.add_argument("--cut", help="mAP at this cut, out of map_at, in place of the headline's")
    parser.add_argument("--key", default="map", help="another number of a cell: map_logits, map_convention")
    arguments = parser.parse_args()
    if arguments.into:
        text = arguments.into.read_text(encoding="utf-8")
        write_atomic(arguments.into, filled(text, HERE.parent).encode())
    for path in arguments.results:
        file = path / "result.json" if path.is_dir() else path
        result = json.loads(file.read_text(encoding="utf-8"))
        try:
            text = tables(result, arguments.cut, arguments.key)
        except DataError as error:
            sys.exit(f"Error: {file}: {error}")
        print(f"### {result['name']}\n\n{text}\n")


def filled(text: str, root: Path) -> str:
    """A document with the tables between its marks as the results under ``root`` give them.

    Raises:
        DataError: a result is not there, or lacks the number that is asked for.
    """

    def table(mark: re.Match[str]) -> str:
        file = root / mark["result"] / "result.json"
        if not file.is_file():
            raise DataError(f"{file} is not there: the document names it")
        found = tables(json.loads(file.read_text(encoding="utf-8")), key=mark["key"] or "map")
        return f"{mark['begin']}\n\n{found}\n\n<!-- end -->"

    return MARKED.sub(table, text)


def tables(result: Mapping[str, Any], cut: str | None = None, key: str = "map") -> str:
    """Markdown: the trained variants, the untrained ones, and what both are held against.

    Raises:
        DataError: no cell has the number that is asked for.
    """
    if key == "leads":
        return leads(Leaderboard.of(result))
    if key == "likeness":
        return likeness(Leaderboard.of(result), result)
    leaderboard = Leaderboard.of(scored_by(result, cut, key))
    if not leaderboard.cells:
        raise DataError(f"no cell has {f'map_at {cut}' if cut else key}: choose another number, or result")
    names = [name for name in leaderboard.variants if leaderboard.cells_of(name)]
    trained = [name for name in names if leaderboard.variants[name].trained]
    others = [name for name in names if name not in trained]
    parts = [markdown(trained_rows(leaderboard, trained))] if trained else []
    parts += [markdown(untrained_rows(leaderboard, others))] if others else []
    return "\n\n".join([*parts, references(result)])


def likeness(leaderboard: Leaderboard, result: Mapping[str, Any]) -> str:
    """Markdown: the measures of likeness of the trained variants, a table a length, with the references.

    Raises:
        DataError: no cell has any.
    """
    found = {bits: likeness_of_variants(leaderboard, result, bits) for bits in leaderboard.lengths}
    parts = []
    for bits, rows in found.items():
        known = known_measures(rows)
        values = [[name, *(spelled(own.get(key)) for key in known)] for name, own in rows.items()]
        if rows:
            parts.append(markdown([[f"{bits} bits", *(MEASURES[key] for key in known)], *values]))
    if not parts:
        raise DataError("no cell has measures of likeness: run the benchmark again, which adds them")
    return "\n\n".join(parts)


def spelled(value: object) -> str:
    """Three digits, or a dash."""
    known = number(value)
    return "-" if known is None else digits(known)


def scored_by(result: Mapping[str, Any], cut: str | None, key: str) -> dict[str, Any]:
    """The result with another number of each cell in the place of its mAP; a cell without it counts as absent."""
    cells = [
        {**cell, "map": mapping(cell.get("map_at")).get(cut) if cut else cell.get(key)}
        for cell in mappings(result.get("cells"))
    ]
    return {**result, "cells": cells}


def leads(leaderboard: Leaderboard) -> str:
    """Markdown: our own method beside the best peer of the same length and of twice the length.

    Each split counts once, by the mean over its training seeds: seeds of one split share their queries. A lead is
    the mean over the splits of the differences, ± its standard error. The last row is the least quotient of both
    over all peers of the same length.

    Raises:
        DataError: no length was measured on two splits by our method and by a peer.
    """
    peers = [name for name, v in leaderboard.variants.items() if v.trained and name != OWN]
    found = {
        (bits, others): leads_of(leaderboard, OWN, peers, bits, others)
        for bits in leaderboard.lengths
        for others in (bits, 2 * bits)
    }
    lengths = [bits for bits in leaderboard.lengths if found[bits, bits]]
    if not lengths:
        raise DataError("no length was measured on two splits by our own method and by a peer")
    heads = ["bits", f"{OWN}, mean of the splits", "best peer", "ahead by", "best peer of twice the length"]
    columns = [[*heads, "ahead by", "least lead over a peer, in standard errors"]]
    for bits in lengths:
        least = min(lead.gap / max(lead.error, 1e-9) for lead in found[bits, bits])
        own = digits(mean(maps_of(leaderboard, OWN, bits).values()))
        equal, twice = (over_the_best(found[bits, others]) for others in (bits, 2 * bits))
        columns.append([str(bits), own, *equal, *twice, f"{least:.1f}"])
    return markdown(list(zip(*columns, strict=True)))


class Lead(NamedTuple):
    """By how much we are ahead of a peer: its own mean, the mean difference, and the standard error of that."""

    peer: str
    other: float
    gap: float
    error: float


def over_the_best(leads: Sequence[Lead]) -> tuple[str, str]:
    """The best of some peers, and by how much we are ahead of it."""
    best = max(leads, key=lambda lead: lead.other, default=None)
    if best is None:
        return "-", "-"
    return f"{best.peer} {digits(best.other)}", f"{best.gap:+.4f} ± {best.error:.4f}"


def maps_of(leaderboard: Leaderboard, name: str, bits: int) -> dict[str, float]:
    """The mean over training seeds on each split; empty for a variant that is not there."""
    return by_split(leaderboard.at(name, bits, every_split=True)) if name in leaderboard.variants else {}


def leads_of(leaderboard: Leaderboard, ours: str, peers: Sequence[str], bits: int, others: int) -> list[Lead]:
    """Our lead at one length over peers at another, of those that share two splits with us."""
    own, leads = maps_of(leaderboard, ours, bits), []
    for peer in peers:
        theirs = maps_of(leaderboard, peer, others)
        both = [(own[split], theirs[split]) for split in own if split in theirs]
        if len(both) > 1:
            apart = [a - b for a, b in both]
            error = stdev(apart) / len(apart) ** 0.5
            leads.append(Lead(peer, mean(b for _, b in both), mean(apart), error))
    return leads


def trained_rows(leaderboard: Leaderboard, names: Sequence[str]) -> list[list[str]]:
    """A row a variant, the best mean over its lengths first; a column a code length."""
    ends = {name: leaderboard.over_splits(name) for name in names}
    several = any(ends.values())
    rows = [["method", *(f"{n}" for n in leaderboard.lengths), *(["splits"] if several else []), "CPU s"]]
    for name in leaderboard.best_first(names):
        scores = leaderboard.scores(name)
        row = [name, *(spell(scores.get(bits)) for bits in leaderboard.lengths)]
        if several:
            row.append("-".join(map(digits, ends[name] or ())) or "-")
        seconds = median_of(leaderboard.at(name, leaderboard.example), "train_cpu_seconds")
        rows.append([*row, "-" if seconds is None else f"{seconds:.1f}"])
    return rows


def untrained_rows(leaderboard: Leaderboard, names: Sequence[str]) -> list[list[str]]:
    """A row a baseline, in the order of the run; a column a size, empty where a baseline does not come in it."""
    found = {name: leaderboard.by_bytes(name) for name in names}
    sizes = sorted({size for own in found.values() for size in own})
    rows = [["untrained, bytes an item", *(f"{size:,.10g}" for size in sizes)]]
    for name, own in found.items():
        rows.append([name, *(spell(own[size]) if size in own else "" for size in sizes)])
    return rows


def references(result: Mapping[str, Any]) -> str:
    """The class-id code and the posterior agreement, the sizes of the split, and how many cells failed."""
    split = first_split(result)
    named = {"Class-id code": "class_id_map", "posterior agreement": "posterior_map"}
    known = [(name, number(split.get(key))) for name, key in named.items()]
    trivial = ", ".join(f"{name} {digits(value)}" for name, value in known if value is not None)
    sizes = (
        f"{split['queries']:,} queries, {split['database']:,} database images, "
        f"{split['train']:,} training and {split['validation']:,} validation images, "
        f"{split['dropped_queries']} queries dropped; split {split['hash'][:12]}."
    )
    failed = len(sequence(result.get("failed")))
    lost = f" Cells that failed and are missing here: {failed}." if failed else ""
    return f"{trivial}; {sizes}{lost}" if trivial else f"{sizes}{lost}"


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """Rows as a Markdown table, the first of them its head."""
    lines = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    return "\n".join("| " + " | ".join(row) + " |" for row in lines)


def digits(value: float) -> str:
    """Three digits, as the field writes them.

    >>> digits(0.5614), digits(1.0)
    ('.561', '1.000')
    """
    return f"{value:.3f}".removeprefix("0")


def spell(score: Score | None) -> str:
    """Mean and standard deviation; a dash where nothing was measured.

    >>> spell(Score(0.5614, 0.002, 3)), spell(Score(0.5614, 0.0, 1)), spell(None)
    ('.561 ± .002', '.561', '-')
    """
    if score is None:
        return "-"
    mean = digits(score.mean)
    return f"{mean} ± {digits(score.deviation)}" if score.runs > 1 else mean


if __name__ == "__main__":
    main()
