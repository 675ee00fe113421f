"""Labels as users write them: ``a|b`` for two, nothing for none, and the name of a part.

Here names become the multi-hot matrix of a :class:`~anglehash.data.dataset.Dataset`.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anglehash.data.dataset import PARTS
from anglehash.errors import DataError

Names = tuple[str, ...]  # the labels of one image

_PART_NAMES = {part: part for part in (*PARTS, "test")} | {
    "training": "train", "val": "validation", "valid": "validation", "dev": "validation", "testing": "test",
    "queries": "query", "probe": "query", "gallery": "database", "db": "database",
}  # fmt: skip
_PART = re.compile(
    rf"({'|'.join(_PART_NAMES)})(?:[ _-]?(?:set|data|split|images|(?:19|20)\d\d))?", re.IGNORECASE
)


def split_labels(text: str) -> Names:
    """The labels in one cell of a table: ``|`` stands between them, an empty cell has none.

    >>> split_labels("sky| sea|sky"), split_labels("")
    (('sea', 'sky'), ())
    """
    return tuple(sorted({label.strip() for label in text.split("|")} - {""}))


def cell_labels(cell: object) -> Names:
    """The labels in a cell of any table: text with ``|``, a number, a list of texts and numbers, or nothing.

    >>> cell_labels("b|a"), cell_labels(7), cell_labels(["a|b", 7]), cell_labels(None)
    (('a', 'b'), ('7',), ('7', 'a|b'), ())
    >>> cell_labels(7.0), cell_labels(float("nan"))  # what becomes of whole numbers where some are missing
    (('7',), ())

    Raises:
        DataError: the cell holds something else.
    """
    if cell is None:
        return ()
    if isinstance(cell, str):
        return split_labels(cell)
    labels = [_whole(label) for label in (cell if isinstance(cell, list) else [cell])]
    if any(isinstance(label, bool) or not isinstance(label, str | int) for label in labels):
        raise DataError(f"a label is a text, a whole number, or a list of them, not {cell!r}"[:200])
    return tuple(sorted({str(label).strip() for label in labels} - {""}))


def _whole(label: object) -> object:
    """A whole number that was stored as a float; nothing for NaN; else the label as it is."""
    if isinstance(label, float) and (math.isnan(label) or label.is_integer()):
        return "" if math.isnan(label) else int(label)
    return label


_MISSING = frozenset({"nan", "none", "null", "n/a", "na", "#n/a", "<na>"})


def looks_missing(name: str) -> bool:
    """Whether a class is called as programs write a label that is not there."""
    return name.strip().casefold() in _MISSING


def look_alike(name: str) -> str:
    r"""What two class names have in common that a reader takes for the same.

    >>> look_alike("Caf\u00e9 ") == look_alike("cafe\u0301"), look_alike("1.0") == look_alike("01")
    (True, True)
    """
    text = " ".join(unicodedata.normalize("NFKC", name).casefold().split())
    try:
        number = float(text)
    except ValueError:
        return unicodedata.normalize("NFC", text)
    return repr(number) if math.isfinite(number) else text


def no_column(path: Path, name: str, columns: Iterable[str]) -> DataError:
    """The error of a table that lacks the column of the finer label."""
    return DataError(
        f"{path} has no column {name!r} for the finer label, only {', '.join(sorted(columns))}"[:500]
    )


def part_name(text: str) -> str | None:
    """The part that a folder or a ``split`` cell means, or ``None`` where it means none.

    >>> part_name("Val"), part_name("training_set"), part_name("gallery"), part_name("cats")
    ('validation', 'train', 'database', None)
    """
    found = _PART.fullmatch(text.strip())
    return _PART_NAMES[found[1].lower()] if found else None


def part_names() -> str:
    """The accepted names, for messages."""
    return ", ".join(_PART_NAMES)


def multi_hot(rows: Sequence[Names], classes: Iterable[str] | None = None) -> tuple[NDArray[np.bool_], Names]:
    """The label matrix and its class names, sorted unless ``classes`` gives their order.

    >>> matrix, names = multi_hot([("b",), (), ("a", "b")])
    >>> names, matrix.astype(int).tolist()
    (('a', 'b'), [[0, 1], [0, 0], [1, 1]])
    """
    names = tuple(sorted({name for row in rows for name in row})) if classes is None else tuple(classes)
    column = {name: c for c, name in enumerate(names)}
    matrix = np.zeros((len(rows), len(names)), dtype=np.bool_)
    for r, row in enumerate(rows):
        matrix[r, [column[name] for name in row]] = True
    return matrix, names
