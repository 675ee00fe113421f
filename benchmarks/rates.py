"""The learning rate when the backbone learns too: validation mAP of methods at some rates, on one seed.

    python benchmarks/rates.py runs/fine-tuned.toml csq=.003 csq=.01 -o results/rates/fine-tuned.json

Settings that were chosen on frozen features were chosen for a head alone and for more epochs. A trial is the cell
of the run file with its first seed and another rate: it learns on the training part, and is judged by the mAP of
validation images that ask for training images. The queries and the rest of the database are not touched. A trial that
the file has is not repeated. About 5 minutes each.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from anglehash.benchmark.run_file import Cell, Run
from anglehash.benchmark.split_features import split_of
from anglehash.data.split import RetrievalSplit
from anglehash.files import cache_dir, write_json
from anglehash.progress import silent
from anglehash.training.fit import fit
from anglehash.training.fit_head import map_of_logits

HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("trials", nargs="+", metavar="VARIANT=RATE")
    parser.add_argument("-o", "--output", type=Path, required=True)
    given = parser.parse_args()
    os.environ.setdefault("ANGLEHASH_DATA", str(HERE.parents[1] / "shared" / "data"))
    run = Run.from_toml(given.run)
    place = run.split_specs()[0]
    cells = {cell.variant: cell for cell in run.cells(place) if cell.seed == run.seeds[0]}
    split = split_of(run, place, cache_dir(), silent)
    found: dict[str, Any] = {"run": given.run.name, "split": split.hash, "seed": run.seeds[0], "trials": {}}
    if given.output.exists():
        found = json.loads(given.output.read_text(encoding="utf-8"))
    for trial in given.trials:
        name, _, rate = trial.partition("=")
        own: dict[str, float] = found["trials"].setdefault(name, {})
        if f"{float(rate):g}" not in own:
            own[f"{float(rate):g}"] = round(validation_map(cells[name], split, float(rate)), 5)
            found["chosen"] = {variant: best(rates) for variant, rates in found["trials"].items()}
            write_json(given.output, found)
        print(trial, own[f"{float(rate):g}"], flush=True)


def validation_map(cell: Cell, split: RetrievalSplit, rate: float) -> float:
    """Train a cell at a rate, and let its validation images ask for its training images."""
    model = fit(split, replace(cell.config, learning_rate=rate), cache=cache_dir())
    rows = np.concatenate([split.validation, split.train])
    found, labels = model.encode(split.dataset.images, rows=rows), split.dataset.labels[rows]
    n = len(split.validation)
    return float(map_of_logits(found.logits[:n], found.logits[n:], labels[:n], labels[n:]))


def best(rates: Mapping[str, float]) -> float:
    """The rate with the best score.

    >>> best({"0.001": 0.6, "0.003": 0.7})
    0.003
    """
    return float(max(rates, key=lambda rate: rates[rate]))


if __name__ == "__main__":
    main()
