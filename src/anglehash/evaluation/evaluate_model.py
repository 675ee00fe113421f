"""How good a model is on a split: the numbers of ``anglehash evaluate``."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from anglehash.codes import Codes, pack, width
from anglehash.config import TrainConfig
from anglehash.data.copies import copies_of
from anglehash.data.image_hash import as_items
from anglehash.data.perceptual_hash import across_parts
from anglehash.data.sampling import Rows
from anglehash.data.split import RetrievalSplit
from anglehash.encode.encoder import Encoder, Encoding
from anglehash.errors import DataError
from anglehash.evaluation.code_statistics import class_code_distances
from anglehash.evaluation.evaluate import Outputs, evaluate
from anglehash.evaluation.likeness import nearest_in_class
from anglehash.evaluation.likeness_table import Truth, likeness_of_codes, references
from anglehash.progress import Progress, silent


class Measurable(Encoder, Protocol):
    """What can be measured: a model, or a bundle, which knows as much of itself."""

    @property
    def config(self) -> TrainConfig:
        """The settings it was trained with."""
        ...

    @property
    def class_names(self) -> tuple[str, ...]:
        """Classes that it has learned."""
        ...

    @property
    def class_vectors(self) -> NDArray[np.float32]:
        """``(classes, bits)``, or empty."""
        ...

    @property
    def seen(self) -> NDArray[np.uint8]:
        """``(n, 32)`` sha256 of the pixels of every image that it was trained or validated with."""
        ...

    @property
    def split(self) -> dict[str, Any]:
        """Protocol, seed and hash of the split that it was trained on."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """A result, and the codes behind it.

    Attributes:
        result: JSON values; see ``docs/metrics.md``.
        query: packed codes of the split's queries, in order.
        database: packed codes of its database, in order.
    """

    result: dict[str, Any]
    query: Codes
    database: Codes


def evaluate_model(
    model: Measurable, split: RetrievalSplit, *, cache: Path | None = None, progress: Progress = silent
) -> Measured:
    """Evaluate ``model`` on the queries and database of ``split``.

    Args:
        model: a trained model or a bundle of it.
        split: of the same kind of images.
        cache: folder of cached features, or ``None``.
        progress: callback.

    Raises:
        DataError: the model has seen a query in training or validation.
    """
    started = time.perf_counter()
    refuse_seen(model, split)
    rows = np.concatenate([split.query, split.database])
    encoded = model.encode(split.dataset.images, rows=rows, cache=cache, progress=progress)
    if encoded.problems:
        raise DataError(f"{len(encoded.problems)} images changed while they were read: run the command again")
    posterior = _posterior(model, split, encoded.features, cache, progress)
    labels = split.dataset.labels[rows]
    q = len(split.query)

    def outputs(part: slice) -> Outputs:
        return Outputs(
            codes=encoded.codes[part],
            features=encoded.logits[part],
            posterior=None if posterior is None else posterior[part],
            labels=labels[part],
        )

    scores = evaluate(
        outputs(slice(0, q)),
        outputs(slice(q, None)),
        bits=model.config.bits,
        class_names=split.dataset.class_names,
        rank_cut=split.rank_cuts[0],
        extra_cuts=split.rank_cuts[1:],
    )
    likeness = _likeness(model, split, encoded, cache, progress)
    result = {
        "method": model.config.method,
        "preset": model.config.preset,
        "bits": model.config.bits,
        "protocol": split.protocol,
        "protocol_options": dict(split.options),
        "split_hash": split.hash,
        "split_seed": split.seed,
        "seed": model.config.seed,
        "backbone": model.config.backbone,
        "size": model.config.image_size,
        "fine_tuned": model.config.fine_tune,
        "model": model.id,
        "trained_on": dict(model.split),
        "dataset": split.dataset.name,
        "source": split.dataset.facts.get("source"),
        "trains_on_database": split.trains_on_database,
        "held_out": list(split.held_out),
        "tie_rule": "exact expectation over all orders of tied items",
        "bytes_per_item": width(model.config.bits),
        **scores.to_dict(),
        "likeness": likeness,
        "class_codes": _class_codes(model),
        "near_copies": _near_copies(split),
        "dropped_queries": split.dropped_queries,
        "skipped_images": len(split.dataset.problems),
    }
    result["seconds"] = round(time.perf_counter() - started, 3)
    return Measured(result, encoded.codes[:q], encoded.codes[q:])


def _likeness(
    model: Measurable, split: RetrievalSplit, encoded: Encoding, cache: Path | None, progress: Progress
) -> dict[str, Any]:
    """Measures of likeness of the codes, and the same of what needs no training, under ``references``."""
    copies = copies_of(split.dataset.images, split.database, seed=split.seed)
    copied = model.encode(copies.images, cache=cache, progress=progress)
    q, features = len(split.query), encoded.features
    truth = truth_of(split, copies.originals[copied.rows], features[:q], features[q:])
    codes = encoded.codes[:q], encoded.codes[q:], copied.codes
    return {
        "copies": len(copied.rows),
        "feature_width": features.shape[1],
        **likeness_of_codes(*codes, truth, bits=model.config.bits),
        "references": references(features[:q], features[q:], copied.features, truth),
    }


def truth_of(
    split: RetrievalSplit, originals: Rows, query: NDArray[np.float32], database: NDArray[np.float32]
) -> Truth:
    """What measures of likeness are held against.

    Args:
        split: its labels and finer labels.
        originals: row in the data set of the original of each copy.
        query: ``(q, width)`` features of its queries; of width 0 where there are none.
        database: ``(n, width)`` of its database.
    """
    labels, finer = split.dataset.labels, split.dataset.finer
    own, others = labels[split.query], labels[split.database]
    order = np.argsort(split.database)
    return Truth(
        query_labels=own,
        database_labels=others,
        query_finer=None if finer is None else finer[split.query],
        database_finer=None if finer is None else finer[split.database],
        originals=order[np.searchsorted(split.database, originals, sorter=order)],
        neighbours=nearest_in_class(query, database, own, others) if query.shape[1] else None,
        rank_cut=split.rank_cuts[0],
    )


def refuse_seen(model: Measurable, split: RetrievalSplit) -> None:
    """Refuse a split whose queries the model has learned from.

    Raises:
        DataError: it has seen one in training or validation.
    """
    seen = split.query[np.isin(as_items(split.keys[split.query]), as_items(model.seen))]
    if len(seen):
        raise DataError(
            f"{len(seen)} query images were seen in training or validation of this model (first: "
            f"{split.dataset.ids[seen[0]]}): mAP would be inflated. Evaluate with the protocol and split "
            "seed it was trained with, or on new images"
        )


def _near_copies(split: RetrievalSplit) -> dict[str, Any] | None:
    """How many queries have a near copy in the training part, or in the database of a split without one."""
    part = "train" if len(split.train) else "database"
    found = across_parts(split.signatures, split.query, split.part(part), split.dataset.ids)
    return found and {"part": part, **found}


def _posterior(
    model: Measurable,
    split: RetrievalSplit,
    features: NDArray[np.float32],
    cache: Path | None,
    progress: Progress,
) -> NDArray[np.float32] | None:
    """Class probabilities of queries and database by a classifier of the split's training and validation images.

    ``None`` where a query or a database image has a class that none of these has, and where the model gives no
    features.
    """
    known, labels = np.concatenate([split.train, split.validation]), split.dataset.labels
    known = known[labels[known].any(axis=1)]
    learned = labels[known].any(axis=0)
    asked = labels[np.concatenate([split.query, split.database])].any(axis=0)
    if not features.shape[1] or not learned.any() or (asked & ~learned).any():
        return None
    from anglehash.models.classifier import PosteriorClassifier  # scikit-learn: a bundle is measured without

    seen = model.encode(split.dataset.images, rows=known, cache=cache, progress=progress)
    classifier = PosteriorClassifier(multi_label=split.dataset.multi_label)
    classifier.fit(seen.features, labels[seen.rows][:, learned], seed=split.seed, progress=progress)
    return classifier.posterior(features)


def _class_codes(model: Measurable) -> dict[str, Any] | None:
    """The Hamming matrix of the class codes, sign of the class vectors: mean, deviation, minimum."""
    if len(model.class_vectors) < 2:
        return None
    return dict(class_code_distances(pack(model.class_vectors))._asdict())
