"""From the outputs of a hasher to one report: each number by the one definition that the report states."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anglehash.asymmetric import bit_weights, check_weights, signs
from anglehash.codes import Codes, check_bits, check_codes
from anglehash.errors import DataError
from anglehash.evaluation import metrics
from anglehash.evaluation.code_statistics import bit_balance, class_id_codes, unique_codes
from anglehash.evaluation.multi_label import SHUFFLES, average_cumulative_gain, ndcg
from anglehash.evaluation.ranking import average_precision_of_codes, rank_tables, shuffled_average_precision
from anglehash.evaluation.result import Result
from anglehash.evaluation.scores import (
    asymmetric_nearness,
    cosine,
    mean_average_precision_of_scores,
    posterior_agreement,
    shared_label_agreement,
)
from anglehash.evaluation.ties import Counts, Floats

RADIUS = 2  # of the Hamming ball that papers report

Measured = dict[str, NDArray[Any]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Outputs:
    """What a hasher makes of one part of a split, row by row.

    Attributes:
        codes: ``(n, ceil(bits / 8))`` packed.
        labels: ``(n, classes)`` bool, multi-hot.
        features: ``(n, bits)`` the real-valued logits that the codes come from; ``None`` if there are none.
        posterior: ``(n, c)`` class probabilities of the calibrated classifier; ``None`` where it does not
            know the classes.
    """

    codes: Codes
    labels: NDArray[np.bool_]
    features: NDArray[np.float32] | None = None
    posterior: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        n = len(self.codes)
        if self.labels.dtype != np.bool_ or self.labels.ndim != 2 or len(self.labels) != n or n == 0:
            raise DataError(
                f"outputs need a bool row of labels for each code, and at least one: got {n} codes and "
                f"labels {self.labels.dtype} {self.labels.shape}"
            )
        for name, values in (("features", self.features), ("posterior", self.posterior)):
            if values is not None and (values.ndim != 2 or len(values) != n or not np.isfinite(values).all()):
                raise DataError(f"{name} must be {n} rows of finite numbers, got the shape {values.shape}")


def evaluate(
    query: Outputs,
    database: Outputs,
    *,
    bits: int,
    class_names: Sequence[str],
    rank_cut: int | None = None,
    extra_cuts: Iterable[int | None] = (),
    precision_at: Iterable[int] = (1, 10, 100, 1000),
    map_logits: bool = True,
    map_asymmetric: bool = True,
) -> Result:
    """Rank the database for every query and report what the ranking is worth.

    Args:
        query: outputs for the queries.
        database: outputs for the database.
        bits: length of a code.
        class_names: a name per column of the labels.
        rank_cut: ranks that count; ``None`` ranks the whole database.
        extra_cuts: further rank cuts for ``map_at``.
        precision_at: N of P@N, R@N, ACG@N and NDCG@N; those past the database are left out.
        map_logits: rank by the features of both parts too, if there are any: as many sorts as queries.
        map_asymmetric: rank by the features of the queries and the codes of the database too; likewise.

    Raises:
        CodeMismatchError: codes are not ``bits`` long, or the features of the queries not ``bits`` wide.
        DataError: the two parts do not fit together.
        ConfigError: ``bits`` is not a code length, or a cut is not a positive integer.
    """
    started = perf_counter()
    _check(query, database, bits, class_names)
    cuts = list(dict.fromkeys([rank_cut, *extra_cuts]))
    ns = [n for n in precision_at if n <= len(database.codes)]
    several = bool((query.labels.sum(axis=1) > 1).any() or (database.labels.sum(axis=1) > 1).any())
    measured = _measure(query, database, bits, cuts, ns)
    return Result(
        bits=bits,
        rank_cut=rank_cut,
        **_exact(measured, cuts, ns, several=several),
        **_with_shuffled_ties(query, database, rank_cut, several=several),
        **_by_features(query, database, bits, rank_cut, both=map_logits, asymmetric=map_asymmetric),
        **_references(query, database, rank_cut, several=several),
        per_class=_per_class(measured["average_precision"][:, 0], query.labels, class_names),
        **_code_statistics(database.codes, bits),
        queries=len(query.codes),
        database=len(database.codes),
        queries_without_relevant=int((~measured["answerable"]).sum()),
        seconds=perf_counter() - started,
    )


def _check(query: Outputs, database: Outputs, bits: int, class_names: Sequence[str]) -> None:
    check_bits(bits)
    for part in (query, database):
        check_codes(part.codes, bits)
        if part.labels.shape[1] != len(class_names):
            raise DataError(f"{len(class_names)} class names for labels of {part.labels.shape[1]} classes")
    for name in ("features", "posterior"):
        a, b = getattr(query, name), getattr(database, name)
        if a is not None and b is not None and a.shape[1] != b.shape[1]:
            raise DataError(
                f"{name} of the queries have {a.shape[1]} columns, of the database {b.shape[1]}: "
                "both must come from the same model"
            )


def _ranking(query: Outputs, database: Outputs) -> tuple[Codes, Codes, NDArray[np.bool_], NDArray[np.bool_]]:
    return query.codes, database.codes, query.labels, database.labels


def _measure(
    query: Outputs, database: Outputs, bits: int, cuts: Sequence[int | None], ns: Sequence[int]
) -> Measured:
    """Everything that follows from rank tables, a row per query."""
    blocks = [_measure_block(table, cuts, ns) for table in rank_tables(*_ranking(query, database), bits=bits)]
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}


def _measure_block(table: Counts, cuts: Sequence[int | None], ns: Sequence[int]) -> Measured:
    items, relevant = metrics.histograms_of(table)

    def columns(values: Iterable[Floats]) -> Floats:
        return np.array(list(values)).reshape(-1, len(table)).T

    return {
        "average_precision": columns(
            metrics.average_precision_from_histograms(items, relevant, k) for k in cuts
        ),
        "precision_at": columns(metrics.precision_at(items, relevant, n) for n in ns),
        "recall_at": columns(metrics.recall_at(items, relevant, n) for n in ns),
        "acg": columns(average_cumulative_gain(table, n) for n in ns),
        "ndcg": columns(ndcg(table, n) for n in ns),
        "within_radius": metrics.average_precision_within_radius(items, relevant, RADIUS),
        "answerable": relevant.any(axis=1),
        **metrics.precision_recall_by_radius(items, relevant)._asdict(),
    }


def _exact(
    measured: Measured, cuts: Sequence[int | None], ns: Sequence[int], *, several: bool
) -> dict[str, Any]:
    mean = {name: values.mean(axis=0).tolist() for name, values in measured.items()}
    by_radius = [
        {"radius": radius, "precision": precision, "recall": recall, "empty_balls": empty}
        for radius, (precision, recall, empty) in enumerate(
            zip(mean["precision"], mean["recall"], mean["empty"], strict=True)
        )
    ]

    def by_n(name: str) -> dict[str, float]:
        return {str(n): value for n, value in zip(ns, mean[name], strict=True)}

    ball = by_radius[RADIUS]
    return {
        "map": mean["average_precision"][0],
        "map_at": {str(k or "all"): value for k, value in zip(cuts, mean["average_precision"], strict=True)},
        "precision_at": by_n("precision_at"),
        "recall_at": by_n("recall_at"),
        "precision_recall": by_radius,
        "precision_radius_2": {"value": ball["precision"], "empty_balls": ball["empty_balls"]},
        "map_within_radius_2": mean["within_radius"],
        "acg": by_n("acg") if several else None,
        "ndcg": by_n("ndcg") if several else None,
    }


def _with_shuffled_ties(
    query: Outputs, database: Outputs, rank_cut: int | None, *, several: bool
) -> dict[str, Any]:
    shuffles = shuffled_average_precision(*_ranking(query, database), k=rank_cut)
    results = list(islice(shuffles, SHUFFLES if several else 1))
    return {
        "map_convention": float(results[0].average_precision.mean()),
        "wap": float(np.mean([result.weighted.mean() for result in results])) if several else None,
    }


def _by_features(
    query: Outputs, database: Outputs, bits: int, rank_cut: int | None, *, both: bool, asymmetric: bool
) -> dict[str, Any]:
    """What the features before binarising are worth: of queries and database, and of queries alone."""
    labels = query.labels, database.labels
    found: dict[str, Any] = {"map_logits": None, "map_asymmetric": None}
    if both and query.features is not None and database.features is not None:
        found["map_logits"] = mean_average_precision_of_scores(
            query.features, database.features, *labels, similarity=cosine, k=rank_cut
        )
    if asymmetric and query.features is not None:
        found["map_asymmetric"] = mean_average_precision_of_scores(
            check_weights(bit_weights(query.features), bits),
            signs(database.codes, bits),
            *labels,
            similarity=asymmetric_nearness,
            k=rank_cut,
        )
    return found


def _references(query: Outputs, database: Outputs, rank_cut: int | None, *, several: bool) -> dict[str, Any]:
    """What the codes are held against: the classifier."""
    if query.posterior is None or database.posterior is None:
        return {"posterior_map": None, "class_id_map": None}
    return posterior_references(
        query.posterior,
        database.posterior,
        query.labels,
        database.labels,
        several=several,
        rank_cut=rank_cut,
    )


def posterior_references(
    query: NDArray[np.float32],
    database: NDArray[np.float32],
    query_labels: NDArray[np.bool_],
    database_labels: NDArray[np.bool_],
    *,
    several: bool,
    rank_cut: int | None,
) -> dict[str, float]:
    """What a calibrated classifier reaches: by its posterior, ``posterior_map``, and by its answer, ``class_id_map``.

    Args:
        query: ``(q, c)`` class probabilities of the queries.
        database: ``(n, c)`` of the database.
        query_labels: ``(q, classes)`` bool, multi-hot.
        database_labels: ``(n, classes)`` bool, multi-hot.
        several: images have several labels, so that one in common is what is asked for.
        rank_cut: ranks that count; ``None`` ranks the whole database.
    """
    posterior_map = mean_average_precision_of_scores(
        query,
        database,
        query_labels,
        database_labels,
        similarity=shared_label_agreement if several else posterior_agreement,
        k=rank_cut,
    )
    own, others = class_id_codes(query), class_id_codes(database)
    class_id = average_precision_of_codes(
        own, others, query_labels, database_labels, bits=query.shape[1], k=rank_cut
    )
    return {"posterior_map": posterior_map, "class_id_map": float(class_id.mean())}


def _per_class(
    average_precision: Floats, labels: NDArray[np.bool_], class_names: Sequence[str]
) -> dict[str, float | None]:
    means = metrics.mean_per_class(average_precision, labels)
    return {
        name: None if np.isnan(mean) else float(mean) for name, mean in zip(class_names, means, strict=True)
    }


def _code_statistics(codes: Codes, bits: int) -> dict[str, Any]:
    ones = bit_balance(codes, bits)
    return {
        "unique_codes": unique_codes(codes),
        "bit_balance": {"min": float(ones.min()), "mean": float(ones.mean()), "max": float(ones.max())},
    }
