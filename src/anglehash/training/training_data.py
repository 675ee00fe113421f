"""What a run learns from: images, their labels and keys, and which of them train."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anglehash.config import TrainConfig
from anglehash.data.dataset import Dataset, refuse_problems
from anglehash.data.image_hash import readable
from anglehash.data.perceptual_hash import Signatures, across_parts
from anglehash.data.protocols import fit_split
from anglehash.data.split import RetrievalSplit
from anglehash.errors import DataError
from anglehash.files import sha256_json
from anglehash.progress import Progress


@dataclass(frozen=True, slots=True, eq=False)
class TrainingData:
    """What a run learns from.

    Attributes:
        dataset: readable images.
        keys: ``(n, 32)`` pixel hashes of the dataset's images.
        train: rows to learn from.
        validation: rows to choose settings on; may be empty.
        split: protocol, seed and hash, as JSON values; once it is checked, also ``near_copies``: how many validation
            images have one in the training part.
        split_manifest: the split itself, if a protocol made one.
        signatures: ``(n,)`` of the images; ``None`` where they are not known.
    """

    dataset: Dataset
    keys: NDArray[np.uint8]
    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    split: dict[str, Any]
    split_manifest: dict[str, Any] | None = None
    signatures: Signatures | None = None

    @classmethod
    def of(
        cls,
        data: Dataset | RetrievalSplit,
        config: TrainConfig,
        *,
        skip_unreadable: bool = True,
        cache: Path | None,
        progress: Progress,
    ) -> TrainingData:
        """The training and validation parts of a split, or all of a dataset less a tenth for validation."""
        if isinstance(data, RetrievalSplit):
            facts = {"protocol": data.protocol, "seed": data.seed, "hash": data.hash}
            parts = data.dataset, data.keys, data.train, data.validation
            return cls(*parts, facts, data.manifest(), data.signatures)
        dataset, keys, signatures = readable(
            data,
            allow_truncated=config.allow_truncated,
            max_pixels=config.max_pixels,
            cache=cache and cache / "keys",
            progress=progress,
        )
        if not (skip_unreadable and len(dataset)):
            refuse_problems(dataset.problems[len(data.problems) :], len(data))
        rows, validation = fit_split(dataset, seed=config.seed, unlabelled=config.unlabelled)
        names = dataset.label_names
        content = [[[keys[r].tobytes().hex(), *names[r]] for r in part] for part in (rows, validation)]
        facts = {"protocol": None, "seed": config.seed, "hash": sha256_json(content)}
        return cls(dataset, keys, rows, validation, facts, signatures=signatures)

    def checked(self, config: TrainConfig) -> TrainingData:
        """The same, validation moved to training where asked; refused where nothing can be learned.

        Near copies across the parts are counted.
        """
        train, validation = self.train, self.validation
        if config.use_validation:
            train, validation = np.sort(np.concatenate([train, validation])), validation[:0]
        if not len(train):
            raise DataError(f"{self.dataset.name}: no training part: name the images to learn from")
        classes = int(self.dataset.labels[train].any(axis=0).sum())
        if classes < 2:
            raise DataError(
                f"{self.dataset.name}: training needs at least 2 classes, got {classes}: "
                "put the images of each class into a folder of its own"
            )
        found = across_parts(self.signatures, validation, train, self.dataset.ids)
        split = {**self.split, "near_copies": found}
        return replace(self, train=train, validation=validation, split=split)
