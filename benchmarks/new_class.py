"""A new class in a gallery: a model that never saw it encodes its images; nothing is retrained or encoded again.

    python benchmarks/new_class.py -o results/new-class.json       # three minutes

The 4,000 lossless CIFAR-10 images, split 0 of ``cifar10-lossless``, frozen EfficientNet-Lite0 at 128 px, one thread.
Each class in turn is kept out of the training part, and a head is trained on the other nine with the default
settings and 64 bits. All 1,000 database images are the gallery. The new class is held against what a head gives that
was trained with all ten, on the same queries and the same gallery: images of the new class one by one, and five
images of it that are asked together (the mean of their logits, each at unit length; ten draws of five from the
training images of the class). Besides, a gallery with only 5 and 20 images of the new class; and the queries of the
nine old classes, before and after the new one came. "With five of it" is a retrained head, with five images of the
new class beside all of the others. The rows of other ``likeness`` are the same heads, with another embedding. Float
cosine needs no training, and 5,120 bytes an image.
"""

from __future__ import annotations

import os

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import mean, stdev
from time import process_time
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from anglehash.codes import pack
from anglehash.config import TrainConfig
from anglehash.data.dataset import Dataset
from anglehash.data.protocols import make_split
from anglehash.data.sources.open import open_dataset
from anglehash.evaluation.likeness import Labels, code_scores, dot, precision, top_of, unit
from anglehash.evaluation.metrics import mean_average_precision
from anglehash.files import cache_dir, write_json
from anglehash.gallery.gallery import Gallery
from anglehash.gallery.store.items import Item
from anglehash.gallery.store.opening import open_writer
from anglehash.gallery.store.writer import Changes
from anglehash.methods.catalogue import settled
from anglehash.methods.likeness import with_likeness
from anglehash.models.backbones import make_backbone
from anglehash.models.features import extract
from anglehash.models.heads.hash_head import logits_of
from anglehash.training.fit_head import Labelled, learn_head

HERE = Path(__file__).parent
BITS, FEW, DRAWS = 64, 5, 10
DIALS = (0.0, 1.0, 3.0)  # likeness
HELD = (5, 20)  # images of the new class in a gallery
Floats = NDArray[np.float32]
Encoder = Callable[[Floats], Floats]
"""Features to logits, ``(n, bits)``, or to features at unit length."""
FLOAT = "float cosine"


class SplitFeatures(NamedTuple):
    """One split: its parts, and its labels as class numbers."""

    train: Labelled
    query: Labelled
    database: Labelled


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, required=True)
    output: Path = parser.parse_args().output
    os.environ.setdefault("ANGLEHASH_DATA", str(HERE.parents[1] / "shared" / "data"))
    torch.set_num_threads(1)
    dataset = open_dataset("cifar10-lossless")
    shared = make_split_features(dataset)
    started = process_time()
    everything = encoders(shared.train)
    seconds = process_time() - started
    found: dict[str, list[dict[str, float]]] = {}
    for held_out in range(shared.train.labels.shape[1]):
        old = shared.train.labels[:, held_out] == 0
        kept = np.delete(shared.train.labels[old], held_out, axis=1)
        without = encoders(Labelled(shared.train.features[old], kept))
        rows = {f"{name}, without the class": encode for name, encode in without.items()}
        five = np.sort(np.concatenate([np.flatnonzero(old), np.flatnonzero(~old)[:FEW]]))
        rows |= {
            f"{name}, with five of it": encode
            for name, encode in encoders(
                Labelled(shared.train.features[five], shared.train.labels[five])
            ).items()
        }
        rows |= {f"{name}, with it": encode for name, encode in everything.items()}
        for name, encode in (rows | {FLOAT: unit}).items():
            found.setdefault(name, []).append(measured(shared, held_out, encode, binary=name != FLOAT))
    result = {
        "bits": BITS,
        "classes": found,
        "cost": cost(dataset, everything["likeness 1"]) | {"retrain_seconds": round(seconds, 1)},
        "torch": torch.__version__,
    }
    write_json(output, result)
    print(table(found))
    print(result["cost"])


def make_split_features(dataset: Dataset) -> SplitFeatures:
    split = make_split(dataset, "cifar10-lossless", seed=0, cache=cache_dir() / "keys")
    features = extract(
        dataset.images, make_backbone("efficientnet_lite0", size=128), cache=cache_dir()
    ).values
    parts = (np.concatenate([split.train, split.validation]), split.query, split.database)
    return SplitFeatures(*(Labelled(features[rows], dataset.labels[rows]) for rows in parts))


