"""Parquet tables: rows that name image files, and rows that hold the bytes of images.

A table of images has a column ``image`` (bytes, or the struct with ``bytes`` that Hugging Face writes) and
may have: ``label`` (a number, a text, or a list) or ``label_ids`` (a list of numbers), ``split``, and
``path``, ``name`` or ``file_name`` for the ids. Numbered labels find their names in the table's metadata
(key ``label_names``, or the features of Hugging Face) or in a column ``class_name``.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from anglehash.data.dataset import Dataset, Encoded, numbered_ids
from anglehash.data.labels import Names, cell_labels, multi_hot, no_column, part_name, part_names
from anglehash.data.sources.records import COLUMNS, Record
from anglehash.errors import DataError

_ID_COLUMNS = ("path", "name", "file_name")


def column_names(path: Path) -> list[str]:
    """The columns of a table, without reading it.

    Raises:
        DataError: the file is not Parquet, or damaged.
    """
    return list(_schema(path).names)


def read_table(path: Path, columns: Sequence[str] | None = None) -> Any:
    """The whole table, or some of its columns, as a ``pyarrow.Table``.

    Raises:
        DataError: the file is not Parquet, is damaged, or lacks one of the columns.
    """
    if missing := sorted(set(columns or ()) - set(column_names(path))):
        raise DataError(f"{path} has no column {missing[0]!r}: another file of that name?")
    try:
        return pq.read_table(path, columns=columns)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, error) from error


def read_metadata(path: Path, key: str) -> list[str]:
    """A list of texts that a table keeps as JSON in its metadata.

    Raises:
        DataError: no such key, or no list under it.
    """
    metadata = _schema(path).metadata or {}
    try:
        texts = json.loads(metadata[key.encode()])
    except (KeyError, ValueError):
        texts = None
    if not isinstance(texts, list):
        raise DataError(f"{path} has no list {key!r} in its metadata: another file of that name?")
    return [str(text) for text in texts]


def _schema(path: Path) -> Any:
    try:
        return pq.read_schema(path)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> Exception:
    if getattr(error, "errno", None):
        return error  # the system's own: no permission, a disk that fails
    return DataError(f"{path} cannot be read as Parquet: {str(error).splitlines()[0]}")


def read_rows(path: Path, *, also: str | None = None) -> Iterator[tuple[int, Record]]:
    """The rows of a table that names files, numbered from 1; with one further column, if it is named."""
    columns = [name for name in column_names(path) if name in (*COLUMNS, also)]
    return enumerate(read_table(path, columns).to_pylist(), start=1)


def read_images(path: Path, *, labelled: bool = True, finer_label: str | None = None) -> Dataset:
    """A table whose column ``image`` holds the bytes of images, in the order of its rows.

    The id of an image is its ``path`` or ``name``, else ``TABLE/SPLIT/ROW``. Null, an empty list and the
    number -1 are no label.

    Args:
        path: the table.
        labelled: whether a column of labels must be there.
        finer_label: a column with labels that training never sees: texts, numbers, or lists of them.

    Raises:
        DataError: the file is damaged, a column is absent or of another type than is wanted, or ids repeat.
    """
    table = read_table(path)
    if labelled and not {"label", "label_ids"} & set(table.column_names):
        raise DataError(f"{path} has no column 'label' or 'label_ids', only {table.column_names}"[:500])
    if finer_label is not None and finer_label not in table.column_names:
        raise no_column(path, finer_label, table.column_names)
    cells = table.column(finer_label).to_pylist() if finer_label else None
    parts = _parts(path, table)
    if pa.types.is_struct(table.schema.field("image").type):
        table = table.flatten()  # the fields of a struct become columns: image.bytes, image.path
    image = "image" if "image" in table.column_names else "image.bytes"
    if image not in table.column_names or not _is_bytes(table.schema.field(image).type):
        raise DataError(f"{path}: the column 'image' must hold bytes, or a struct with bytes")
    rows, classes = _label_rows(path, table)
    labels, class_names = multi_hot(rows, classes)
    finer, finer_names = (None, ()) if cells is None else multi_hot(_cell_rows(path, str(finer_label), cells))
    return Dataset(
        name=str(path),
        ids=_ids(path, table, parts),
        images=Encoded(table.column(image)),
        labels=labels,
        class_names=class_names,
        parts=np.array(parts),
        finer=finer,
        finer_names=finer_names,
    )


def _is_bytes(kind: Any) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _parts(path: Path, table: Any) -> list[str]:
    if "split" not in table.column_names:
        return [""] * len(table)
    cells = table.column("split").to_pylist()
    known = {cell: part_name(cell) if isinstance(cell, str) and cell else "" for cell in set(cells)}
    for cell, part in known.items():
        if part is None:
            raise DataError(f"{path}: unknown split {cell!r}; known: {part_names()}")
    return [known[cell] or "" for cell in cells]


def _ids(path: Path, table: Any, parts: Sequence[str]) -> tuple[str, ...]:
    for name in _ID_COLUMNS:
        if name in table.column_names:
            ids = table.column(name).to_pylist()
            for row, cell in enumerate(ids, start=1):
                if not isinstance(cell, str) or not cell:
                    raise DataError(f"{path}: row {row} has no {name}: ids are texts, one for each image")
            if len(set(ids)) < len(ids):
                twice = Counter(ids).most_common(1)[0][0]
                raise DataError(f"{path}: {twice!r} is the {name} of several rows: ids must be unique")
            return tuple(ids)
    return numbered_ids(path.stem, parts)


def _label_rows(path: Path, table: Any) -> tuple[list[Names], Names | None]:
    """The labels of each row, and the classes where their numbers give the order."""
    name = "label_ids" if "label_ids" in table.column_names else "label"
    if name not in table.column_names:
        return [()] * len(table), None
    kind = table.schema.field(name).type
    cells = table.column(name).to_pylist()
    if pa.types.is_integer(getattr(kind, "value_type", kind)):  # of the items, where it is a list
        return _named(path, table, cells)
    return _cell_rows(path, name, cells), None


def _cell_rows(path: Path, name: str, cells: Sequence[Any]) -> list[Names]:
    try:
        return [cell_labels(cell) for cell in cells]
    except DataError as error:
        raise DataError(f"{path}: column {name!r}: {error}") from error


def _named(path: Path, table: Any, cells: Sequence[Any]) -> tuple[list[Names], Names]:
    """The names of numbered labels, in the order of the numbers; -1 and null are no label."""
    rows = [cell if isinstance(cell, list) else [cell] for cell in cells]
    rows = [[number for number in row if number is not None and number != -1] for row in rows]
    used = {number for row in rows for number in row}
    names = _names_in_metadata(table) or _names_in_column(path, table, rows) or {n: str(n) for n in used}
    if nameless := sorted(used - names.keys()):
        raise DataError(f"{path}: class {nameless[0]} has no name; {len(names)} classes have one")
    if len(set(names.values())) < len(names):
        raise DataError(f"{path}: two class numbers have one name: {sorted(names.items())}"[:300])
    order = tuple(names[number] for number in sorted(names))
    return [tuple(names[number] for number in row) for row in rows], order


def _names_in_metadata(table: Any) -> dict[int, str]:
    """Names of class numbers under the metadata key ``label_names``, or in Hugging Face's features."""
    metadata = table.schema.metadata or {}
    try:
        if b"label_names" in metadata:
            names = json.loads(metadata[b"label_names"])
        else:
            names = json.loads(metadata[b"huggingface"])["info"]["features"]["label"]["names"]
        return dict(enumerate(map(str, names)))
    except (KeyError, TypeError, ValueError):
        return {}


def _names_in_column(path: Path, table: Any, rows: Sequence[Sequence[int]]) -> dict[int, str]:
    """Names of class numbers by the column ``class_name``, where each row has one label."""
    names: dict[int, str] = {}
    if "class_name" not in table.column_names:
        return names
    for row, name in zip(rows, table.column("class_name").to_pylist(), strict=True):
        for number in row:
            if name is not None and names.setdefault(number, name) != name:
                raise DataError(f"{path}: class {number} is named {names[number]!r} and {name!r}")
    return names
