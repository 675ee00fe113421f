"""What a protocol draws from: the labelled images of a data set, and one seeded generator.

A protocol that is written with :class:`Pool` reads like its definition, and its draws are a function of
the data, the seed and the order in which they are made.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from math import comb
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anglehash.data.dataset import Dataset
from anglehash.errors import ConfigError, DataError, unknown

Rows = NDArray[np.int64]  # row numbers

UNLABELLED = ("refuse", "skip")
"""What may happen to an image without a label: it stops the split, or is left out of it."""

CLASS_DRAWS = 5
"""Number of named draws of classes."""


def as_rows(values: Any) -> Rows:
    """Row numbers as a contiguous one-dimensional ``int64`` array."""
    return np.ascontiguousarray(values, dtype=np.int64).ravel()


def without(rows: Rows, *removed: Rows) -> Rows:
    """The rows that are in none of the others, in their order."""
    return rows[~np.isin(rows, np.concatenate(removed))]


def tenth(m: NDArray[np.integer[Any]]) -> Rows:
    """A tenth of each number, rounded half up, but at least 1 of 2 or more, and 0 of 1.

    >>> tenth(np.array([0, 1, 2, 14, 15, 300])).tolist()
    [0, 0, 1, 1, 2, 30]
    """
    return as_rows(np.maximum((m + 5) // 10, m > 1))


def keep_classes(dataset: Dataset, names: Collection[str]) -> Dataset:
    """The same images with the labels of these classes only, in the data set's order of classes.

    Raises:
        ConfigError: a name is not a class of the data set.
    """
    for name in names:
        if name not in dataset.class_names:
            raise unknown(f"class of {dataset.name}", name, dataset.class_names)
    columns = [c for c, name in enumerate(dataset.class_names) if name in names]
    return replace(
        dataset,
        labels=dataset.labels[:, columns],
        class_names=tuple(dataset.class_names[c] for c in columns),
    )


@dataclass(frozen=True, slots=True)
class Pool:
    """Labelled images to draw from. Every draw is without replacement and returns row numbers.

    Attributes:
        dataset: the images; row numbers are its own.
        rng: consumed by the draws, in their order.
        unlabelled: one of :data:`UNLABELLED`.
    """

    dataset: Dataset
    rng: np.random.Generator
    unlabelled: str = "refuse"

    def __post_init__(self) -> None:
        if self.unlabelled not in UNLABELLED:
            raise ConfigError(f"unlabelled must be one of {', '.join(UNLABELLED)}, got {self.unlabelled!r}")

    @classmethod
    def seeded(cls, dataset: Dataset, seed: int, unlabelled: str) -> Pool:
        """A pool whose generator starts at ``seed``.

        Raises:
            ConfigError: ``seed`` is negative, or ``unlabelled`` is unknown.
        """
        if seed < 0:
            raise ConfigError(f"the seed of a split must be 0 or more, got {seed}")
        return cls(dataset, np.random.default_rng(seed), unlabelled)

    def rows(self, *parts: str) -> Rows:
        """The labelled rows of these parts (of the whole data set when none is named), in order.

        Raises:
            DataError: there is none, or some have no label and the setting is to refuse them.
        """
        data = self.dataset
        asked = np.flatnonzero(np.isin(data.parts, parts)) if parts else np.arange(len(data))
        labelled = asked[data.labels[asked].any(axis=1)]
        if self.unlabelled == "refuse" and len(labelled) < len(asked):
            first = data.ids[without(asked, labelled)[0]]
            raise DataError(
                f"{len(asked) - len(labelled)} of {len(asked)} images of {data.name} have no label "
                f"(first: {first}): label them, or leave them out with --unlabelled skip"
            )
        if not len(labelled):
            wanted = f"in part {' or '.join(parts)}" if parts else "at all"
            raise DataError(f"{data.name}: no labelled image {wanted}; its parts are {self.part_names()}")
        return as_rows(labelled)

    def rows_if_any(self, *parts: str) -> Rows:
        """The rows of these parts, none where the data name no such part."""
        return self.rows(*parts) if np.isin(self.dataset.parts, parts).any() else as_rows([])

    def refuse_partless(self) -> None:
        """Raise where an image is in no part.

        Raises:
            DataError: some name none.
        """
        partless = np.flatnonzero(self.dataset.parts == "")
        if len(partless):
            raise DataError(
                f"{self.dataset.name}: {len(partless)} of {len(self.dataset)} images name no part (first: "
                f"{self.dataset.ids[partless[0]]}): name train, validation, query or database for each, "
                "or take protocol holdout"
            )

    def part_names(self) -> list[str]:
        """The parts that the data name themselves."""
        return [str(part) for part in np.unique(self.dataset.parts) if part]

    def at_least(self, count: int, rows: Rows) -> Rows:
        """Return ``rows``.

        Raises:
            DataError: there are fewer than ``count``.
        """
        if len(rows) < count:
            raise DataError(f"{self.dataset.name}: the protocol needs {count:,} images, got {len(rows):,}")
        return rows

    def of_two_classes(self, rows: Rows) -> Rows:
        """Return ``rows``.

        Raises:
            DataError: they are of fewer than two classes, so no difference can be learned.
        """
        present = np.flatnonzero(self.dataset.labels[rows].any(axis=0))
        if len(present) < 2:
            names = ", ".join(self.dataset.class_names[c] for c in present) or "none"
            raise DataError(
                f"{self.dataset.name}: codes are learnt from the difference between classes, but all of "
                f"{len(rows)} images to learn from are of {len(present)} class ({names}): add others"
            )
        return rows

    def narrowed(self, names: Collection[str]) -> Pool:
        """The pool with the labels of these classes only; images that keep none are left out of it."""
        return replace(self, dataset=keep_classes(self.dataset, names), unlabelled="skip")

    def most_frequent_classes(self, count: int) -> list[str]:
        """The names of the classes with the most images; of equally frequent ones those that come first.

        Raises:
            DataError: there are fewer than ``count`` classes.
        """
        names = self.dataset.class_names
        if len(names) < count:
            raise DataError(f"{self.dataset.name}: the protocol needs {count} classes, got {len(names)}")
        return [names[c] for c in np.argsort(-self.dataset.labels.sum(axis=0), kind="stable")[:count]]

    def draw_classes(self, count: int | None, draw: int) -> tuple[str, ...]:
        """The names of draw number ``draw`` out of :data:`CLASS_DRAWS` different sets of ``count`` classes.

        One permutation of the classes a draw, made again where it repeats an earlier set.

        Args:
            count: how many; ``None`` is a quarter of the classes that have an image, rounded up, at least 2.
            draw: from 0.

        Raises:
            ConfigError: fewer than two classes would be drawn or left, or no such draw.
        """
        present = np.flatnonzero(self.dataset.labels.any(axis=0))
        count = max(2, -(-len(present) // 4)) if count is None else count
        if not 2 <= count <= len(present) - 2:
            raise ConfigError(
                f"{count} classes cannot be drawn out of the {len(present)} of {self.dataset.name}: "
                "two must be drawn, and two be left"
            )
        draws = min(CLASS_DRAWS, comb(len(present), count))
        if not 0 <= draw < draws:
            raise ConfigError(f"draw must be in 0..{draws - 1}, got {draw}")
        made: list[list[str]] = []
        while len(made) <= draw:
            classes = sorted(self.dataset.class_names[c] for c in self.rng.permutation(present)[:count])
            if classes not in made:
                made.append(classes)
        return tuple(made[draw])

    def permuted(self, rows: Rows) -> Rows:
        """The rows in random order: one permutation."""
        return self.rng.permutation(rows)

    def draw_each(self, rows: Rows, count: int) -> Rows:
        """Draw ``count`` of ``rows`` for every class: one permutation a class.

        Classes are served rarest first (equally rare ones in class order), and an image drawn for one
        class is not drawn for another: a frequent class cannot use up the images of a rare one. A class
        without an image among ``rows`` is passed over.

        Raises:
            DataError: a class has fewer than ``count`` images left.
        """
        labels = self.dataset.labels[rows]
        drawn = np.zeros(len(rows), dtype=bool)
        for c in _rarest_first(labels):
            free = np.flatnonzero(labels[:, c] & ~drawn)
            if len(free) < count:
                raise DataError(
                    f"{self.dataset.name}: {count} images of every class are wanted, "
                    f"{self.dataset.class_names[c]!r} has {len(free)} to draw from"
                )
            drawn[self.rng.permutation(free)[:count]] = True
        return rows[drawn]

    def draw_tenth(self, rows: Rows) -> Rows:
        """Draw a tenth of ``rows``, class by class, so that no class loses its last image: one permutation.

        An image with several labels counts for the rarest of them. Of ``m`` images of a class ``m / 10``
        are drawn, rounded, but at least one of two or more. A class that would lose all of its images to
        the draws for others gets its first one back.
        """
        labels = self.dataset.labels[rows]
        stratum = _rarest_label(labels)
        shuffled = self.rng.permutation(len(rows))
        by_stratum = shuffled[np.argsort(stratum[shuffled], kind="stable")]
        size = np.bincount(stratum)
        place = np.arange(len(rows)) - np.repeat(np.cumsum(size) - size, size)  # in its stratum, from 0
        drawn = np.zeros(len(rows), dtype=bool)
        drawn[by_stratum] = place < np.repeat(tenth(size), size)
        for c in np.flatnonzero(labels.any(axis=0) & ~labels[~drawn].any(axis=0)):
            if not labels[~drawn, c].any():  # the image given back to an earlier class may have served it
                drawn[labels[:, c].argmax()] = False
        return rows[drawn]


def _rarest_first(labels: NDArray[np.bool_]) -> Rows:
    """The classes that have an image, rarest first; equally rare ones in class order."""
    count = labels.sum(axis=0)
    order = np.argsort(count, kind="stable")
    return as_rows(order[count[order] > 0])


def _rarest_label(labels: NDArray[np.bool_]) -> Rows:
    """For each image, its rarest label, as its place in :func:`_rarest_first`."""
    order = _rarest_first(labels)
    rank = np.empty(labels.shape[1], dtype=np.int64)
    rank[order] = np.arange(len(order))
    image, label = np.nonzero(labels)
    return as_rows(np.minimum.reduceat(rank[label], np.searchsorted(image, np.arange(len(labels)))))
