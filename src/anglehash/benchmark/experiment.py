"""One cell: train one method, and measure its codes."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from anglehash.benchmark.baselines import BASELINES, baseline_average_precision
from anglehash.benchmark.run_file import Cell
from anglehash.benchmark.saved_codes import ExperimentCodes
from anglehash.benchmark.split_features import SplitFeatures
from anglehash.codes import pack
from anglehash.data.copies import copies_of
from anglehash.data.split import RetrievalSplit
from anglehash.errors import ConfigError
from anglehash.evaluation.evaluate import Outputs, evaluate
from anglehash.evaluation.ranking import some_answers
from anglehash.models.device import torch_threads
from anglehash.training.fit import fit
from anglehash.training.fit_head import learn_head, map_of_logits

KEPT = (
    "map", "map_at", "map_convention", "map_logits", "map_asymmetric", "precision_radius_2", "unique_codes",
    "precision_at", "ndcg", "acg", "wap", "queries_without_relevant",
)  # fmt: skip
DETAILS = ("precision_recall", "recall_at", "per_class")  # of the first seed: they are long


class Measures(NamedTuple):
    """How much of a cell is kept.

    Attributes:
        map_logits: also rank by the real-valued logits.
        map_asymmetric: also rank by those of the queries alone.
        details: keep curves and classes.
        queries: number of queries whose answers are kept.
        answers: number of answers to each.
        likeness: take the measures of likeness.
        codes: folder in which the codes are kept; nowhere by default.
    """

    map_logits: bool = True
    map_asymmetric: bool = False
    details: bool = True
    queries: int = 0
    answers: int = 0
    likeness: bool = True
    codes: Path | None = None


class _Logits(NamedTuple):
    validation: NDArray[np.float32]
    train: NDArray[np.float32]
    query: NDArray[np.float32]
    database: NDArray[np.float32]
    copies: NDArray[np.float32]

    @classmethod
    def of(cls, shared: SplitFeatures, logits: NDArray[np.float32], copies: NDArray[np.float32]) -> _Logits:
        """The logits of all images of a bed, by part, and of the copies."""
        return cls(**{name: logits[at] for name, at in shared.parts.items()}, copies=copies)


class _Clock:
    """Time since it was made."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def seconds(self) -> dict[str, float]:
        """On the wall, and of this process on its CPU."""
        return {
            "train_seconds": time.perf_counter() - self._wall,
            "train_cpu_seconds": time.process_time() - self._cpu,
        }


def compute(cell: Cell, shared: SplitFeatures, wanted: Measures) -> dict[str, Any]:
    """Train and measure one cell on cached features."""
    with torch_threads(1):
        if cell.kind == "baseline":
            return _baseline(cell, shared)
        clock = _Clock()
        learned = learn_head(shared.training_view("train"), cell.config)
        cost = {**clock.seconds(), "epochs": len(learned.log)}
        return _measured(cell, shared, wanted, _logits(learned.head, shared), cost)


def compute_fine_tuned(
    cell: Cell, shared: SplitFeatures, split: RetrievalSplit, cache: Path, wanted: Measures
) -> dict[str, Any]:
    """Train and measure one cell whose backbone learns too; ``bed`` lends labels and parts."""
    clock = _Clock()
    model = fit(split, cell.config, cache=cache)
    cost = {**clock.seconds(), "epochs": len(model.log)}
    encoded = model.encode(split.dataset.images, rows=shared.rows)
    copies = model.encode(copies_of(split.dataset.images, split.database, seed=split.seed).images)
    with torch_threads(1):
        logits = _Logits.of(shared, encoded.logits, copies.logits)
        return _measured(cell, shared, wanted, logits, cost)


@torch.inference_mode()
def _logits(head: nn.Module, shared: SplitFeatures, *, block: int = 4096) -> _Logits:
    """Logits in float32, fast: a bit whose logit is within rounding of 0 may differ from a saved model's."""
    blocks = (shared.features[i : i + block].copy() for i in range(0, len(shared.rows), block))
    logits = np.concatenate([head(torch.from_numpy(part)).numpy() for part in blocks])
    return _Logits.of(shared, logits, head(torch.from_numpy(shared.copies)).numpy())


