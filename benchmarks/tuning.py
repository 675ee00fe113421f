"""Tune every method by the same budget: cross-validation inside the training part of a protocol.

    python benchmarks/tuning.py cifar10 cifar10-I -o results/tuning/cifar10.json --workers 2

The queries and the rest of the database are never touched. The training part (validation included) is cut
into five folds; a head is trained without a fold, and that fold's images are retrieved among themselves:
a third of them, at random, queries the rest. The score of a setting is the mean mAP over the first ``folds`` of them.

What is tried stands in runs/tuning.toml. A deep method first tries every head of the file with its own
options at their defaults, then each of its own options on the best head, then the best of all with more
epochs; a conventional method has its options only. All deep methods have the same number of trials. The best
trial is chosen. All is tried without likeness: a method's own code.

Finished methods are kept, so a stopped run resumes. The file says what was tuned, on which split, and the
settings of each trial: one that differs from what is asked for now is named, and nothing is run;
``--force`` keeps the equal trials and recomputes the others. ``anglehash benchmark`` reads the file (key ``tuned``).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import tomllib
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from anglehash.config import TrainConfig
from anglehash.data.protocols import make_split
from anglehash.data.sources.open import open_dataset
from anglehash.data.split import RetrievalSplit
from anglehash.errors import AnglehashError, ConfigError
from anglehash.files import cache_dir, write_json
from anglehash.methods.catalogue import is_classical, settled
from anglehash.models.backbones import make_backbone
from anglehash.models.device import torch_threads
from anglehash.models.features import extract
from anglehash.training.fit_head import Labelled, learn_head, map_among

HERE = Path(__file__).parent
FOLDS = 5  # pieces; the score is the mean over the first ones
FACTS = ("data", "protocol", "options", "split", "bits", "folds", "settings")
"""What all trials of a file share: trials under other facts cannot be compared with them."""

Settings = dict[str, Any]
Trials = dict[str, list[Settings]]


def main() -> None:
    """Tune the methods of a file."""
    arguments = parsed()
    os.environ.setdefault("ANGLEHASH_DATA", str(HERE.parents[1] / "shared" / "data"))
    try:
        run = run_of(arguments)
        trials, methods = resumed(arguments.output, run, force=arguments.force)
    except AnglehashError as error:
        sys.exit(f"Error: {error}")
    print(f"{len(methods)} methods to tune", flush=True)
    with ProcessPoolExecutor(arguments.workers) as pool:
        jobs = {pool.submit(tune, run, m, trials.get(m["name"], [])): m["name"] for m in methods}
        for job in as_completed(jobs):
            trials[jobs[job]] = job.result()
            chosen = {name: choose(tried) for name, tried in sorted(trials.items())}
            kept = {"run": facts(run), "chosen": chosen, "trials": dict(sorted(trials.items()))}
            write_json(arguments.output, kept)
            print(jobs[job], chosen[jobs[job]], flush=True)


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("protocol")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--space", type=Path, default=HERE.parent / "runs" / "tuning.toml")
    parser.add_argument("--drop-label", action="append", default=[], help="protocol coco: leave a label out")
    parser.add_argument("--epochs", type=int, help="instead of the file's")
    parser.add_argument("--folds", type=int, help="instead of the file's")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--force", action="store_true", help="recompute what differs from the output")
    return parser.parse_args()


def run_of(arguments: argparse.Namespace) -> Settings:
    """The space that is searched, and the facts of this search."""
    run = tomllib.loads(arguments.space.read_text(encoding="utf-8"))
    run |= {"data": arguments.data, "protocol": arguments.protocol, "folds": arguments.folds or run["folds"]}
    run["options"] = {"drop_labels": arguments.drop_label} if arguments.drop_label else {}
    if not 1 <= run["folds"] <= FOLDS:
        raise ConfigError(f"folds must be in 1..{FOLDS}, got {run['folds']}")
    if arguments.epochs:
        run["settings"]["epochs"] = arguments.epochs
    return run | {"split": split_of(run["data"], run["protocol"], json.dumps(run["options"])).hash}


def facts(run: Mapping[str, Any]) -> Settings:
    """What the file says of a search; a file of before may lack the options (none) and the hash of the split."""
    return {key: run.get(key, {} if key == "options" else None) for key in FACTS}


def resumed(path: Path, run: Settings, *, force: bool = False) -> tuple[Trials, list[Settings]]:
    """The finished trials of a file that may be used again, and the methods with some still to do.

    Args:
        path: the file of an earlier search, or of none.
        run: the search that is asked for.
        force: pass over what differs, instead of refusing it: all trials, if a fact does.

    Raises:
        ConfigError: the file cannot be read; or a fact or a trial in it differs from what is asked for.
    """
    kept_run, trials = read(path, run)
    other_facts = changed_facts(kept_run, run)
    other_trials = {m["name"]: changed_trials(run, m, trials) for m in run["methods"]}
    changed = other_facts or next(filter(None, other_trials.values()), "")
    if changed and not force:
        raise ConfigError(
            f"{path}: {changed}: choose another output, or add --force to recompute what differs"
        )
    if other_facts:
        return {}, list(run["methods"])
    if kept_run.get("split") is None:
        print(f"{path} does not say on which split: taken for the same", file=sys.stderr)
    short = [m for m in run["methods"] if len(trials.get(m["name"], ())) < budget(run, m)]
    return trials, [m for m in run["methods"] if m in short or other_trials[m["name"]]]


def read(path: Path, run: Settings) -> tuple[Settings, Trials]:
    """The facts and trials of a file; those of ``run`` and none without a file."""
    if not path.exists():
        return run, {}
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        trials = {str(name): list(tried) for name, tried in kept["trials"].items()}
        if not all({"settings", "score"} <= trial.keys() for tried in trials.values() for trial in tried):
            raise ValueError("a trial lacks its settings or score")
        return dict(kept["run"]), trials
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"{path} is not a file of this command ({error!r}): choose another output"
        ) from error


def changed_facts(kept: Mapping[str, Any], run: Mapping[str, Any]) -> str:
    """The first fact in which a file and a search differ, in words; nothing where none does.

    >>> changed_facts({"data": "digits", "folds": 1}, {"data": "digits", "folds": 2})
    'folds is 1 there, 2 was asked for'
    """
    old, new = facts(kept), facts(run)
    if old["split"] is None:
        new["split"] = None  # not known: nothing to compare
    key = next((key for key in FACTS if old[key] != new[key]), None)
    return f"{key} is {old[key]} there, {new[key]} was asked for" if key else ""


def changed_trials(run: Settings, method: Settings, trials: Mapping[str, Sequence[Settings]]) -> str:
    """The first trial of a method with other settings than the space asks for, in words; nothing where none has."""
    tried, name = list(trials.get(method["name"], ())), method["name"]
    for place, kept in enumerate(tried):
        if place >= budget(run, method):
            return f"{name} has {len(tried)} trials there, {place} were asked for"
        wanted = upcoming(run, method, tried[:place])
        if kept["settings"] != wanted:
            return f"trial {place + 1} of {name} has {kept['settings']} there, {wanted} was asked for"
    return ""


def budget(run: Settings, method: Settings) -> int:
    """How many trials a method has."""
    own = len(method["options"])
    return own if is_classical(str(method.get("method", method["name"]))) else len(run["heads"]) + own + 1


def upcoming(run: Settings, method: Settings, tried: Sequence[Settings]) -> Settings:
    """The settings of a method's next trial, which follow from the trials before it."""
    base: Settings = {
        "method": method.get("method", method["name"]),
        "preset": method.get("preset", "default"),
        "loss": method.get("loss", {}),
    }
    heads = [] if is_classical(str(base["method"])) else run["heads"]
    option = len(tried) - len(heads)
    if option < 0:
        return {**base, **heads[len(tried)]}
    if option < len(method["options"]):
        best = choose(tried[: len(heads)])["settings"] if heads else base
        return joined(best, method["options"][option])
    return {**choose(tried)["settings"], "epochs": run["settings"]["epochs"] * run["longer"]}


