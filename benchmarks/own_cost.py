"""What the default method costs to train on cached features, beside another loss with its default settings.

    python benchmarks/own_cost.py -o results/own-cost.json       # 10 minutes

CPU seconds, one thread, 64 bits, three rounds in which the methods alternate; a figure is the median over them. The
images, features of a frozen EfficientNet-Lite0 at 128 px: 5,000 and 50,000 of CIFAR-10's training images, one label
each; 18,000 of Tiny-ImageNet's, 200 classes; 5,000 of COCO's, several labels each. All learn with their default
settings (``anglehash train --method NAME``). Nothing is retrieved: this is about time alone.
"""

from __future__ import annotations

import os

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any

import numpy as np
import torch

from anglehash.config import TrainConfig
from anglehash.data.sources.open import open_dataset
from anglehash.files import cache_dir, write_json
from anglehash.methods.catalogue import settled
from anglehash.models.backbones import make_backbone
from anglehash.models.features import extract
from anglehash.training.fit_head import Labelled, learn_head

HERE = Path(__file__).parent
METHODS = ("andsh", "csq")
SETS = (("cifar10", 5_000), ("cifar10", 50_000), ("tiny-imagenet", 18_000), ("coco", 5_000))
BITS, ROUNDS = 64, 3


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, required=True)
    output: Path = parser.parse_args().output
    os.environ.setdefault("ANGLEHASH_DATA", str(HERE.parents[1] / "shared" / "data"))
    torch.set_num_threads(1)
    cells = [measured(name, images) for name, images in SETS]
    write_json(output, {"bits": BITS, "rounds": ROUNDS, "torch": torch.__version__, "cells": cells})
    print(table(cells))


def measured(name: str, images: int) -> dict[str, Any]:
    """All methods on the features of one set."""
    train = labelled(name, images)
    facts = {"data": name, "images": images, "classes": train.labels.shape[1]}

    def learn(method: str) -> None:
        learn_head(train, settled(TrainConfig(method=method, bits=BITS, seed=0)))

    return facts | alternating(METHODS, learn)


def alternating(methods: Sequence[str], learn: Callable[[str], None]) -> dict[str, Any]:
    """CPU seconds of every method, medians over the rounds; the ratio is that of the first one's to each other's."""
    rounds = [{method: seconds(learn, method) for method in methods} for _ in range(ROUNDS)]
    ours, *losses = methods
    found = {method: median(one[method] for one in rounds) for method in methods}
    return {
        "cpu_seconds": {method: round(found[method], 1) for method in methods},
        "ratio": {loss: round(found[ours] / found[loss], 2) for loss in losses},
        "load_average": round(os.getloadavg()[0], 1),
    }


def seconds(learn: Callable[[str], None], method: str) -> float:
    began = process_time()
    learn(method)
    return process_time() - began


def table(cells: Sequence[Mapping[str, Any]]) -> str:
    """Markdown: a row a set, the CPU seconds of each method, and how many times those of a loss ours takes."""
    names = list(dict.fromkeys(name for cell in cells for name in cell["cpu_seconds"]))
    rows = [["images", *(f"`{name}`" for name in names), "ratio"], ["---"] * (len(names) + 2)]
    for cell in cells:
        found = [cell["cpu_seconds"].get(name) for name in names]
        ratio = ", ".join(f"{value:.2f} {name}" for name, value in cell["ratio"].items())
        reported = ["" if value is None else f"{value:.1f}" for value in found]
        rows.append([f"{cell['data']}, {cell['images']:,}", *reported, ratio])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def labelled(name: str, images: int) -> Labelled:
    """That number of images, drawn with seed 0: training images, where there are enough of them."""
    source = open_dataset(name)
    inside = np.flatnonzero(np.asarray(source.parts) == "train")
    chosen = inside if len(inside) >= images else np.arange(len(source.labels))
    rows = np.sort(np.random.default_rng(0).permutation(chosen)[:images])
    assert len(rows) == images, f"{name} has {len(rows)} images"
    backbone = make_backbone("efficientnet_lite0", size=128)
    labels = source.labels[rows]
    features = extract(source.images, backbone, rows=rows, cache=cache_dir()).values
    return Labelled(features, labels[:, labels.any(axis=0)])


if __name__ == "__main__":
    main()
