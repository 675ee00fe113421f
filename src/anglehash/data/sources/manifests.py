"""Manifests: tables that name image files and their labels.

The columns are ``file_name``, ``label`` and, where the data bring their split, ``split``; another column may
hold a finer label. A table with any
mistake in it is refused whole, with the numbers of its lines; an image that is merely absent is skipped and
reported like an unreadable one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from anglehash.data.dataset import Dataset
from anglehash.data.labels import Names, cell_labels, multi_hot, no_column, part_name, part_names
from anglehash.data.sources.records import COLUMNS, Faults, Record, read_csv, read_jsonl
from anglehash.data.sources.walk import IMAGE_SUFFIXES, Files, NamesOnDisk, file_problem
from anglehash.errors import DataError


class Entry(NamedTuple):
    """One image as a manifest names it."""

    line: int
    file_name: str
    labels: Names
    part: str
    finer: Names = ()


def read_manifest(
    path: Path, *, root: Path | None = None, labelled: bool = True, finer_label: str | None = None
) -> Dataset:
    """The images that a ``.csv``, ``.tsv``, ``.jsonl`` or ``.parquet`` table names, sorted by file name.

    A file that is named twice with the same labels and part counts once (``facts["repeated_lines"]``); with
    others it is a mistake. A name that was written on Windows (backslashes) or in another Unicode form (composed or
    decomposed accents) finds its file. Further columns and further images in the same folders are ignored and stated in
    ``facts``.

    Args:
        path: the table.
        root: the folder that ``file_name`` starts from; by default the table's own.
        labelled: whether a column ``label`` must be there.
        finer_label: a column with labels that training never sees.

    Raises:
        DataError: the table has mistakes (all are counted, the first are listed with their lines), or none
            of its files is there.
    """
    faults = Faults(path)
    entries: dict[str, Entry] = {}
    columns: set[str] = set()
    repeated = 0
    on_disk = NamesOnDisk(root or path.parent)
    for line, record in _records(path, faults, finer_label):
        columns |= record.keys()
        entry = _entry(line, record, faults, finer_label)
        if entry is None:
            continue
        entry = entry._replace(file_name=on_disk.find(entry.file_name))
        first = entries.setdefault(str(PurePosixPath(entry.file_name)), entry)
        if first[2:] != entry[2:]:
            faults.add(
                line, "contradiction", f"{entry.file_name!r} has other labels or split in line {first.line}"
            )
        repeated += first is not entry
    faults.raise_any()
    if not entries:
        raise DataError(f"{path} names no image")
    if labelled and "label" not in columns:
        raise DataError(f"{path} has no column 'label', only {', '.join(sorted(columns))}"[:500])
    if finer_label is not None and finer_label not in columns:
        raise no_column(path, finer_label, columns)
    ignored = columns.difference((*COLUMNS, finer_label, ""))
    facts = {"repeated_lines": repeated, "ignored_columns": sorted(ignored)}
    dataset = _dataset(path, root or path.parent, list(entries.values()), facts)
    if finer_label is None:
        return dataset
    finer, names = multi_hot([entries[str(PurePosixPath(name))].finer for name in dataset.ids])
    return replace(dataset, finer=finer, finer_names=names)


def _records(path: Path, faults: Faults, finer_label: str | None) -> Iterable[tuple[int, Record]]:
    match path.suffix.lower():
        case ".csv" | ".tsv":
            return read_csv(path, faults)
        case ".jsonl":
            return read_jsonl(path, faults)
    from anglehash.data.sources.parquet import read_rows  # pyarrow: only when it is needed

    return read_rows(path, also=finer_label)


def _entry(line: int, record: Record, faults: Faults, finer_label: str | None) -> Entry | None:
    """One checked record, or ``None`` after its mistakes are noted."""
    file_name, split = record.get("file_name"), record.get("split") or ""
    if not isinstance(file_name, str) or not _is_file_name(file_name):
        faults.add(line, "no file name", f"file_name is {file_name!r}"[:200])
        return None
    if _leaves_root(file_name):
        faults.add(
            line, "path leaves the folder", f"{file_name!r}: name files below it, without .. or a root"
        )
        return None
    part = part_name(split) if isinstance(split, str) else None
    if split and part is None:
        faults.add(line, "unknown split", f"{split!r}; known: {part_names()}"[:200])
        return None
    try:
        labels = cell_labels(record.get("label"))
        finer = cell_labels(record.get(finer_label)) if finer_label else ()
    except DataError as error:
        faults.add(line, "unusable label", str(error))
        return None
    return Entry(line, file_name, labels, part or "", finer)


def _is_file_name(text: str) -> bool:
    """Whether a text can be the name of a file at all."""
    try:
        os.fsencode(text)
    except UnicodeEncodeError:  # half of a surrogate pair, out of a JSON escape
        return False
    return bool(text.strip()) and "\0" not in text


def _leaves_root(file_name: str) -> bool:
    """Whether a path is absolute or climbs, as POSIX or as Windows reads it."""
    parts = re.split(r"[\\/]", file_name)
    return parts[0] == "" or parts[0].endswith(":") or ".." in parts


def _dataset(path: Path, root: Path, entries: Sequence[Entry], facts: dict[str, Any]) -> Dataset:
    """The images that are there, sorted; the others as problems."""
    present, problems = [], []
    for entry in sorted(entries, key=lambda entry: entry.file_name):
        problem = file_problem(entry.file_name, root / entry.file_name)
        if problem is None:
            present.append(entry)
        else:
            problems.append(problem._replace(detail=f"line {entry.line}: {problem.detail}"))
    if not present:
        raise DataError(
            f"{path}: none of its {len(entries)} files is there (first: {entries[0].file_name!r}); "
            f"file_name starts from {root}: give another start with --root"
        )
    labels, class_names = multi_hot([entry.labels for entry in present])
    names = tuple(entry.file_name for entry in present)
    all_names = {name for entry in entries for name in entry.labels}
    facts = facts | {
        "empty_classes": sorted(all_names.difference(class_names)),
        "unlisted_images": _count_unlisted(root, names),
    }
    return Dataset(
        name=str(path),
        ids=names,
        images=Files(root, names),
        labels=labels,
        class_names=class_names,
        parts=np.array([entry.part for entry in present]),
        problems=tuple(problems),
        facts=facts,
    )


def _count_unlisted(root: Path, names: Sequence[str]) -> int:
    """Images that lie beside the listed ones and are not listed."""
    files = {root / name for name in names}
    count = 0
    for folder in {file.parent for file in files}:
        with suppress(OSError):  # a folder whose files are readable may still not be listable
            count += sum(f.suffix.lower() in IMAGE_SUFFIXES and f not in files for f in folder.iterdir())
    return count
