"""The further columns of a manifest, by file name: what a gallery keeps as metadata."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

from anglehash.data.sources.records import COLUMNS, Faults, Record, read_csv, read_jsonl
from anglehash.gallery.store.items import Metadata


def manifest_metadata(data: str) -> dict[str, Metadata]:
    """What a manifest says of its images beside file name, label and split; nothing for other data.

    Values that JSON does not have (dates, bytes) are kept as text, and columns without a value are left out. Of
    a file that is named twice, the first line counts, as for its labels.
    """
    path = Path(os.path.expanduser(data))
    if not path.is_file():
        return {}
    found: dict[str, Metadata] = {}
    for record in _records(path):
        name = record.get("file_name")
        further = {key: _json(value) for key, value in record.items() if key not in (*COLUMNS, None)}
        kept = {key: value for key, value in further.items() if value not in (None, "")}
        if isinstance(name, str) and kept:
            found.setdefault(str(PurePosixPath(name)), kept)
            found.setdefault(name, kept)
    return found


def _records(path: Path) -> Iterable[Record]:
    match path.suffix.lower():
        case ".csv":
            yield from (record for _, record in read_csv(path, Faults(path)))
        case ".jsonl":
            yield from (record for _, record in read_jsonl(path, Faults(path)))
        case ".parquet":
            from anglehash.data.sources.parquet import (  # pyarrow: only when it is needed
                column_names,
                read_table,
            )

            columns = column_names(path)
            if "file_name" in columns and "image" not in columns:
                yield from read_table(path).to_pylist()


def _json(value: Any) -> Any:
    if isinstance(value, list):
        return [_json(one) for one in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), -float("inf"))):
        return None
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)
