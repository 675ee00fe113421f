"""Tune every method by the same budget: cross-validation inside the training part of a protocol.

    python benchmarks/tuning.py cifar10 cifar10-I -o results/tuning/cifar10.json --workers 2

The queries and the rest of the database are never touched. The training part (validation included) is cut
into five folds; a head is trained without a fold, and that fold's images are retrieved among themselves:
a third of them, at random, queries the rest. The score of a setting is the mean mAP over the first ``folds`` of them.

What is tried stands in runs/tuning.toml. A deep method first tries every head of the file with its own
options at their defaults, then each of its own options on the best head, then the best of all with more
epochs; a conventional method has its options only. All deep methods have the same number of trials. The best
trial is chosen.

Finished methods are kept, so a stopped run goes on. ``anglehash benchmark`` reads the file (key ``tuned``).
"""

from __future__ import annotations

import argparse
import json
import os
import time
import tomllib
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from anglehash.config import TrainConfig
from anglehash.data.protocols import make_split
from anglehash.data.sources import open_dataset
from anglehash.errors import AnglehashError
from anglehash.files import cache_dir, write_json
from anglehash.learn.backbones import make_backbone
from anglehash.learn.device import torch_threads
from anglehash.learn.features import extract
from anglehash.learn.methods import is_shallow, settled
from anglehash.learn.on_features import Labelled, learn_head, map_among

HERE = Path(__file__).parent
Settings = dict[str, Any]


def main() -> None:
    """Tune the methods of a file."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("protocol")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--space", type=Path, default=HERE.parent / "runs" / "tuning.toml")
    parser.add_argument("--drop-label", action="append", default=[], help="protocol coco: leave a label out")
    parser.add_argument("--epochs", type=int, help="instead of the file's")
    parser.add_argument("--folds", type=int, help="instead of the file's")
    parser.add_argument("--workers", type=int, default=1)
    arguments = parser.parse_args()
    os.environ.setdefault("ANGLEHASH_DATA", str(HERE.parents[1] / "shared" / "data"))
    run = tomllib.loads(arguments.space.read_text(encoding="utf-8"))
    run |= {"data": arguments.data, "protocol": arguments.protocol, "folds": arguments.folds or run["folds"]}
    run["options"] = {"drop_labels": arguments.drop_label} if arguments.drop_label else {}
    if arguments.epochs:
        run["settings"]["epochs"] = arguments.epochs
    path: Path = arguments.output
    kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"trials": {}}
    trials: dict[str, list[Settings]] = kept["trials"]
    methods = [m for m in run["methods"] if len(trials.get(m["name"], ())) < budget(run, m)]
    print(f"{len(methods)} methods to tune", flush=True)
    with ProcessPoolExecutor(arguments.workers) as pool:
        jobs = {pool.submit(tune, run, m, trials.get(m["name"], [])): m["name"] for m in methods}
        for job in as_completed(jobs):
            trials[jobs[job]] = job.result()
            chosen = {name: choose(tried) for name, tried in sorted(trials.items())}
            facts = {
                key: run.get(key) for key in ("data", "protocol", "options", "bits", "folds", "settings")
            }
            write_json(path, {"run": facts, "chosen": chosen, "trials": dict(sorted(trials.items()))})
            print(jobs[job], chosen[jobs[job]], flush=True)


def budget(run: Settings, method: Settings) -> int:
    """How many trials a method has."""
    own = len(method["options"])
    return own if is_shallow(str(method.get("method", method["name"]))) else len(run["heads"]) + own + 1


def tune(run: Settings, method: Settings, tried: list[Settings]) -> list[Settings]:
    """All trials of a method, those that were tried before included: its settings, and its score."""
    base: Settings = {
        "method": method.get("method", method["name"]),
        "preset": method.get("preset", "default"),
        "loss": method.get("loss", {}),
    }
    heads = [] if is_shallow(str(base["method"])) else run["heads"]
    tried = list(tried)
    while len(tried) < budget(run, method):
        option = len(tried) - len(heads)
        if option < 0:
            settings = {**base, **heads[len(tried)]}
        elif option < len(method["options"]):
            best = choose(tried[: len(heads)])["settings"] if heads else base
            settings = joined(best, method["options"][option])
        else:
            settings = {**choose(tried)["settings"], "epochs": run["settings"]["epochs"] * run["longer"]}
        tried.append(trial(run, settings))
    return tried


def joined(settings: Settings, option: Settings) -> Settings:
    """Settings with an option tried on top: a loss's own option, or under ``head`` one of the config."""
    own = {k: v for k, v in option.items() if k != "head"}
    return {**settings, **option.get("head", {}), "loss": {**settings.get("loss", {}), **own}}


def choose(tried: list[Settings]) -> Settings:
    """The trial with the best score; the first of equals."""
    best = max(tried, key=lambda t: t["score"])
    return {"settings": best["settings"], "validation_map": best["score"], "trials": len(tried)}


def trial(run: Settings, settings: Settings) -> Settings:
    """Mean held-out mAP of one setting."""
    part = training_part(run["data"], run["protocol"], json.dumps(run["options"]))
    order = np.random.default_rng(0).permutation(len(part.labels))
    started, scores = time.perf_counter(), []
    common = run["settings"]
    for fold in range(run["folds"]):
        held = order[fold::5]  # in random order: a table may be sorted by class
        known_rows = np.setdiff1d(order, held)
        config = settled(TrainConfig.from_dict({**common, **settings, "bits": run["bits"], "seed": fold}))
        known, own = (Labelled(part.features[rows], part.labels[rows]) for rows in (known_rows, held))
        third = len(own.labels) // 3
        query = Labelled(own.features[:third], own.labels[:third])
        database = Labelled(own.features[third:], own.labels[third:])
        try:
            with torch_threads(1):
                scores.append(map_among(learn_head(known, config).head, query, database))
        except AnglehashError as error:
            return {"settings": settings, "score": 0.0, "error": str(error)}
    seconds = round(time.perf_counter() - started, 1)
    return {"settings": settings, "score": round(float(np.mean(scores)), 5), "seconds": seconds}


@lru_cache(maxsize=1)
def training_part(data: str, protocol: str, options: str) -> Labelled:
    """Features and labels of a protocol's training and validation images."""
    split = make_split(open_dataset(data), protocol, cache=cache_dir() / "keys", **json.loads(options))
    rows = np.sort(np.concatenate([split.train, split.validation]))
    backbone = make_backbone("efficientnet_lite0", size=128)
    found = extract(split.dataset.images, backbone, rows=rows, cache=cache_dir())
    labels = split.dataset.labels[rows]
    return Labelled(found.values, labels[:, labels.any(axis=0)])


if __name__ == "__main__":
    main()
