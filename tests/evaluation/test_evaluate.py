from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from anglehash.asymmetric import asymmetric_distances, bit_weights
from anglehash.codes import hamming, pack
from anglehash.errors import CodeMismatchError, ConfigError, DataError
from anglehash.evaluation.evaluate import Outputs, evaluate
from anglehash.evaluation.metrics import mean_average_precision, mean_average_precision_convention
from anglehash.evaluation.multi_label import weighted_average_precision
from anglehash.evaluation.result import Result

NAMES = ("ape", "bee", "cat", "dog")


def outputs(n: int, seed: int, *, bits: int = 16, several: bool = False) -> Outputs:
    rng = np.random.default_rng(seed)
    labels = np.eye(4, dtype=bool)[rng.integers(0, 4, n)]
    if several:
        labels |= rng.random((n, 4)) < 0.3
    centres = np.random.default_rng(99).normal(size=(4, bits))
    features = (labels @ centres + rng.normal(size=(n, bits))).astype(np.float32)
    posterior = np.exp(features @ centres.T / 4)
    posterior = (posterior / posterior.sum(axis=1, keepdims=True)).astype(np.float32)
    return Outputs(codes=pack(features), features=features, labels=labels, posterior=posterior)


QUERY, DATABASE = outputs(30, 0), outputs(200, 1)
MANY_QUERY, MANY_DATABASE = outputs(30, 0, several=True), outputs(200, 1, several=True)


def run(query: Outputs = QUERY, database: Outputs = DATABASE, **options: Any) -> Result:
    return evaluate(query, database, bits=16, class_names=NAMES, **options)


def relevance(query: Outputs, database: Outputs) -> NDArray[np.int64]:
    return query.labels.astype(np.int64) @ database.labels.T.astype(np.int64)


def test_the_report_agrees_with_the_definitions() -> None:
    distances, relevant = hamming(QUERY.codes, DATABASE.codes), relevance(QUERY, DATABASE) > 0
    report = run(rank_cut=50, extra_cuts=(None, 10, 50))
    assert report.map == pytest.approx(mean_average_precision(distances, relevant, k=50))
    assert report.map_convention == pytest.approx(
        mean_average_precision_convention(distances, relevant, k=50)
    )
    assert list(report.map_at) == ["50", "all", "10"]
    assert report.map_at["50"] == report.map
    assert report.map_at["all"] == pytest.approx(mean_average_precision(distances, relevant))
    assert report.map_at["10"] == pytest.approx(mean_average_precision(distances, relevant, k=10))
    assert QUERY.posterior is not None
    assert DATABASE.posterior is not None
    agreement = QUERY.posterior @ DATABASE.posterior.T
    assert report.posterior_map == pytest.approx(mean_average_precision(-agreement, relevant, k=50), rel=1e-5)
    other_answer = QUERY.posterior.argmax(axis=1)[:, None] != DATABASE.posterior.argmax(axis=1)
    assert report.class_id_map == pytest.approx(mean_average_precision(2 * other_answer, relevant, k=50))
    inside = distances <= 2
    assert report.precision_radius_2 == {
        "value": pytest.approx(np.mean((inside & relevant).sum(axis=1) / np.maximum(inside.sum(axis=1), 1))),
        "empty_balls": pytest.approx(np.mean(~inside.any(axis=1))),
    }
    by_class = np.array([report.per_class[name] for name in NAMES], dtype=float)
    assert by_class @ QUERY.labels.sum(axis=0) / 30 == pytest.approx(report.map)


def test_facts_are_counted() -> None:
    report = run()
    assert (report.bits, report.rank_cut, report.queries, report.database) == (16, None, 30, 200)
    assert report.unique_codes == len({code.tobytes() for code in DATABASE.codes})
    assert report.bit_balance["min"] <= report.bit_balance["mean"] <= report.bit_balance["max"]
    assert report.queries_without_relevant == 0
    assert report.seconds > 0
    assert len(report.precision_recall) == 17
    assert report.precision_recall[2]["precision"] == report.precision_radius_2["value"]
    assert report.precision_recall[16]["recall"] == pytest.approx(1)


def test_perfect_codes_score_1() -> None:
    def perfect(part: Outputs) -> Outputs:
        logits = np.where(part.labels.repeat(4, axis=1), 1, -1).astype(np.float32)
        return replace(part, codes=pack(logits), features=logits, posterior=part.labels.astype(np.float32))

    report = run(perfect(QUERY), perfect(DATABASE))
    for value in (
        report.map,
        report.map_convention,
        report.map_logits,
        report.map_asymmetric,
        report.posterior_map,
        report.class_id_map,
    ):
        assert value == pytest.approx(1)
    assert report.precision_radius_2 == {"value": pytest.approx(1), "empty_balls": 0}
    assert report.map_within_radius_2 == pytest.approx(1)
    assert report.unique_codes == 4


def test_real_valued_queries_rank_the_codes_of_the_database() -> None:
    assert QUERY.features is not None
    distances = asymmetric_distances(bit_weights(QUERY.features), DATABASE.codes)
    relevant = relevance(QUERY, DATABASE) > 0
    assert run(rank_cut=30).map_asymmetric == pytest.approx(mean_average_precision(distances, relevant, k=30))
    report = run(map_logits=False, map_asymmetric=False)
    assert (report.map_logits, report.map_asymmetric) == (None, None)
    assert run(QUERY, replace(DATABASE, features=None)).map_asymmetric == run().map_asymmetric


