"""From the options of a command to a retrieval split."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anglehash.data.dataset import Dataset, Joined
from anglehash.data.protocols import make_split
from anglehash.data.sources import SETS, open_dataset
from anglehash.data.split import RetrievalSplit
from anglehash.errors import DataError
from anglehash.files import cache_dir
from anglehash.progress import Report, silent


def brings_split(dataset: Dataset) -> bool:
    """Whether the user's own data say which images are queries; a known set's official parts do not count."""
    return dataset.name not in SETS and bool(np.isin(dataset.parts, ("query", "test")).any())


def split_of(
    dataset: Dataset,
    *,
    protocol: str,
    split_seed: int = 0,
    unlabelled: str = "refuse",
    drop_label: tuple[str, ...] = (),
    draw: int | None = None,
    unseen: int | None = None,
    report: Report = silent,
    **others: Any,
) -> RetrievalSplit:
    """The split that the options name; options of other protocols are left at ``None``."""
    options: dict[str, Any] = {"drop_labels": list(drop_label) or None, "draw": draw, "unseen": unseen}
    return make_split(
        dataset,
        protocol,
        seed=split_seed,
        unlabelled=unlabelled,
        cache=cache_dir() / "keys",
        report=report,
        **options,
    )


def two_folders(query: Path, database: Path, *, unlabelled: str, report: Report = silent) -> RetrievalSplit:
    """The split of a query folder and a database folder (or manifests) with classes in common.

    Raises:
        DataError: they have no class in common, or share an image.
    """
    parts = {name: open_dataset(path) for name, path in (("query", query), ("database", database))}
    names = sorted({name for part in parts.values() for name in part.class_names})
    if not set(parts["query"].class_names) & set(parts["database"].class_names):
        raise DataError(f"{query} and {database} have no class in common: name the same classes in both")
    both = Dataset(
        name=f"{query} in {database}",
        ids=tuple(f"{name}/{i}" for name, part in parts.items() for i in part.ids),
        images=Joined(tuple(part.images for part in parts.values())),
        labels=np.concatenate([_labels_over(part, names) for part in parts.values()]),
        class_names=tuple(names),
        parts=np.repeat(list(parts), [len(part) for part in parts.values()]),
        problems=tuple(problem for part in parts.values() for problem in part.problems),
    )
    return split_of(both, protocol="given", unlabelled=unlabelled, report=report)


def _labels_over(dataset: Dataset, names: list[str]) -> NDArray[np.bool_]:
    out = np.zeros((len(dataset), len(names)), dtype=np.bool_)
    out[:, [names.index(name) for name in dataset.class_names]] = dataset.labels
    return out
