"""From what a user names to a data set: a folder, a manifest, a Parquet table, or a known set.

A bare name of a known set always means that set, whatever lies in the working directory; write ``./digits``
for a folder of that name. Images of a user come sorted by id, so that the same images give the same split
from a folder and from a manifest; known sets keep their official order.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path

from anglehash.data.dataset import Dataset
from anglehash.data.sources.folders import LAYOUTS, list_folder, read_folder
from anglehash.data.sources.manifests import read_manifest
from anglehash.data.sources.walk import Files, is_excluded
from anglehash.errors import DataError, unknown
from anglehash.registry import Folder

__all__ = ["SETS", "Files", "list_images", "open_dataset"]

SETS = Folder("data set", "anglehash.data.datasets")
"""The known sets. Each module has ``load(root: Path | None, *, download: bool = False) -> Dataset``."""


def open_dataset(
    data: str | PathLike[str],
    *,
    root: str | PathLike[str] | None = None,
    download: bool = False,
    finer_label: str | None = None,
    layout: str | None = None,
    exclude: Sequence[str] = (),
) -> Dataset:
    """The labelled images that ``data`` names.

    Args:
        data: a folder with a folder per class, a manifest (``.csv``, ``.jsonl``, ``.parquet``), a Parquet
            table of images, or the name of a known set.
        root: where the files of a known set are, or where the file names of a manifest start; a folder and
            a table of images need none.
        download: whether a known set that is absent may be fetched from its official address.
        finer_label: a column of a manifest or table of images with labels that training never sees.
        layout: what the top folders of a folder are, ``"classes"`` or ``"parts"``, where their names leave it open.
        exclude: patterns of ids that are passed over: ``"raw/*"``, ``"*.gif"``, a folder's name.

    Raises:
        ConfigError: a name that is neither a path nor a known set.
        DataError: the data are absent or unusable.
    """
    if layout is not None and layout not in LAYOUTS:
        raise unknown("layout", layout, LAYOUTS)
    if layout is not None and (path := Path(os.path.expanduser(data))).is_dir():
        return read_folder(path, layout=layout, exclude=exclude)
    return _open(data, root=root, download=download, labelled=True, finer_label=finer_label, exclude=exclude)


def list_images(
    data: str | PathLike[str],
    *,
    root: str | PathLike[str] | None = None,
    download: bool = False,
    exclude: Sequence[str] = (),
) -> Dataset:
    """The images that ``data`` names, sorted by id, whether they have labels or not.

    Takes what :func:`open_dataset` takes, a folder of any shape, and a manifest without labels. Labels that
    a class folder, a table or a known set states are kept.
    """
    return _sorted(_open(data, root=root, download=download, labelled=False, exclude=exclude))


def _open(
    data: str | PathLike[str],
    *,
    root: str | PathLike[str] | None,
    download: bool,
    labelled: bool,
    finer_label: str | None = None,
    exclude: Sequence[str] = (),
) -> Dataset:
    if not str(data):
        raise DataError("an empty name names no data: give a folder, a manifest or a known set")
    if finer_label is not None and (
        (isinstance(data, str) and data in SETS) or Path(os.path.expanduser(data)).is_dir()
    ):
        raise DataError(
            f"{data} has no column {finer_label!r}: a finer label is a column of a .csv, .jsonl or .parquet manifest"
        )
    start = None if root is None else Path(os.path.expanduser(root))
    if isinstance(data, str) and data in SETS:
        known: Dataset = SETS[data].load(start, download=download)
        return replace(_without(known, exclude), known=True)
    path = Path(os.path.expanduser(data))
    if path.is_dir():
        return read_folder(path, exclude=exclude) if labelled else list_folder(path, exclude=exclude)
    if path.is_file():  # follows links; a FIFO or a device is none
        return _without(_open_table(path, start, labelled, finer_label), exclude)
    if os.path.lexists(path):
        raise DataError(f"{path} is neither a folder nor a regular file")
    if isinstance(data, str) and path.name == data and not path.suffix:
        raise unknown("folder, manifest or data set", data, SETS)
    raise DataError(f"no folder or manifest {path}")


def _open_table(path: Path, start: Path | None, labelled: bool, finer_label: str | None) -> Dataset:
    suffix = path.suffix.lower()
    if suffix in (".csv", ".tsv", ".jsonl"):
        return read_manifest(path, root=start, labelled=labelled, finer_label=finer_label)
    if suffix != ".parquet":
        raise DataError(
            f"{path} is neither a folder nor a manifest: .csv, .tsv, .jsonl and .parquet are read"
        )
    from anglehash.data.sources.parquet import column_names, read_images  # pyarrow: only when it is needed

    columns = column_names(path)
    if "image" in columns:
        return _sorted(read_images(path, labelled=labelled, finer_label=finer_label))
    if "file_name" in columns:
        return read_manifest(path, root=start, labelled=labelled, finer_label=finer_label)
    raise DataError(
        f"{path} has neither a column 'image' nor 'file_name'; its columns are {', '.join(columns)}"[:500]
    )


def _without(dataset: Dataset, exclude: Sequence[str]) -> Dataset:
    """The images whose ids match none of the patterns."""
    if not exclude:
        return dataset
    kept = [row for row, name in enumerate(dataset.ids) if not is_excluded(name, exclude)]
    problems = tuple(problem for problem in dataset.problems if not is_excluded(problem.id, exclude))
    facts = {**dataset.facts, "excluded": len(dataset) - len(kept)}
    return replace(dataset.select(kept), problems=problems, facts=facts)


def _sorted(dataset: Dataset) -> Dataset:
    """The same images in the order of their ids."""
    order = sorted(range(len(dataset)), key=dataset.ids.__getitem__)
    return dataset if order == list(range(len(dataset))) else dataset.select(order)
