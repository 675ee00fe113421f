"""Labels as users write them: ``a|b`` for two, nothing for none, and the name of a part.

Here names become the multi-hot matrix of a :class:`~anglehash.data.dataset.Dataset`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anglehash.data.dataset import PARTS
from anglehash.errors import DataError

Names = tuple[str, ...]  # the labels of one image

_PART_NAMES = {part: part for part in (*PARTS, "test")} | {"val": "validation"}


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

    Raises:
        DataError: the cell holds something else.
    """
    if cell is None:
        return ()
    if isinstance(cell, str):
        return split_labels(cell)
    labels = cell if isinstance(cell, list) else [cell]
    if any(isinstance(label, bool) or not isinstance(label, str | int) for label in labels):
        raise DataError(f"a label is a text, a whole number, or a list of them, not {cell!r}"[:200])
    return tuple(sorted({str(label).strip() for label in labels} - {""}))


def no_column(path: Path, name: str, columns: Iterable[str]) -> DataError:
    """The error of a table that lacks the column of the finer label."""
    return DataError(
        f"{path} has no column {name!r} for the finer label, only {', '.join(sorted(columns))}"[:500]
    )


def part_name(text: str) -> str | None:
    """The part that a folder or a ``split`` cell means, or ``None`` where it means none.

    >>> part_name("Val"), part_name("query"), part_name("cats")
    ('validation', 'query', None)
    """
    return _PART_NAMES.get(text.strip().lower())


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
