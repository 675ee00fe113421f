"""The list format of deep-hashing papers: a path and a 0 or 1 for every class on each line.

A folder holds ``train.txt``, ``test.txt`` (the queries) and ``database.txt``, or some of them. A list may
come in numbered pieces (``database0.txt``, ...), also in a folder ``test``, as HashNet has them.
"""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anglehash.data.dataset import Dataset
from anglehash.data.labels import part_name
from anglehash.data.sources.records import Faults
from anglehash.data.sources.walk import Files
from anglehash.errors import DataError

_LIST = re.compile(r"(train|validation|val|test|query|database)\d*\.txt")


class _Row(NamedTuple):
    """A line of a list; ``flags`` is the text of its 0s and 1s."""

    part: str
    path: str
    flags: bytes


def load_lists(folder: Path, *, name: str | None = None) -> Dataset:
    """The images of all lists in a folder, in the order of their lines.

    An image in two lists is two rows, ``train/PATH`` and ``database/PATH``: in this field training images are
    usually searched too, and the public lists of COCO search every query. ``facts["in_several_lists"]``
    counts them. The images are expected below the folder, wherever the paths say that they once were.
    Lists do not name their classes, so these are called by their column, from 0.

    Args:
        folder: where the lists are.
        name: of the data set; by default the folder's.

    Raises:
        DataError: no list, or one has malformed lines, or an image twice with other labels.
    """
    rows: dict[tuple[str, str], _Row] = {}
    files = _lists(folder)
    for file in files:
        faults = Faults(file)
        for line, row in _read_list(file, faults):
            if rows.setdefault(row[:2], row) != row:
                faults.add(
                    line, "contradiction", f"{row.path!r} has other labels earlier in the {row.part} list"
                )
        faults.raise_any()
    if not rows:
        raise DataError(f"{folder} has no list train.txt, test.txt or database.txt with images in it")
    widths = sorted({len(row.flags) for row in rows.values()})
    if len(widths) > 1:
        raise DataError(
            f"{folder}: the lists have {' and '.join(map(str, widths))} classes: keep one set of lists"
        )
    paths = tuple(row.path for row in rows.values())
    return Dataset(
        name=name or str(folder),
        ids=tuple(f"{row.part}/{row.path}" for row in rows.values()),
        images=Files(folder, paths),
        labels=as_flags(b"".join(row.flags for row in rows.values())).reshape(-1, widths[0]),
        class_names=tuple(f"{c:0{len(str(widths[0] - 1))}d}" for c in range(widths[0])),
        parts=np.array([row.part for row in rows.values()]),
        facts={"lists": [file.name for file in files], "in_several_lists": _shared(list(rows))},
    )


def _lists(folder: Path) -> list[Path]:
    files = [*folder.glob("*.txt"), *folder.glob("test/*.txt")]
    return sorted(file for file in files if _LIST.fullmatch(file.name))


def _read_list(file: Path, faults: Faults) -> Iterator[tuple[int, _Row]]:
    part = part_name(file.stem.rstrip("0123456789")) or ""
    width = 0
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            path, *cells = line.split() or [b""]
            flags, place = b"".join(cells), below(path)
            width = width or len(flags)
            if place and 0 < len(flags) == len(cells) == width and not flags.strip(b"01"):
                yield number, _Row(part, place, flags)
            elif line.strip():
                faults.add(
                    number, "no list line", f"a path and {width} times 0 or 1 are wanted: {line[:60]!r}"
                )


def as_flags(text: bytes) -> NDArray[np.bool_]:
    """A text of 0s and 1s as bools.

    >>> as_flags(b"010").tolist()
    [False, True, False]
    """
    flags: NDArray[np.bool_] = np.frombuffer(text, np.uint8) == ord("1")
    return flags


def below(path: bytes) -> str | None:
    r"""A listed path as one below a folder, with ``/``; ``None`` where it climbs out of it.

    >>> below(b"./images/a.jpg"), below(b"/home/x/a.jpg"), below(rb"actor\a.jpg"), below(b"../a.jpg")
    ('images/a.jpg', 'home/x/a.jpg', 'actor/a.jpg', None)
    """
    parts = [part for part in re.split(r"[\\/]", os.fsdecode(path)) if part not in ("", ".")]
    return None if ".." in parts else "/".join(parts)


def _shared(keys: list[tuple[str, str]]) -> dict[str, int]:
    """How many images are in several lists, by the lists."""
    parts = defaultdict(set)
    for part, path in keys:
        parts[path].add(part)
    return dict(Counter(" + ".join(sorted(names)) for names in parts.values() if len(names) > 1))
