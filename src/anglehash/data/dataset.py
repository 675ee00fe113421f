"""Datasets: images that are listed but not yet decoded, and their labels.

Labels are always a multi-hot matrix, whether an image has one label or many; an image without a
label has an empty row. The bytes of an image are read one at a time, by row number.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from anglehash.errors import DataError

PARTS = ("train", "validation", "query", "database")
"""The parts of a retrieval split, as manifests and folders name them."""


class Problem(NamedTuple):
    """An image that was skipped, and why.

    Attributes:
        id: the image's id.
        reason: a code out of :data:`anglehash.data.images.decoding.REASONS`.
        detail: one line for a person.
    """

    id: str
    reason: str
    detail: str


def refuse_problems(problems: Sequence[Problem], total: int) -> None:
    """Refuse images of which some are unusable: where each row counts, none is dropped in silence.

    Args:
        problems: the unusable ones.
        total: number of all images, the unusable ones among them.

    Raises:
        DataError: there is a problem.

    >>> refuse_problems([Problem("a.jpg", "empty", "the file holds no bytes")], 3)
    Traceback (most recent call last):
    anglehash.errors.DataError: 1 of 3 images cannot be read (first: a.jpg: empty, the file holds no bytes): ...
    """
    if problems:
        id_, reason, detail = problems[0]
        advice = ": leave them out, or use the command line, which skips and lists them"
        raise DataError(
            f"{len(problems)} of {total} images cannot be read (first: {id_}: {reason}, {detail})"
            + advice * (len(problems) < total)
        )


class ImageStore(Protocol):
    """Where the images of a dataset are: encoded bytes, or pixels that need no decoding."""

    def __len__(self) -> int:
        """Number of images."""
        ...

    def read(self, row: int) -> bytes | NDArray[np.uint8]:
        """One image: its encoded bytes, or ``(h, w, 3)`` RGB pixels. Several threads may read at once.

        Raises:
            ImageError: it cannot be read (vanished, not a regular file, too large).
        """
        ...


@dataclass(frozen=True, slots=True)
class Arrays:
    """Images that are in memory as pixels, ``(h, w, 3)`` ``uint8`` each."""

    pixels: Sequence[NDArray[np.uint8]] | NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.pixels)

    def read(self, row: int) -> NDArray[np.uint8]:
        """The pixels of one image."""
        return np.asarray(self.pixels[row])


@dataclass(frozen=True, slots=True)
class Encoded:
    """Images that are in memory as file bytes; a column of an Arrow table serves too."""

    blobs: Any  # Sequence[bytes] or pyarrow.BinaryArray / ChunkedArray

    def __len__(self) -> int:
        return len(self.blobs)

    def read(self, row: int) -> bytes:
        """The encoded bytes of one image."""
        blob = self.blobs[row]
        return blob if isinstance(blob, bytes) else bytes(blob.as_py() or b"")


@dataclass(frozen=True, slots=True)
class Joined:
    """The images of several stores, one store after the other."""

    stores: tuple[ImageStore, ...]

    def __len__(self) -> int:
        return sum(len(store) for store in self.stores)

    def read(self, row: int) -> bytes | NDArray[np.uint8]:
        """One image, out of the store that holds it."""
        for store in self.stores:
            if row < len(store):
                return store.read(row)
            row -= len(store)
        raise IndexError("row past the last image")


@dataclass(frozen=True, slots=True)
class _Rows:
    """Some rows of another store."""

    store: ImageStore
    rows: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, row: int) -> bytes | NDArray[np.uint8]:
        return self.store.read(int(self.rows[row]))


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """Listed images with their labels.

    Attributes:
        name: what the user called it: a known set's name or a path.
        ids: ``n`` unique names, with ``/`` between folders.
        images: ``n`` images, in the same order.
        labels: ``(n, classes)`` bool, multi-hot.
        class_names: ``classes`` names.
        parts: ``(n,)`` str, the part that the data themselves give: one of :data:`PARTS`, an official
            ``train`` or ``test``, or ``""``.
        problems: images that could not be listed or read, none of which is a row.
        facts: what else the set states about itself (JSON values).
        known: a known set, whose parts are the official ones and ask for a protocol that says how to use them.
        finer: ``(n, finer)`` bool, a second label that training never sees, or ``None``: what an order inside
            a class is measured by. A row may be empty.
        finer_names: a name for each of its columns.
    """

    name: str
    ids: tuple[str, ...]
    images: ImageStore
    labels: NDArray[np.bool_]
    class_names: tuple[str, ...]
    parts: NDArray[np.str_]
    problems: tuple[Problem, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)
    known: bool = False
    finer: NDArray[np.bool_] | None = None
    finer_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        n = len(self.ids)
        if self.finer is not None and (
            self.finer.shape != (n, len(self.finer_names)) or self.finer.dtype != np.bool_
        ):
            raise DataError(
                f"{self.name}: finer labels must be bool of shape ({n}, {len(self.finer_names)}), "
                f"got {self.finer.dtype} {self.finer.shape}"
            )
        if self.labels.shape != (n, len(self.class_names)) or self.labels.dtype != np.bool_:
            raise DataError(
                f"{self.name}: labels must be bool of shape ({n}, {len(self.class_names)}), "
                f"got {self.labels.dtype} {self.labels.shape}"
            )
        if len(self.images) != n or self.parts.shape != (n,):
            raise DataError(f"{self.name}: {n} ids, {len(self.images)} images, {len(self.parts)} parts")
        if len(set(self.ids)) != n:
            raise DataError(f"{self.name}: ids are not unique")

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def multi_label(self) -> bool:
        """True where any image has several labels."""
        return bool((self.labels.sum(axis=1) > 1).any())

    @property
    def brings_split(self) -> bool:
        """True where users' own data say which part an image is in."""
        return not self.known and bool((self.parts != "").any())

    @property
    def brings_queries(self) -> bool:
        """True where users' own data say which images are queries."""
        return self.brings_split and bool(np.isin(self.parts, ("query", "test")).any())

    @property
    def unlabelled(self) -> NDArray[np.int64]:
        """Rows without a label."""
        return np.flatnonzero(~self.labels.any(axis=1))

    @property
    def label_names(self) -> tuple[tuple[str, ...], ...]:
        """The names of each image's labels."""
        return tuple(tuple(self.class_names[c] for c in np.flatnonzero(row)) for row in self.labels)

    def select(self, rows: NDArray[np.integer] | Sequence[int]) -> Dataset:
        """The dataset of these rows, in this order, with the same classes."""
        chosen: NDArray[np.int64] = np.asarray(rows, dtype=np.int64)
        return replace(
            self,
            ids=tuple(self.ids[int(r)] for r in chosen),
            images=_Rows(self.images, chosen),
            labels=self.labels[chosen],
            parts=self.parts[chosen],
            finer=None if self.finer is None else self.finer[chosen],
        )

    def with_problems(self, problems: Sequence[Problem]) -> Dataset:
        """The dataset with further problems noted."""
        return replace(self, problems=(*self.problems, *problems))


def one_hot(indices: NDArray[np.integer] | Sequence[int], classes: int) -> NDArray[np.bool_]:
    """Multi-hot rows of class numbers; -1 gives an empty row.

    >>> one_hot([1, -1], 2).tolist()
    [[False, True], [False, False]]
    """
    hot: NDArray[np.bool_] = np.asarray(indices, dtype=np.int64)[:, None] == np.arange(classes)
    return hot


def numbered_ids(name: str, parts: Sequence[str]) -> tuple[str, ...]:
    """Ids ``NAME/PART/ROW`` for images without a name; rows count from 0 in each part.

    >>> numbered_ids("scans", ["train", "test", "train"])
    ('scans/train/0', 'scans/test/0', 'scans/train/1')
    """
    total = Counter(parts)
    count: Counter[str] = Counter()
    ids = []
    for part in parts:
        width = len(str(total[part] - 1))  # padded, so that ids sort like rows
        ids.append("/".join(filter(None, (name, part, f"{count[part]:0{width}d}"))))
        count[part] += 1
    return tuple(ids)