def tune(run: Settings, method: Settings, finished: Sequence[Settings]) -> list[Settings]:
    """All trials of a method, its settings and its score each; a finished one of equal settings is kept."""
    tried: list[Settings] = []
    while len(tried) < budget(run, method):
        settings = upcoming(run, method, tried)
        kept = next((old for old in finished if old["settings"] == settings), None)
        tried.append(kept or trial(run, settings))
    return tried


def joined(settings: Settings, option: Settings) -> Settings:
    """Settings with an option tried on top: a loss's own option, or under ``head`` one of the config."""
    own = {k: v for k, v in option.items() if k != "head"}
    return {**settings, **option.get("head", {}), "loss": {**settings.get("loss", {}), **own}}


def choose(tried: Sequence[Settings]) -> Settings:
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
        held = order[fold::FOLDS]  # in random order: a table may be sorted by class
        known_rows = np.setdiff1d(order, held)
        fixed = {"bits": run["bits"], "likeness": 0.0, "seed": fold}
        config = settled(TrainConfig.from_dict({**common, **settings, **fixed}))
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


def split_of(data: str, protocol: str, options: str) -> RetrievalSplit:
    """The split of a protocol; its options as JSON."""
    return make_split(open_dataset(data), protocol, cache=cache_dir() / "keys", **json.loads(options))


@lru_cache(maxsize=1)
def training_part(data: str, protocol: str, options: str) -> Labelled:
    """Features and labels of a protocol's training and validation images."""
    split = split_of(data, protocol, options)
    rows = np.sort(np.concatenate([split.train, split.validation]))
    backbone = make_backbone("efficientnet_lite0", size=128)
    found = extract(split.dataset.images, backbone, rows=rows, cache=cache_dir())
    labels = split.dataset.labels[rows]
    return Labelled(found.values, labels[:, labels.any(axis=0)])


if __name__ == "__main__":
    main()
