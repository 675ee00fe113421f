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

from anglehash.codes import pack
from anglehash.data.copies import copies_of
from anglehash.data.split import RetrievalSplit
from anglehash.errors import ConfigError
from anglehash.evaluation.protocol import Outputs, evaluate
from anglehash.evaluation.ranking import some_answers
from anglehash.evaluation.rivals import RIVALS, rival_average_precision
from anglehash.learn.bench.bed import Bed
from anglehash.learn.bench.codes import CellCodes
from anglehash.learn.bench.run import Cell
from anglehash.learn.device import torch_threads
from anglehash.learn.fitting import fit
from anglehash.learn.on_features import learn_head, map_of_logits

KEPT = (
    "map", "map_at", "map_convention", "map_features", "map_asymmetric", "precision_radius_2", "unique_codes",
    "precision_at", "ndcg", "acg", "wap", "queries_without_relevant",
)  # fmt: skip
DETAILS = ("precision_recall", "recall_at", "per_class")  # of the first seed: they are long


class Wanted(NamedTuple):
    """How much of a cell is kept.

    Attributes:
        map_features: also rank by the real-valued logits.
        map_asymmetric: also rank by those of the queries alone.
        details: keep curves and classes.
        queries: so many queries show what they retrieve.
        answers: so many images each.
        likeness: take the measures of likeness.
        codes: folder in which the codes are kept; nowhere by default.
    """

    map_features: bool = True
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
    def of(cls, bed: Bed, logits: NDArray[np.float32], copies: NDArray[np.float32]) -> _Logits:
        """The logits of all images of a bed, by part, and of the copies."""
        return cls(**{name: logits[at] for name, at in bed.parts.items()}, copies=copies)


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


def compute(cell: Cell, bed: Bed, wanted: Wanted) -> dict[str, Any]:
    """Train and measure one cell on cached features."""
    with torch_threads(1):
        if cell.kind == "rival":
            return _rival(cell, bed)
        clock = _Clock()
        chooses = cell.config.likeness == "auto"
        learned = learn_head(
            bed.lesson("train"), cell.config, held=bed.lesson("validation") if chooses else None
        )
        cost = {**clock.seconds(), "epochs": len(learned.log)}
        if chooses:
            cost["likeness_chosen"] = learned.log[-1]["likeness"]
        return _measured(cell, bed, wanted, _logits(learned.head, bed), cost)


def compute_fine_tuned(
    cell: Cell, bed: Bed, split: RetrievalSplit, cache: Path, wanted: Wanted
) -> dict[str, Any]:
    """Train and measure one cell whose backbone learns too; ``bed`` lends labels and parts."""
    clock = _Clock()
    model = fit(split, cell.config, cache=cache)
    cost = {**clock.seconds(), "epochs": len(model.log)}
    encoded = model.encode(split.dataset.images, rows=bed.rows)
    copies = model.encode(copies_of(split.dataset.images, split.database, seed=split.seed).images)
    with torch_threads(1):
        logits = _Logits.of(bed, encoded.logits, copies.logits)
        return _measured(cell, bed, wanted, logits, cost)


@torch.inference_mode()
def _logits(head: nn.Module, bed: Bed, *, block: int = 4096) -> _Logits:
    """Logits in float32, fast: a bit whose logit is within rounding of 0 may differ from a saved model's."""
    blocks = (bed.features[i : i + block].copy() for i in range(0, len(bed.rows), block))
    logits = np.concatenate([head(torch.from_numpy(part)).numpy() for part in blocks])
    return _Logits.of(bed, logits, head(torch.from_numpy(bed.copies)).numpy())


def _measured(
    cell: Cell, bed: Bed, wanted: Wanted, logits: _Logits, cost: Mapping[str, Any]
) -> dict[str, Any]:
    started = time.perf_counter()
    config = cell.config
    labels = {name: bed.labels[at] for name, at in bed.parts.items()}
    ranks_features = wanted.map_features or wanted.map_asymmetric
    outputs = [
        Outputs(codes=pack(values), features=values if ranks_features else None, labels=labels[name])
        for name, values in (("query", logits.query), ("database", logits.database))
    ]
    report = evaluate(
        *outputs,
        bits=config.bits,
        class_names=bed.class_names,
        rank_cut=bed.rank_cuts[0],
        extra_cuts=bed.rank_cuts[1:],
        map_features=wanted.map_features,
        map_asymmetric=wanted.map_asymmetric,
    ).to_dict()
    checked = len(logits.validation) > 0
    codes = CellCodes(outputs[0].codes, outputs[1].codes, pack(logits.copies), config.bits)
    if wanted.codes:
        codes.save(wanted.codes / f"{cell.hash}.npz")
    return rounded_table(
        {
            **_names(cell),
            "bytes": cell.bytes_asked,
            **{key: report[key] for key in (*KEPT, *(DETAILS if wanted.details else ()))},
            "validation_map": map_of_logits(
                logits.validation, logits.train, labels["validation"], labels["train"]
            )
            if checked
            else None,
            **({"likeness": codes.likeness(bed.truth)} if wanted.likeness else {}),
            **_answers(bed, outputs[0], outputs[1], wanted),
            **cost,
            "evaluate_seconds": time.perf_counter() - started,
        }
    )


def _answers(bed: Bed, query: Outputs, database: Outputs, wanted: Wanted) -> dict[str, Any]:
    """Some queries, evenly spaced, and the rows that their codes find, nearest first."""
    if not wanted.queries:
        return {}
    some = some_answers(query.codes, database.codes, queries=wanted.queries, answers=wanted.answers)
    return {
        "answers": {
            "queries": bed.rows[bed.parts["query"][some.queries]].tolist(),
            "rows": bed.rows[bed.parts["database"][some.nearest]].tolist(),
            "distances": some.distances.tolist(),
        }
    }


def _rival(cell: Cell, bed: Bed) -> dict[str, Any]:
    query, database = bed.part("query"), bed.part("database")
    clock = _Clock()
    rival = RIVALS[cell.method](
        bed.part("train").features,
        query.features,
        database.features,
        bytes_per_item=cell.bytes_asked,
        seed=cell.seed,
    )
    cost = clock.seconds()
    precision = rival_average_precision(rival, query.labels, database.labels, bed.rank_cuts)
    if not np.isfinite(precision).all():
        raise ConfigError(f"{cell.method} gives NaN scores on these features")
    means = precision.mean(axis=0).tolist()
    return rounded_table(
        {
            **_names(cell),
            "bytes": rival.bytes_per_item,
            "map": means[0],
            "map_at": {str(k or "all"): value for k, value in zip(bed.rank_cuts, means, strict=True)},
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
        "split_seed": cell.place.split_seed,
        **({"draw": cell.place.options["draw"]} if "draw" in cell.place.options else {}),
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