def _measured(
    cell: Cell, shared: SplitFeatures, wanted: Measures, logits: _Logits, cost: Mapping[str, Any]
) -> dict[str, Any]:
    started = time.perf_counter()
    config = cell.config
    labels = {name: shared.labels[at] for name, at in shared.parts.items()}
    ranks_features = wanted.map_logits or wanted.map_asymmetric
    outputs = [
        Outputs(codes=pack(values), features=values if ranks_features else None, labels=labels[name])
        for name, values in (("query", logits.query), ("database", logits.database))
    ]
    result = evaluate(
        *outputs,
        bits=config.bits,
        class_names=shared.class_names,
        rank_cut=shared.rank_cuts[0],
        extra_cuts=shared.rank_cuts[1:],
        map_logits=wanted.map_logits,
        map_asymmetric=wanted.map_asymmetric,
    ).to_dict()
    checked = len(logits.validation) > 0
    codes = ExperimentCodes(outputs[0].codes, outputs[1].codes, pack(logits.copies), config.bits)
    if wanted.codes:
        codes.save(wanted.codes / f"{cell.hash}.npz")
    return rounded_table(
        {
            **_names(cell),
            "bytes": cell.bytes_asked,
            **{key: result[key] for key in (*KEPT, *(DETAILS if wanted.details else ()))},
            "validation_map": map_of_logits(
                logits.validation, logits.train, labels["validation"], labels["train"]
            )
            if checked
            else None,
            **({"likeness": codes.likeness(shared.truth)} if wanted.likeness else {}),
            **_answers(shared, outputs[0], outputs[1], wanted),
            **cost,
            "evaluate_seconds": time.perf_counter() - started,
        }
    )


def _answers(shared: SplitFeatures, query: Outputs, database: Outputs, wanted: Measures) -> dict[str, Any]:
    """Some queries, evenly spaced, and the rows that their codes find, nearest first."""
    if not wanted.queries:
        return {}
    some = some_answers(query.codes, database.codes, queries=wanted.queries, answers=wanted.answers)
    return {
        "answers": {
            "queries": shared.rows[shared.parts["query"][some.queries]].tolist(),
            "rows": shared.rows[shared.parts["database"][some.nearest]].tolist(),
            "distances": some.distances.tolist(),
        }
    }


def _baseline(cell: Cell, shared: SplitFeatures) -> dict[str, Any]:
    query, database = shared.part("query"), shared.part("database")
    clock = _Clock()
    baseline = BASELINES[cell.method](
        shared.part("train").features,
        query.features,
        database.features,
        bytes_per_item=cell.bytes_asked,
        seed=cell.seed,
    )
    cost = clock.seconds()
    precision = baseline_average_precision(baseline, query.labels, database.labels, shared.rank_cuts)
    if not np.isfinite(precision).all():
        raise ConfigError(f"{cell.method} gives NaN scores on these features")
    means = precision.mean(axis=0).tolist()
    return rounded_table(
        {
            **_names(cell),
            "bytes": baseline.bytes_per_item,
            "map": means[0],
            "map_at": {str(k or "all"): value for k, value in zip(shared.rank_cuts, means, strict=True)},
            **cost,
        }
    )


def _names(cell: Cell) -> dict[str, Any]:
    return {
        "variant": cell.variant,
        "method": cell.method,
        "kind": cell.kind,
        "bits": cell.bits,
        "seed": cell.seed,
        "split_seed": cell.split_spec.split_seed,
        **({"draw": cell.split_spec.options["draw"]} if "draw" in cell.split_spec.options else {}),
        "hash": cell.hash,
    }


def rounded_table(table: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers with six significant digits: what is behind them is noise."""
    return {key: _rounded(value) for key, value in table.items()}


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, Mapping):
        return rounded_table(value)
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return value
