"""From the options of a command to a retrieval split."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anglehash.config import MAX_PIXELS
from anglehash.data.dataset import Dataset, Joined
from anglehash.data.protocols import make_split
from anglehash.data.sources.open import open_dataset
from anglehash.data.split import RetrievalSplit
from anglehash.errors import DataError
from anglehash.files import cache_dir
from anglehash.progress import Progress, silent


def split_of(
    dataset: Dataset,
    *,
    protocol: str,
    split_seed: int | None = None,
    unlabelled: str | None = None,
    drop_label: tuple[str, ...] = (),
    draw: int | None = None,
    unseen: int | None = None,
    allow_truncated: bool | None = None,
    max_pixels: int | None = None,
    progress: Progress = silent,
    **others: Any,
) -> RetrievalSplit:
    """The split that the options name, or that a split manifest (``.json``) holds.

    Options that were not given are ``None``.
    """
    if protocol.endswith(".json"):
        return RetrievalSplit.load(Path(protocol), dataset)
    options: dict[str, Any] = {"drop_labels": list(drop_label) or None, "draw": draw, "unseen": unseen}
    return make_split(
        dataset,
        protocol,
        seed=split_seed or 0,
        unlabelled=unlabelled or "refuse",
        allow_truncated=bool(allow_truncated),
        max_pixels=max_pixels or MAX_PIXELS,
        cache=cache_dir() / "keys",
        progress=progress,
        **options,
    )


def two_folders(
    query: Path,
    database: Path,
    *,
    unlabelled: str | None,
    finer_label: str | None = None,
    layout: str | None = None,
    exclude: Sequence[str] = (),
    progress: Progress = silent,
) -> RetrievalSplit:
    """The split of a query folder and a database folder (or manifests) with classes in common.

    Raises:
        DataError: they have no class in common, or share an image.
    """
    parts = {
        name: open_dataset(path, finer_label=finer_label, layout=layout, exclude=exclude)
        for name, path in (("query", query), ("database", database))
    }
    names = sorted({name for part in parts.values() for name in part.class_names})
    finer_names = sorted({name for part in parts.values() for name in part.finer_names})
    finer = [
        _over(part.finer, part.finer_names, finer_names) for part in parts.values() if part.finer is not None
    ]
    if not set(parts["query"].class_names) & set(parts["database"].class_names):
        raise DataError(f"{query} and {database} have no class in common: name the same classes in both")
    both = Dataset(
        name=f"{query} in {database}",
        ids=tuple(f"{name}/{i}" for name, part in parts.items() for i in part.ids),
        images=Joined(tuple(part.images for part in parts.values())),
        labels=np.concatenate([_over(part.labels, part.class_names, names) for part in parts.values()]),
        class_names=tuple(names),
        parts=np.repeat(list(parts), [len(part) for part in parts.values()]),
        problems=tuple(problem for part in parts.values() for problem in part.problems),
        finer=np.concatenate(finer) if finer else None,
        finer_names=tuple(finer_names),
    )
    return split_of(both, protocol="given", unlabelled=unlabelled, progress=progress)


def _over(labels: NDArray[np.bool_], own: Sequence[str], names: Sequence[str]) -> NDArray[np.bool_]:
    """Labels with a column for each of ``names``, their own among them."""
    out = np.zeros((len(labels), len(names)), dtype=np.bool_)
    out[:, [names.index(name) for name in own]] = labels
    return out
