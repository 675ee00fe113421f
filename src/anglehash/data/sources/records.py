"""CSV and JSONL tables as records.

A reader yields ``(line, record)``, a record being a mapping of column names to cells. What is wrong with a
table goes into :class:`Faults`, so that a person sees every kind of mistake at once and not one a run.
"""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from anglehash.errors import DataError

Record = Mapping[str, Any]

COLUMNS = ("file_name", "label", "split")
"""What a manifest says; further columns are ignored."""

DELIMITERS = (",", ";", "\t")
"""What stands between the cells of a table; the one that the first line is made of."""

_CARRIAGE_RETURN_ALONE = re.compile(r"(?<=\r)(?!\n|$)")

MAX_LINE = 1 << 20
"""Longest accepted line in bytes: a longer one means that the file is not a manifest."""

SHOWN = 20
"""How many faults a message lists; all of them are counted."""


class Faults:
    """The mistakes of one table, in the order of its lines."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._count: Counter[str] = Counter()
        self._shown: list[str] = []

    def add(self, line: int, kind: str, detail: str) -> None:
        """Note a mistake; ``kind`` is what the totals count."""
        self._count[kind] += 1
        if len(self._shown) < SHOWN:
            self._shown.append(f"  line {line}: {kind}: {detail}")

    def raise_any(self) -> None:
        """Raise one error that lists the first mistakes and counts them all.

        Raises:
            DataError: there is at least one mistake.
        """
        if not self._count:
            return
        total = self._count.total()
        kinds = ", ".join(f"{n} {kind}" for kind, n in self._count.most_common())
        shown = f"the first {SHOWN} are" if total > SHOWN else "all of them"
        raise DataError(
            f"{self._path}: nothing was loaded; mistakes: {total} ({kinds}); {shown}:\n"
            + "\n".join(self._shown)
        )


def _lines(path: Path, faults: Faults) -> Iterator[str]:
    """The lines of a UTF-8 text file, with or without a byte order mark; stops at one that is too long."""
    with path.open("rb") as file:
        number = 0
        while raw := file.readline(MAX_LINE + 1):
            number += 1
            if number == 1:
                if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
                    faults.add(1, "not UTF-8", "the file is UTF-16; save it as UTF-8")
                    return
                raw = raw.removeprefix(b"\xef\xbb\xbf")
            if len(raw) > MAX_LINE:
                faults.add(number, "line too long", f"more than {MAX_LINE:,} bytes")
                return
            try:
                yield from _CARRIAGE_RETURN_ALONE.split(raw.decode())
            except UnicodeDecodeError as error:
                faults.add(number, "not UTF-8", f"byte 0x{raw[error.start]:02x}; save the file as UTF-8")
                yield raw.decode(errors="replace")


def read_csv(path: Path, faults: Faults) -> Iterator[tuple[int, Record]]:
    """The rows of a table by the names in its first line; empty lines are passed over.

    Commas, semicolons or tabs stand between the cells, whichever the first line has.

    Raises:
        DataError: the header names a column twice, or no ``file_name``.
    """
    lines = _lines(path, faults)
    first, skipped = next(lines, ""), 0
    if first.strip().lower() in {f"sep={mark}".strip() for mark in DELIMITERS}:  # so does Excel begin
        first, skipped = next(lines, ""), 1
    faults.raise_any()  # what makes the header unreadable says more than what is missing in it
    rows = csv.reader(chain([first], lines), delimiter=_delimiter(first), strict=True)
    try:
        header = [_column(name) for name in next(rows, [])]
        _check_header(path, header)
        for row in rows:
            if not any(row):
                continue
            if len(row) == len(header):
                yield rows.line_num + skipped, dict(zip(header, row, strict=True))
            else:
                faults.add(
                    rows.line_num + skipped,
                    "wrong number of cells",
                    f"{len(row)}, the header has {len(header)}",
                )
    except csv.Error as error:
        faults.add(rows.line_num + skipped, "not CSV", str(error))


def _delimiter(header: str) -> str:
    """The one that gives the header a column of ours, else a comma."""

    def columns(mark: str) -> int:
        names: Iterable[str] = next(csv.reader([header], delimiter=mark), [])
        return len({_column(name) for name in names} & set(COLUMNS))

    return max(DELIMITERS, key=columns)


def _column(name: str) -> str:
    """A column's name; ours also with capitals."""
    plain = name.strip()
    return plain.lower() if plain.lower() in COLUMNS else plain


def _check_header(path: Path, header: list[str]) -> None:
    if twice := sorted(name for name, n in Counter(header).items() if n > 1 and name):
        raise DataError(f"{path}: the header names {twice[0]!r} twice")
    if "file_name" not in header:
        raise DataError(f"{path}: the first line must name a column 'file_name', it names {header}"[:500])


def read_jsonl(path: Path, faults: Faults) -> Iterator[tuple[int, Record]]:
    """The objects of a file with one JSON object a line; empty lines are passed over."""
    for number, line in enumerate(_lines(path, faults), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            faults.add(number, "not JSON", getattr(error, "msg", str(error)))
            continue
        if isinstance(record, dict):
            yield number, record
        else:
            faults.add(number, "not JSON", f"an object is wanted, this is {type(record).__name__}")