def test_features_of_another_width_are_no_logits_of_these_codes() -> None:
    wide = [replace(part, features=np.tile(part.features, (1, 2))) for part in (QUERY, DATABASE)]  # type: ignore[arg-type]
    with pytest.raises(
        CodeMismatchError, match=r"16-bit codes have logits of shape \(n, 16\), got \(30, 32\)"
    ):
        run(*wide)
    assert run(*wide, map_asymmetric=False).map_logits == pytest.approx(run().map_logits)


def test_ranks_end_with_the_database() -> None:
    report = run()
    assert list(report.precision_at) == list(report.recall_at) == ["1", "10", "100"]
    assert run(precision_at=(500,)).precision_at == {}
    assert run(precision_at=(200,)).recall_at["200"] == pytest.approx(1)


def test_graded_numbers_exist_where_images_have_several_labels() -> None:
    single = run()
    assert (single.acg, single.ndcg, single.wap) == (None, None, None)
    report = run(MANY_QUERY, MANY_DATABASE, rank_cut=40)
    distances, shared = hamming(MANY_QUERY.codes, MANY_DATABASE.codes), relevance(MANY_QUERY, MANY_DATABASE)
    assert report.wap == pytest.approx(weighted_average_precision(distances, shared, k=40).mean())
    assert report.acg is not None
    assert report.ndcg is not None
    assert list(report.acg) == list(report.ndcg) == ["1", "10", "100"]
    assert 0 < report.ndcg["10"] <= 1 < report.acg["1"]
    assert MANY_QUERY.posterior is not None
    assert MANY_DATABASE.posterior is not None
    miss = np.prod(1 - MANY_QUERY.posterior[:, None] * MANY_DATABASE.posterior[None], axis=2)
    assert report.posterior_map == pytest.approx(mean_average_precision(miss, shared > 0, k=40), rel=1e-4)


def test_the_report_is_strict_json_with_the_promised_keys() -> None:
    for report in (run(), run(MANY_QUERY, MANY_DATABASE), run(replace(QUERY, posterior=None, features=None))):
        values = report.to_dict()
        assert json.loads(json.dumps(values, allow_nan=False)) == values
        promised = "bits map map_convention map_logits map_asymmetric posterior_map class_id_map precision_at per_class"
        assert {*promised.split(), "unique_codes", "queries", "database", "seconds"} <= values.keys()


def test_what_is_not_there_is_null() -> None:
    report = run(replace(QUERY, posterior=None, features=None))
    assert (report.map_logits, report.map_asymmetric) == (None, None)
    assert (report.posterior_map, report.class_id_map) == (None, None)
    assert run(QUERY, replace(DATABASE, posterior=None)).posterior_map is None


def test_queries_that_nothing_can_answer_count_0_and_are_reported() -> None:
    no_dogs = ~DATABASE.labels[:, 3]
    database = Outputs(codes=DATABASE.codes[no_dogs], labels=DATABASE.labels[no_dogs])
    report = run(database=database)
    assert report.queries_without_relevant == QUERY.labels[:, 3].sum() > 0
    assert report.per_class["dog"] == 0
    assert report.map == pytest.approx(
        mean_average_precision(hamming(QUERY.codes, database.codes), relevance(QUERY, database) > 0)
    )


def test_a_class_without_a_query_has_no_mean() -> None:
    rows = ~QUERY.labels[:, 0]
    query = Outputs(codes=QUERY.codes[rows], labels=QUERY.labels[rows])
    assert run(query).per_class["ape"] is None


def test_the_order_of_the_database_does_not_matter() -> None:
    order = np.random.default_rng(0).permutation(200)
    assert DATABASE.features is not None
    assert DATABASE.posterior is not None
    moved = Outputs(
        codes=DATABASE.codes[order],
        features=DATABASE.features[order],
        labels=DATABASE.labels[order],
        posterior=DATABASE.posterior[order],
    )
    ours, theirs = run(rank_cut=30).to_dict(), run(database=moved, rank_cut=30).to_dict()
    for report in (ours, theirs):
        del report["seconds"], report["map_convention"]  # the papers' convention depends on it
    for name in ("map_logits", "posterior_map"):  # sums of floats, in another order
        assert ours.pop(name) == pytest.approx(theirs.pop(name), rel=1e-6)
    assert ours == theirs


@pytest.mark.parametrize(
    ("attempt", "error"),
    [
        (lambda: evaluate(QUERY, DATABASE, bits=12, class_names=NAMES), CodeMismatchError),
        (lambda: evaluate(QUERY, DATABASE, bits=2, class_names=NAMES), ConfigError),
        (lambda: evaluate(QUERY, DATABASE, bits=16, class_names=NAMES[:3]), DataError),
        (lambda: run(rank_cut=0), ConfigError),
        (lambda: run(precision_at=(0,)), ConfigError),
        (lambda: run(replace(QUERY, features=np.ones((30, 3), np.float32))), DataError),
        (lambda: replace(QUERY, labels=QUERY.labels.astype(int)), DataError),
        (lambda: replace(QUERY, labels=QUERY.labels[:9]), DataError),
        (lambda: replace(QUERY, features=np.full((30, 16), np.nan, np.float32)), DataError),
        (lambda: replace(QUERY, posterior=np.ones((29, 4), np.float32)), DataError),
    ],
)
def test_what_does_not_fit_is_refused(attempt: Callable[[], Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        attempt()
