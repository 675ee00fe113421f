"""The figures of docs/results.md: methods x settings x bits x seeds on one protocol, from one TOML file.

    python benchmarks/figures.py runs/ablation-cifar10.toml

A cell is one training and one evaluation. Finished cells are kept in results/NAME.json, so a stopped run
goes on where it was; a cell whose settings have changed is computed again. Frozen features come from the
cache, and the calibrated classifier, which depends on the split alone, is fitted once a split.

The settings of a run file:

    data, protocol, [options]     what is learned and judged, and the protocol's own options
    split_seeds, seeds, bits      lists; the headline is the first split seed
    other_seeds                   training seeds on the other splits, which tell the spread over draws
    [settings]                    settings of every cell (TrainConfig)
    [[variants]]                  name, and the settings in which it differs
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import sys
import time
import tomllib
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from anglehash.config import TrainConfig
from anglehash.data.protocols import make_split
from anglehash.data.sources import open_dataset
from anglehash.data.split import RetrievalSplit
from anglehash.files import cache_dir, sha256_json, write_json
from anglehash.learn.fitting import fit, settled
from anglehash.learn.measure import measure
from anglehash.learn.model import Model

HERE = Path(__file__).parent
KEPT = (
    "map", "map_convention", "map_features", "map_at", "ceiling", "class_id_map", "unique_codes", "class_codes",
    "queries", "database", "dropped_queries", "split_hash", "precision_radius_2", "ndcg", "acg", "wap",
)  # fmt: skip


def main() -> None:
    """Compute every cell of a run file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="the run file (TOML)")
    parser.add_argument("-o", "--output", type=Path, help="default: results/NAME.json")
    arguments = parser.parse_args()
    os.environ.setdefault("ANGLEHASH_DATA", str(HERE.parents[1] / "shared" / "data"))
    run = tomllib.loads(arguments.run.read_text(encoding="utf-8"))
    output = arguments.output or HERE.parent / "results" / f"{arguments.run.stem}.json"
    done = json.loads(output.read_text(encoding="utf-8"))["cells"] if output.exists() else []
    kept = {cell["hash"]: cell for cell in done}
    cells: list[dict[str, Any]] = []
    total = sum(len(list(cells_of(run, split_seed))) for split_seed in run["split_seeds"])
    for split_seed in run["split_seeds"]:
        todo = list(cells_of(run, split_seed))
        fresh = [cell for cell in todo if cell["hash"] not in kept]
        bench = Bench(run, split_seed) if fresh else None
        for cell in todo:
            if cell["hash"] in kept:
                cells.append(kept[cell["hash"]])
                continue
            assert bench is not None
            cells.append(bench.compute(cell))
            say(cells[-1], len(cells), total)
            write_json(output, {"run": run, "circumstances": circumstances(), "cells": cells})


def cells_of(run: dict[str, Any], split_seed: int) -> Iterator[dict[str, Any]]:
    """The cells of a run on one split, each with a hash of all it depends on."""
    first = split_seed == run["split_seeds"][0]
    seeds = run["seeds"] if first else run.get("other_seeds", run["seeds"])
    for variant in run["variants"]:
        for bits in variant.get("bits", run["bits"]):
            for seed in seeds:
                own = {k: v for k, v in variant.items() if k not in ("name", "bits")}
                base = run.get("settings", {})
                loss = {**base.get("loss", {}), **own.get("loss", {})}
                config = settled(
                    TrainConfig.from_dict({**base, **own, "loss": loss, "bits": bits, "seed": seed})
                )
                yield {
                    "variant": variant["name"],
                    "bits": bits,
                    "seed": seed,
                    "split_seed": split_seed,
                    "hash": identity(run, config, split_seed),
                    "config": config.to_dict(),
                }


def identity(run: dict[str, Any], config: TrainConfig, split_seed: int) -> str:
    """What a cell depends on, as a hash; settings at their default do not count, so new ones change nothing."""
    usual = TrainConfig().to_dict()
    settings = {name: value for name, value in config.to_dict().items() if value != usual[name]}
    place = {"data": run["data"], "protocol": run["protocol"], "options": run.get("options", {})}
    return sha256_json({"config": settings, "split_seed": split_seed, **place})[:16]


class Bench:
    """One split, and what all its cells share."""

    def __init__(self, run: dict[str, Any], split_seed: int) -> None:
        options = run.get("options", {})
        self._split: RetrievalSplit = make_split(
            open_dataset(run["data"]), run["protocol"], seed=split_seed, **options
        )
        self._frozen: Model | None = None

    def compute(self, cell: dict[str, Any]) -> dict[str, Any]:
        """Train and evaluate one cell."""
        started = time.perf_counter()
        config = TrainConfig.from_dict(cell["config"])
        model = fit(self._split, config, cache=cache_dir(), like=self._frozen)
        if not config.fine_tune and self._frozen is None:
            self._frozen = model
        trained = time.perf_counter()
        cache = None if config.fine_tune else cache_dir()
        result = measure(model, self._split, cache=cache).result
        return {
            **cell,
            **{key: result[key] for key in KEPT},
            "validation_map": model.log[-1].get("validation_map"),
            "train_seconds": round(trained - started, 2),
            "evaluate_seconds": round(time.perf_counter() - trained, 2),
        }


def say(cell: dict[str, Any], done: int, total: int) -> None:
    """One line of progress."""
    print(
        f"{done}/{total} {cell['variant']}, {cell['bits']} bits, seed {cell['seed']}, "
        f"split {cell['split_seed']}: mAP {cell['map']:.4f}, features {cell['map_features']:.4f}, "
        f"{cell['train_seconds']} s",
        file=sys.stderr,
        flush=True,
    )


def circumstances() -> dict[str, Any]:
    """What a figure depends on besides its settings."""
    libraries = ("anglehash", "torch", "numpy", "onnxruntime", "pillow")
    return {
        "python": platform.python_version(),
        "versions": {name: version(name) for name in libraries},
        "processor": platform.machine(),
        "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


if __name__ == "__main__":
    main()
