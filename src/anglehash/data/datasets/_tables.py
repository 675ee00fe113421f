"""Known sets that come as one Parquet table with columns ``split``, ``label`` and ``image``."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from anglehash.data.dataset import Dataset, Encoded, numbered_ids, one_hot
from anglehash.data.labels import part_name
from anglehash.data.sources.parquet import read_table
from anglehash.errors import DataError


def read_set(name: str, path: Path, class_names: tuple[str, ...], *, id_column: str | None = None) -> Dataset:
    """The rows of the table in their order; label -1 is none.

    Raises:
        DataError: the file is damaged, lacks a column, or holds a label that is not a class.
    """
    table = read_table(path, ["split", "label", "image", *([id_column] if id_column else [])])
    parts = [part_name(part) or "" for part in table.column("split").to_pylist()]
    labels = table.column("label").to_numpy()
    if labels.min(initial=-1) < -1 or labels.max(initial=-1) >= len(class_names):
        raise DataError(f"{path}: labels are 0 to {len(class_names) - 1}, or -1: another file of that name?")
    return Dataset(
        name=name,
        ids=tuple(table.column(id_column).to_pylist()) if id_column else numbered_ids(name, parts),
        images=Encoded(table.column("image")),
        labels=one_hot(labels, len(class_names)),
        class_names=class_names,
        parts=np.array(parts),
        facts={"source": path.name},
    )
