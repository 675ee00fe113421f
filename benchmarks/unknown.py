"""How well the nearest item's distance tells pictures of unseen classes from those of seen ones.

    python benchmarks/unknown.py -o results/unknown.json       # five minutes of CPU

Protocol ``unseen`` keeps classes out of training. Of the images of the seen classes a tenth are validation, which the
level comes from, and another tenth are known queries; the rest are learned from, and are the gallery. The protocol's
queries are the unknown ones. A score says how strange a query is:

- codes: the distance in bits to the nearest item (``andsh`` with the default likeness, and without);
- float cosine: one less the largest cosine to an item's features, which are those of a frozen EfficientNet-Lite0 at
  128 px;
- maximum softmax: one less the largest probability of the calibrated classifier that results are held against.

AUROC: how often an unknown query is stranger than a known one, ties half. Rejected: the shares of queries beyond the
level: of those known ones whose nearest item is right, of which that should be 5 %, of all known ones, and of the
unknown ones. Means over the draws. No setting was chosen on these.
"""

from __future__ import annotations

import os

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import process_time
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata

from anglehash.codes import Codes, hamming, pack
from anglehash.config import TrainConfig
from anglehash.data.dataset import Dataset
from anglehash.data.protocols import make_split
from anglehash.data.sources.open import open_dataset
from anglehash.files import cache_dir, write_json
from anglehash.methods.catalogue import settled
from anglehash.models.backbones import make_backbone
from anglehash.models.classifier import PosteriorClassifier
from anglehash.models.features import extract
from anglehash.models.heads.hash_head import logits_of
from anglehash.training.fit_head import Labelled, learn_head
from anglehash.training.unknown_level import calibrated, right_distances

HERE = Path(__file__).parent
SETS = {"cifar10-lossless": 5, "cifar10": 2}
"""Draws of classes of each set."""
MOST = 3_000
"""Images that are learned from, at most, and of each kind of query at most a tenth of it."""
CODES = {
    "codes, 64 bits": (64, 1.0),
    "codes, 128 bits": (128, 1.0),
    "codes without likeness, 64 bits": (64, 0.0),
}
FLOAT, SOFTMAX = "float cosine", "maximum softmax"


class Parts(NamedTuple):
    """Features and labels of what is learned from, of validation, and of known and unknown queries."""

    train: Labelled
    validation: Labelled
    known: Labelled
    unknown: Labelled


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, required=True)
    output: Path = parser.parse_args().output
    os.environ.setdefault("ANGLEHASH_DATA", str(HERE.parents[1] / "shared" / "data"))
    torch.set_num_threads(1)
    cells = []
    for name, draws in SETS.items():
        dataset = open_dataset(name)
        for draw in range(draws):
            cells.append({"data": name, "draw": draw, **measured(parts_of(dataset, draw), draw)})
            print(cells[-1])
    facts = {"torch": torch.__version__, "cpu_seconds": round(process_time())}
    write_json(output, {**facts, "cells": cells})
    print(table(cells))


def parts_of(dataset: Dataset, draw: int) -> Parts:
    """The parts of one draw of classes, each in an order of its own."""
    split = make_split(dataset, "unseen", draw=draw, cache=cache_dir() / "keys")
    rng = np.random.default_rng(draw)
    seen = rng.permutation(np.union1d(split.train, split.validation))
    tenth = min(len(seen), MOST) // 10
    rows = (
        seen[2 * tenth :][:MOST],
        seen[:tenth],
        seen[tenth : 2 * tenth],
        rng.permutation(split.query)[:tenth],
    )
    backbone = make_backbone("efficientnet_lite0", size=128)
    labels, images = split.dataset.labels, split.dataset.images
    learned = labels[seen].any(axis=0)
    return Parts._make(
        Labelled(extract(images, backbone, rows=own, cache=cache_dir()).values, labels[own][:, learned])
        for own in rows
    )


def measured(parts: Parts, seed: int) -> dict[str, Any]:
    """The AUROC of every score, and what the level of each kind of code rejects."""
    sizes = {name: len(part.labels) for name, part in parts._asdict().items()}
    scores: dict[str, float] = {}
    levels: dict[str, Any] = {}
    for name, (bits, likeness) in CODES.items():
        config = settled(TrainConfig(bits=bits, likeness=likeness, seed=seed))
        head = learn_head(parts.train, config, held=parts.validation).head
        items = pack(logits_of(head, parts.train.features))
        queries = [pack(logits_of(head, part.features)) for part in parts[2:]]
        known, unknown = (nearest_bits(own, items) for own in queries)
        right = right_distances(queries[0], parts.known.labels, items, parts.train.labels)
        level = calibrated(head, parts.train, parts.validation)
        assert level is not None, "most validation images find what is right"
        scores[name] = auroc(known, unknown)
        far: dict[str, NDArray[Any]] = {"right": right, "known": known, "unknown": unknown}
        rejected = {kind: share(distances > level.bits) for kind, distances in far.items()}
        levels[name] = {**level.facts(), "rejected": rejected}
    features = unit(parts.train.features)
    scores[FLOAT] = auroc(*(1 - (unit(p.features) @ features.T).max(axis=1) for p in parts[2:]))
    classifier = PosteriorClassifier(multi_label=False)
    classifier.fit(parts.train.features, parts.train.labels, seed=seed)
    scores[SOFTMAX] = auroc(*(1 - classifier.posterior(p.features).max(axis=1) for p in parts[2:]))
    return {"images": sizes, "auroc": scores, "levels": levels}


def auroc(known: NDArray[Any], unknown: NDArray[Any]) -> float:
    """How often an unknown query is stranger than a known one, ties half.

    Of four pairs two are in order, and one is tied.

    >>> auroc(np.array([1, 3]), np.array([3, 2]))
    0.625
    """
    ranks = rankdata(np.concatenate([known, unknown]))[len(known) :]
    pairs = len(known) * len(unknown)
    return round(float(ranks.sum() - len(unknown) * (len(unknown) + 1) / 2) / pairs, 4)


def nearest_bits(queries: Codes, items: Codes) -> NDArray[np.int32]:
    return np.concatenate([hamming(part, items).min(axis=1) for part in np.array_split(queries, 10)])


def unit(features: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(features / np.linalg.norm(features, axis=1, keepdims=True))


def share(values: NDArray[np.bool_]) -> float:
    return round(float(values.mean()), 4)


def table(cells: Sequence[Mapping[str, Any]]) -> str:
    """Markdown: a row a score; for each set the mean AUROC, and of codes what the level rejects."""
    sets = list(dict.fromkeys(cell["data"] for cell in cells))
    head = [
        "",
        *(
            f"{name}: {what}"
            for name in sets
            for what in ("AUROC", "level, bits", "rejected: right / known / unknown")
        ),
    ]
    rows = [head, ["---"] * len(head)]
    for score in cells[0]["auroc"]:
        row = [score]
        for name in sets:
            own = [cell for cell in cells if cell["data"] == name]
            row.append(f"{np.mean([cell['auroc'][score] for cell in own]):.3f}")
            levels = [cell["levels"][score] for cell in own if score in cell["levels"]]
            bits = sorted({level["level"] for level in levels})
            row.append(f"{bits[0]} to {bits[-1]}" if len(bits) > 1 else "".join(map(str, bits)))
            rejected = [level["rejected"] for level in levels]
            means = [np.mean([one[kind] for one in rejected]) for kind in (rejected or [{}])[0]]
            row.append(" / ".join(f"{100 * mean:.0f} %" for mean in means))
        rows.append(row)
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


if __name__ == "__main__":
    main()
