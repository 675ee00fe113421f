"""A retrieval split: which images train, which are queries, and which are searched.

The field's usual sin, a query that is also in the database, cannot be constructed: two images are the
same when their pixels are, whatever they are called.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anglehash.data.dataset import PARTS, Dataset
from anglehash.data.groups import GROUPED, grouped
from anglehash.data.image_hash import KEY_BYTES, Keys, as_items, check_keys, readable
from anglehash.data.perceptual_hash import Signatures
from anglehash.data.sampling import Rows, as_rows, keep_classes
from anglehash.errors import DataError
from anglehash.files import sha256_json, write_json

FORMAT = "anglehash-split"
VERSION = 1


@dataclass(frozen=True, eq=False, kw_only=True)
class RetrievalSplit:
    """Training, validation, query and database images. No query is in the other three.

    Training images in the database are normal in this field: allowed, and the protocol says so.

    Attributes:
        dataset: the images, with the labels that this split counts.
        keys: ``(n, 32)`` the pixel key of each image of the data set.
        train: row numbers to learn from; empty where a finished model is only judged.
        validation: row numbers to choose epochs and settings on; not in ``train``; may be empty.
        query: row numbers to search with.
        database: row numbers to search in.
        protocol: the name of the definition.
        seed: the seed of its draws.
        rank_cuts: mAP is taken over this many first ranks (``None``: all); the first is the headline.
        dropped_queries: drawn queries that had the pixels of another part's image and were left out.
        held_out: classes kept out of training, between which alone is retrieved.
        unlabelled: what happened to images without a label: ``refuse`` or ``skip``.
        options: the protocol's own settings, as JSON values.
        signatures: ``(n,)`` of the images, for near copies across the parts; ``None`` where they are not known.

    Raises:
        DataError: a part names rows that do not exist, or one twice; no query or no database image;
            training and validation overlap; a query is in another part.
    """

    dataset: Dataset
    keys: Keys
    train: Rows
    validation: Rows
    query: Rows
    database: Rows
    protocol: str
    seed: int = 0
    rank_cuts: tuple[int | None, ...] = (None,)
    dropped_queries: int = 0
    held_out: tuple[str, ...] = ()
    unlabelled: str = "refuse"
    options: dict[str, Any] = field(default_factory=dict)
    signatures: Signatures | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "keys", check_keys(self.keys, len(self.dataset)))
        object.__setattr__(self, "rank_cuts", tuple(self.rank_cuts))
        object.__setattr__(self, "held_out", tuple(self.held_out))
        for name in PARTS:
            object.__setattr__(self, name, self._checked(name))
        for name in ("query", "database"):
            if not len(self.part(name)):
                dropped = f" ({self.dropped_queries} drawn queries were copies of other images)"
                raise DataError(
                    f"{self.protocol}: the {name} part is empty, so there is nothing to evaluate"
                    + dropped * bool(self.dropped_queries)
                )
        both = np.intersect1d(self.train, self.validation)
        if len(both):
            raise DataError(
                f"{self.protocol}: {len(both)} training images are also in validation "
                f"(first: {self.dataset.ids[both[0]]}): epochs would be chosen on what was learnt"
            )
        for name in ("train", "validation", "database"):
            leaked = self.query[same_image(self.keys, self.query, self.part(name))]
            if len(leaked):
                raise DataError(
                    f"{self.protocol}: {len(leaked)} query images are also in the {name} part "
                    f"(first: {self.dataset.ids[leaked[0]]}), by their pixels: mAP would be inflated. "
                    "Take them out of one of the two"
                )

    def _checked(self, name: str) -> Rows:
        rows, n = as_rows(self.part(name)), len(self.dataset)
        if len(rows) and not 0 <= rows.min() <= rows.max() < n:
            raise DataError(f"{self.protocol}: the {name} part names rows outside 0..{n - 1}")
        if len(np.unique(rows)) < len(rows):
            raise DataError(
                f"{self.protocol}: the {name} part names {len(rows) - len(np.unique(rows))} rows twice"
            )
        return rows

    def part(self, name: str) -> Rows:
        """The rows of the part of this name."""
        rows: Rows = getattr(self, name)
        return rows

    @property
    def sizes(self) -> dict[str, int]:
        """Number of images of each part."""
        return {name: len(self.part(name)) for name in PARTS}

    @property
    def trains_on_database(self) -> bool:
        """Whether labels of database images are used in training: every result states it."""
        return bool(np.isin(np.concatenate([self.train, self.validation]), self.database).any())

    @cached_property
    def hash(self) -> str:
        """Hex sha256 over protocol, seed, and the pixel key and label names of each image of each part.

        The order of images and classes does not matter, nor do names and places of files: the same
        pixels, labels and split have the same hash everywhere.
        """
        digest = hashlib.sha256(sha256_json([FORMAT, VERSION, self.protocol, self.seed]).encode())
        images = np.hstack([self.keys, _label_digests(self.dataset)])
        for name in PARTS:
            items = np.sort(as_items(images[self.part(name)]))
            digest.update(f"{name}:{len(items)}:".encode())
            digest.update(items.tobytes())
        return digest.hexdigest()

    def manifest(self) -> dict[str, Any]:
        """The split as JSON values: the ids of each part, how they came about, and the hash."""
        ids = self.dataset.ids
        return {
            "format": FORMAT,
            "version": VERSION,
            "hash": self.hash,
            **{name: getattr(self, name) for name in _SETTINGS},
            "class_names": self.dataset.class_names,
            "parts": {name: [ids[row] for row in self.part(name)] for name in PARTS},
        }

    def save(self, path: Path) -> None:
        """Write :meth:`manifest` as a JSON file, which :meth:`load` reads."""
        write_json(path, self.manifest())

    @classmethod
    def load(cls, path: Path, dataset: Dataset, *, keys: Keys | None = None) -> RetrievalSplit:
        """Read a saved split back, over the images it names.

        Args:
            path: the manifest.
            dataset: the data it was made of; further images do no harm.
            keys: of the images of ``dataset``; computed when not given.

        Raises:
            DataError: not a split manifest; an image of it is missing or unreadable; an image or a label
                has changed since.
        """
        manifest = _read_manifest(path)
        parts = {name: manifest["parts"][name] for name in PARTS}
        wanted = set().union(*parts.values())
        rows = [row for row, i in enumerate(dataset.ids) if i in wanted]
        if manifest["protocol"] in GROUPED:
            dataset = grouped(dataset, manifest["protocol"])
        dataset = only_held_out(
            keep_classes(dataset.select(rows), manifest["class_names"]), manifest["held_out"]
        )
        signatures = None
        if keys is None:
            dataset, keys, signatures = readable(dataset)
        else:
            keys = keys[rows]
        place = {i: row for row, i in enumerate(dataset.ids)}
        missing = sorted(wanted - place.keys())
        if missing:
            raise DataError(
                f"{path}: {len(missing)} of {len(wanted)} images of the split are not in {dataset.name} "
                f"or cannot be read (first: {missing[0]})"
            )
        fields: dict[str, Any] = {name: [place[i] for i in ids] for name, ids in parts.items()}
        fields |= {name: manifest[name] for name in _SETTINGS}
        split = cls(dataset=dataset, keys=keys, signatures=signatures, **fields)
        if split.hash != manifest["hash"]:
            raise DataError(
                f"{path}: images or labels of {dataset.name} have changed since the split was saved: "
                "restore them, or make a new split"
            )
        return split


def same_image(keys: Keys, rows: Rows, others: Rows) -> NDArray[np.bool_]:
    """For each of ``rows``: whether one of ``others`` has the same key."""
    return np.isin(as_items(keys[rows]), as_items(keys[others]))


def only_held_out(dataset: Dataset, held_out: Collection[str]) -> Dataset:
    """The data set in which an image that carries a held-out class carries no other class.

    Without held-out classes nothing changes. An image with one label never changes.
    """
    if not held_out:
        return dataset
    unseen = held_out_columns(dataset, held_out)
    hidden = dataset.labels[:, unseen].any(axis=1, keepdims=True) & ~unseen
    return replace(dataset, labels=dataset.labels & ~hidden)


def held_out_columns(dataset: Dataset, held_out: Collection[str]) -> NDArray[np.bool_]:
    """For each class of the data set: whether it is held out."""
    return np.array([name in held_out for name in dataset.class_names], dtype=np.bool_)


def _label_digests(dataset: Dataset) -> Keys:
    """``(n, 32)``: the sha256 of each image's sorted label names."""
    packed = np.packbits(np.pad(dataset.labels, ((0, 0), (0, 1))), axis=1)  # a byte at least
    _, first, inverse = np.unique(as_items(packed), return_index=True, return_inverse=True)
    digests = bytearray()
    for labels in dataset.labels[first]:
        names = sorted(dataset.class_names[c] for c in np.flatnonzero(labels))
        digests += bytes.fromhex(sha256_json(names))
    return np.frombuffer(bytes(digests), dtype=np.uint8).reshape(-1, KEY_BYTES)[inverse]


