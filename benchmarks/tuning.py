"""How the default preset was chosen: cross-validation inside the training part of a protocol.

    python benchmarks/tuning.py cifar10 cifar10-I
    python benchmarks/tuning.py coco coco

The queries and the rest of the database are never touched. The training part (validation included) is cut
into five folds; a head is trained without a fold, and that fold's images are retrieved among themselves:
its first third queries the rest. The score is the mean mAP over the folds.
"""

from __future__ import annotations

import argparse
import os
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from anglehash.codes import pack
from anglehash.config import TrainConfig
from anglehash.data.protocols import make_split
from anglehash.data.sources import open_dataset
from anglehash.evaluation.ranking import average_precision_of_codes
from anglehash.files import cache_dir, write_json
from anglehash.learn.backbones import make_backbone
from anglehash.learn.checkpoint import Checkpoint
from anglehash.learn.features import extract
from anglehash.learn.fitting import settled
from anglehash.learn.head import HashHead
from anglehash.learn.losses import LOSSES
from anglehash.learn.training import FeatureInputs, logits_of, train

HERE = Path(__file__).parent


def main() -> None:
    """Score every variant of the tuning file on one data set."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("protocol")
    parser.add_argument("--run", type=Path, default=HERE.parent / "runs" / "tuning.toml")
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    os.environ.setdefault("ANGLEHASH_DATA", str(HERE.parents[1] / "shared" / "data"))
    run = tomllib.loads(arguments.run.read_text(encoding="utf-8"))
    features, labels = training_part(arguments.data, arguments.protocol)
    scores: dict[str, float] = {}
    for variant in run["variants"]:
        score = cross_validated(features, labels, run, variant)
        scores[variant["name"]] = score
        print(f"{score:.4f}  {variant['name']}", flush=True)
        if arguments.output:
            write_json(
                arguments.output, {"data": arguments.data, "protocol": arguments.protocol, "scores": scores}
            )


def training_part(data: str, protocol: str) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Features and labels of a protocol's training and validation images."""
    split = make_split(open_dataset(data), protocol, cache=cache_dir() / "keys")
    rows = np.sort(np.concatenate([split.train, split.validation]))
    backbone = make_backbone("efficientnet_lite0", size=128)
    found = extract(split.dataset.images, backbone, rows=rows, cache=cache_dir())
    return found.values, split.dataset.labels[rows]


def cross_validated(
    features: NDArray[np.float32], labels: NDArray[np.bool_], run: dict[str, Any], variant: dict[str, Any]
) -> float:
    """Mean held-out mAP of one variant."""
    own = {key: value for key, value in variant.items() if key != "name"}
    loss = {**run["settings"]["loss"], **own.get("loss", {})}
    settings = {**run["settings"], **own, "loss": loss, "bits": run["bits"]}
    order = np.random.default_rng(0).permutation(len(features))
    scores = []
    for fold in range(run["folds"]):
        held = np.isin(np.arange(len(features)), order[fold::5])
        config = settled(TrainConfig.from_dict({**settings, "seed": fold}))
        head = trained(features[~held], labels[~held], config)
        codes, own_labels, queries = pack(logits_of(head, features[held])), labels[held], held.sum() // 3
        scores.append(
            average_precision_of_codes(
                codes[:queries], codes[queries:], own_labels[:queries], own_labels[queries:], bits=config.bits
            ).mean()
        )
    return float(np.mean(scores))


def trained(features: NDArray[np.float32], labels: NDArray[np.bool_], config: TrainConfig) -> HashHead:
    """A head trained on features."""
    torch.set_num_threads(1)
    torch.manual_seed(config.seed)
    head = HashHead(
        features.shape[1],
        config.bits,
        hidden=config.hidden or 0,
        batch_norm=bool(config.batch_norm),
        dropout=config.dropout or 0.0,
    )
    loss = LOSSES[config.method](config.bits, labels.shape[1], **config.loss)
    head.standardise(torch.from_numpy(features))
    train(head, loss, FeatureInputs(features), labels, config, checkpoint=Checkpoint(None, {}))
    return head


if __name__ == "__main__":
    main()
