"""What the cells of one split share: features, labels, and the references that depend on the split alone.

A bed is made once and lies in a folder; the processes that compute cells map its features into memory, so
that they are there once however many processes there are.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anglehash.benchmark.run_file import Run, SplitSpec
from anglehash.benchmark.saved_codes import LEFT_OUT
from anglehash.codes import width
from anglehash.config import TrainConfig
from anglehash.data.copies import copies_of
from anglehash.data.protocols import make_split
from anglehash.data.sources.open import open_dataset
from anglehash.data.split import RetrievalSplit, held_out_columns
from anglehash.errors import DataError
from anglehash.evaluation.evaluate import posterior_references
from anglehash.evaluation.evaluate_model import truth_of
from anglehash.evaluation.likeness_table import Truth, references
from anglehash.files import write_json
from anglehash.models.backbones import make_backbone
from anglehash.models.classifier import PosteriorClassifier
from anglehash.models.device import torch_threads
from anglehash.models.features import extract
from anglehash.progress import Progress
from anglehash.training.fit_head import Labelled

PARTS = ("train", "validation", "query", "database")


@dataclass(frozen=True, slots=True, eq=False)
class SplitFeatures:
    """One split as a backbone sees it.

    Attributes:
        features: ``(n, width)`` float32 of every image of the split, each once.
        labels: ``(n, classes)`` bool.
        parts: positions of each part among them.
        rows: ``(n,)`` row of each image in the data set.
        class_names: a name a column.
        rank_cuts: the protocol's; the first is the headline's.
        learned: columns of the classes that training images have.
        finer: ``(n, finer)`` bool, the finer label; ``None`` where there is none.
        copies: ``(c, width)`` float32, the features of copies of database images.
        originals: ``(c,)`` the place in the database of the original of each.
        neighbours: ``(q, 50)`` places in the database of the nearest of each query inside its class, by features;
            of width 0 where there are none.
    """

    features: NDArray[np.float32]
    labels: NDArray[np.bool_]
    parts: dict[str, NDArray[np.int64]]
    rows: NDArray[np.int64]
    class_names: tuple[str, ...]
    rank_cuts: tuple[int | None, ...]
    learned: NDArray[np.int64]
    finer: NDArray[np.bool_] | None
    copies: NDArray[np.float32]
    originals: NDArray[np.int64]
    neighbours: NDArray[np.int64]

    @property
    def truth(self) -> Truth:
        """What measures of likeness are held against."""
        query, database = (self.parts[name] for name in ("query", "database"))
        return Truth(
            query_labels=self.labels[query],
            database_labels=self.labels[database],
            query_finer=None if self.finer is None else self.finer[query],
            database_finer=None if self.finer is None else self.finer[database],
            originals=self.originals,
            neighbours=self.neighbours if self.neighbours.shape[1] else None,
            rank_cut=self.rank_cuts[0],
        )

    def part(self, name: str) -> Labelled:
        """Features and labels of one part."""
        at = self.parts[name]
        return Labelled(self.features[at], self.labels[at])

    def training_view(self, name: str) -> Labelled:
        """The same with the columns of learned classes only, as a method sees them."""
        part = self.part(name)
        return Labelled(part.features, part.labels[:, self.learned])

    @classmethod
    def load(cls, folder: Path) -> SplitFeatures:
        """Open a bed that :func:`make_split_features` wrote; its features are mapped, not read."""
        facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
        arrays = np.load(folder / "arrays.npz", allow_pickle=False)
        parts = {name: arrays[name] for name in PARTS}
        return cls(
            features=np.load(folder / "features.npy", mmap_mode="r", allow_pickle=False),
            labels=arrays["labels"],
            parts=parts,
            rows=arrays["rows"],
            class_names=tuple(facts["class_names"]),
            rank_cuts=tuple(facts["rank_cuts"]),
            learned=arrays["learned"],
            finer=arrays["finer"] if arrays["finer"].shape[1] else None,
            copies=arrays["copies"],
            originals=arrays["originals"],
            neighbours=arrays["neighbours"],
        )


def split_of(run: Run, split_spec: SplitSpec, cache: Path, progress: Progress) -> RetrievalSplit:
    """The split of a place.

    Raises:
        DataError: it holds a class to be found that no training image has.
    """
    split = make_split(
        open_dataset(run.data, finer_label=run.finer_label or None),
        run.protocol,
        seed=split_spec.split_seed,
        unlabelled=run.unlabelled,
        cache=cache / "keys",
        progress=progress,
        **split_spec.options,
    )
    labels = split.dataset.labels
    expected = labels[split.query].any(axis=0) & ~held_out_columns(split.dataset, split.held_out)
    lacking = np.flatnonzero(expected & ~labels[split.train].any(axis=0))
    if len(lacking):
        raise DataError(
            f"{run.data}, split {split_spec.split_seed}: {len(lacking)} classes of the queries have no training image "
            f"(first: {split.dataset.class_names[lacking[0]]}): give it more images, or leave the class out"
        )
    return split


def split_facts(run: Run, split_spec: SplitSpec, split: RetrievalSplit) -> dict[str, Any]:
    """What a result says of a split, as JSON values; the references come later."""
    base = TrainConfig.from_dict(dict(run.settings))
    return {
        "seed": split_spec.split_seed,
        "options": dict(split_spec.options),
        "hash": split.hash,
        **{part: len(split.part(part)) for part in PARTS if part != "query"},
        "queries": len(split.query),
        "classes": len(split.dataset.class_names),
        "dropped_queries": split.dropped_queries,
        "held_out": list(split.held_out),
        "trains_on_database": split.trains_on_database,
        "rank_cut": split.rank_cuts[0],
        "multi_label": split.dataset.multi_label,
        "skipped_images": len(split.dataset.problems),
        "backbone": base.backbone,
        "size": base.image_size,
    }


def make_split_features(
    split: RetrievalSplit, config: TrainConfig, folder: Path, cache: Path, progress: Progress
) -> SplitFeatures:
    """Compute the features of a split, or take them from the cache, and lay them down in ``folder``."""
    rows = np.unique(np.concatenate([split.part(name) for name in PARTS]))
    backbone = make_backbone(config.backbone, size=config.image_size, threads=config.threads)
    copies = copies_of(split.dataset.images, split.database, seed=split.seed)
    if backbone.pretrained:
        found = extract(split.dataset.images, backbone, rows=rows, cache=cache, progress=progress)
        copied = extract(copies.images, backbone, cache=cache, progress=progress)
        if found.problems or copied.problems:
            raise DataError(
                f"{len(found.problems) + len(copied.problems)} images changed while they were read: run the "
                "command again"
            )
        features, copy_features = found.values, copied.values
    elif config.fine_tune:  # its features would mean nothing
        features, copy_features = (
            np.zeros((n, 0), dtype=np.float32) for n in (len(rows), len(copies.originals))
        )
    else:
        raise DataError(
            f"{config.backbone} has no pretrained weights and so no features to compare methods on: choose another "
            "backbone, or let it learn with fine_tune = true in [settings]"
        )
    labels = split.dataset.labels[rows]
    parts = {name: np.searchsorted(rows, split.part(name)) for name in PARTS}
    learned = np.flatnonzero(labels[parts["train"]].any(axis=0))
    truth = truth_of(split, copies.originals, features[parts["query"]], features[parts["database"]])
    none = np.zeros((len(rows), 0), dtype=np.bool_)
    arrays: dict[str, NDArray[Any]] = {
        "labels": labels,
        "rows": rows,
        "learned": learned,
        "finer": none if split.dataset.finer is None else split.dataset.finer[rows],
        "copies": copy_features,
        "originals": truth.originals,
        "neighbours": np.zeros((len(split.query), 0), np.int64)
        if truth.neighbours is None
        else truth.neighbours,
        **parts,
    }
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "features.npy", features)
    np.savez(folder / "arrays.npz", allow_pickle=False, **arrays)
    facts = {"class_names": list(split.dataset.class_names), "rank_cuts": list(split.rank_cuts)}
    write_json(folder / "facts.json", facts)
    return SplitFeatures.load(folder)


def likeness_references(shared: SplitFeatures) -> dict[str, Any]:
    """The measures of likeness of what needs no training, with what they were taken with."""
    truth, finer = shared.truth, shared.finer is not None
    with torch_threads(1):
        found = references(
            shared.part("query").features, shared.part("database").features, shared.copies, truth
        )
    return {
        "copies": len(truth.originals),
        "finer_queries": int(truth.finer_queries.sum()) if finer else None,
        "feature_width": shared.features.shape[1],
        "references": {
            name: {key: value for key, value in own.items() if key not in LEFT_OUT}
            for name, own in found.items()
        },
    }


def class_references(shared: SplitFeatures, *, multi_label: bool, progress: Progress) -> dict[str, Any]:
    """The trivial rows: what a calibrated linear classifier reaches, by its answer and by its posterior.

    It learns from the training and the validation images. Both are ``None`` where a query or a database image
    has a class that it has not seen, and where the backbone has no weights.
    """
    query, database = shared.part("query"), shared.part("database")
    asked = np.flatnonzero(query.labels.any(axis=0) | database.labels.any(axis=0))
    if not shared.features.shape[1] or not np.isin(asked, shared.learned).all():
        return {"posterior_map": None, "class_id_map": None, "class_id_bytes": None}
    known = [shared.training_view(name) for name in ("train", "validation")]
    features, labels = (np.concatenate(both) for both in zip(*known, strict=True))
    with torch_threads(1):
        classifier = PosteriorClassifier(multi_label=multi_label)
        classifier.fit(features, labels, progress=progress)
        q, d = (classifier.posterior(part.features) for part in (query, database))
    return {
        **posterior_references(
            q, d, query.labels, database.labels, several=multi_label, rank_cut=shared.rank_cuts[0]
        ),
        "class_id_bytes": 1 if q.shape[1] <= 256 else width(q.shape[1].bit_length()),
    }