_SETTINGS: dict[str, type] = {
    "protocol": str,
    "seed": int,
    "rank_cuts": list,
    "dropped_queries": int,
    "held_out": list,
    "unlabelled": str,
    "options": dict,
}
"""The fields that a manifest states as they are, with their JSON types."""


def _read_manifest(path: Path) -> dict[str, Any]:
    """The manifest, with every field there and of its type.

    Raises:
        DataError: it is not so, or a newer version wrote it.
    """
    try:
        manifest = json.loads(path.read_text(encoding="utf-8", errors="surrogateescape"))
    except ValueError as error:
        raise DataError(f"{path}: not a split manifest: it is not JSON ({error})") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise DataError(f"{path}: not a split manifest: its format is not {FORMAT!r}")
    if manifest.get("version") != VERSION:
        raise DataError(
            f"{path}: a split of version {manifest.get('version')!r}, this anglehash reads {VERSION}: upgrade"
        )
    expected = _SETTINGS | {"hash": str, "class_names": list, "parts": dict}
    wrong = [name for name, kind in expected.items() if not isinstance(manifest.get(name), kind)]
    if not wrong:
        lists = {name: manifest[name] for name in ("class_names", "held_out")}
        lists |= {name: manifest["parts"].get(name) for name in PARTS}
        wrong = [name for name, texts in lists.items() if not _are_texts(texts)]
    if wrong:
        raise DataError(
            f"{path}: a damaged split manifest: {', '.join(wrong)} missing or not as it should be"
        )
    return manifest


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)