def encoders(train: Labelled) -> dict[str, Encoder]:
    """A head of the default settings, embedded with each likeness."""
    base = learn_head(train, settled(TrainConfig(bits=BITS, likeness=0.0))).head

    def encoder(likeness: float) -> Encoder:
        head = with_likeness(base, train.features, train.labels, likeness) if likeness else base
        return lambda features: logits_of(head, features)

    return {f"likeness {likeness:g}": encoder(likeness) for likeness in DIALS}


def measured(shared: SplitFeatures, new: int, encode: Encoder, *, binary: bool) -> dict[str, float]:
    """The measures of one new class; of the queries of the others as well."""
    query, database = encode(shared.query.features), encode(shared.database.features)
    is_new, items_new = shared.query.labels[:, new], shared.database.labels[:, new]
    examples = np.flatnonzero(shared.train.labels[:, new])
    rng = np.random.default_rng(0)
    drawn = [shared.train.features[rng.choice(examples, FEW, replace=False)] for _ in range(DRAWS)]
    together = np.stack([unit(encode(few)).mean(axis=0) for few in drawn])
    wanted = np.zeros((DRAWS, shared.train.labels.shape[1]), dtype=np.bool_)
    wanted[:, new] = True
    new_queries = Labelled(query[is_new], shared.query.labels[is_new])
    everything = Labelled(database, shared.database.labels)
    found = asked(new_queries, everything, binary) | {
        f"{key}, five together": value
        for key, value in asked(Labelled(together, wanted), everything, binary).items()
    }
    for few in HELD:
        rows = np.sort(np.concatenate([np.flatnonzero(~items_new), np.flatnonzero(items_new)[:few]]))
        found[f"map of {few}"] = asked(
            new_queries, Labelled(database[rows], shared.database.labels[rows]), binary
        )["map"]
    others = Labelled(query[~is_new], shared.query.labels[~is_new])
    before = Labelled(database[~items_new], shared.database.labels[~items_new])
    found["old classes, before"] = asked(others, before, binary)["map"]
    found["old classes, after"] = asked(others, everything, binary)["map"]
    return {key: round(value, 4) for key, value in found.items()}


def asked(query: Labelled, database: Labelled, binary: bool) -> dict[str, float]:
    """Of some queries: mAP over all ranks and P@10, exact under ties."""
    scores = _scores(query.features, database.features, binary)
    relevant: Labels = query.labels.astype(np.float32) @ database.labels.T.astype(np.float32) > 0
    ten = precision(scores, top_of(scores), query.labels, database.labels)
    return {"map": mean_average_precision(-scores, relevant), "p@10": float(ten.mean())}


def _scores(query: Floats, database: Floats, binary: bool) -> NDArray[Any]:
    if binary:
        return np.concatenate(list(code_scores(pack(query), pack(database))))
    return dot(unit(query), unit(database))


def cost(dataset: Dataset, encode: Encoder) -> dict[str, float]:
    """CPU milliseconds an image: to read and encode it, and to add its code to a gallery of 100,000 codes."""
    backbone = make_backbone("efficientnet_lite0", size=128)
    extract(dataset.images, backbone, rows=np.arange(8))
    rows = np.arange(200)
    began = process_time()
    codes = pack(encode(extract(dataset.images, backbone, rows=rows).values))
    encoding = process_time() - began
    others = pack(np.random.default_rng(0).normal(size=(100_000, BITS)).astype(np.float32))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "gallery"
        ids = [f"old/{i}" for i in range(len(others))]
        Gallery.create(path, codes=others, ids=ids, labels=[()] * len(ids), bits=BITS, model_id="-").close()
        began = process_time()
        with open_writer(path) as writer:
            writer.commit(
                Changes(add=[Item(f"new/{i}", code.tobytes(), ("new",)) for i, code in enumerate(codes)])
            )
        adding = process_time() - began
    return {
        "encode_ms": round(1e3 * encoding / len(rows), 2),
        "add_ms": round(1e3 * adding / len(rows), 3),
        "images": len(rows),
        "gallery": len(others),
    }


def table(found: dict[str, list[dict[str, float]]]) -> str:
    """Markdown: means over the ten classes, ± their standard deviation for the first."""
    keys = list(next(iter(found.values()))[0])
    lines = [["", *keys], ["---"] * (len(keys) + 1)]
    for name, rows in found.items():
        means = [f"{mean(row[key] for row in rows):.3f}".lstrip("0") for key in keys]
        lines.append([name, f"{means[0]} ± {stdev(row['map'] for row in rows):.3f}", *means[1:]])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    main()
