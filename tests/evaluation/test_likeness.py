"""Every measure of likeness beside a naive loop over all orders of tied items."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from anglehash.codes import hamming, pack
from anglehash.errors import CodeMismatchError, DataError
from anglehash.evaluation.likeness import (
    agreement,
    code_scores,
    copy_recall,
    distinct_lists,
    equal_rows,
    nearest_in_class,
    precision,
    self_retrieval,
    top_of,
    unit,
)
from anglehash.evaluation.likeness_table import Truth, likeness_of_codes, references
from anglehash.evaluation.metrics import average_precision, histograms_of, precision_at, tabulate

Expectation = Callable[..., float]
SCORES = st.lists(st.integers(0, 3), min_size=1, max_size=6)


def rows_of(*scores: list[int]) -> NDArray[np.int16]:
    return np.array(scores, dtype=np.int16)


@settings(max_examples=50, deadline=None)
@given(SCORES, st.integers(1, 7), st.data())
def test_agreement_is_the_mean_over_all_orders(
    expectation: Expectation, scores: list[int], k: int, data: st.DataObject
) -> None:
    members = data.draw(st.sets(st.integers(0, len(scores) - 1)))
    block, first = rows_of(scores), min(k, len(scores))
    neighbours = np.array([[*sorted(members), -1, -1]])
    found = agreement(block, top_of(block, k), neighbours)
    hit = [int(item in members) for item in range(len(scores))]
    expected = expectation([-s for s in scores], hit, lambda ranked: sum(ranked[:first]) / first)
    assert found.tolist() == pytest.approx([expected])


@settings(max_examples=50, deadline=None)
@given(SCORES, st.integers(1, 6), st.data())
def test_precision_is_that_of_the_histograms(scores: list[int], k: int, data: st.DataObject) -> None:
    labels = np.array(data.draw(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=len(scores),
                                         max_size=len(scores))))  # fmt: skip
    own, block, first = np.array([[True, False]]), rows_of(scores), min(k, len(scores))
    table = tabulate(3 - block.astype(np.int64), labels[None, :, 0])
    found = precision(block, top_of(block, k), own, labels)
    assert found == pytest.approx(precision_at(*histograms_of(table), first))


@settings(max_examples=50, deadline=None)
@given(SCORES, st.integers(1, 7))
def test_copies_are_found_as_often_as_all_orders_say(
    expectation: Expectation, scores: list[int], k: int
) -> None:
    for original in range(len(scores)):
        hit = [int(item == original) for item in range(len(scores))]
        expected = expectation([-s for s in scores], hit, lambda ranked: float(any(ranked[:k])))
        found = copy_recall([rows_of(scores)], np.array([original]), (k,))
        assert found.tolist() == [[pytest.approx(expected)]]


@settings(max_examples=50, deadline=None)
@given(SCORES, st.integers(1, 7))
def test_the_first_are_taken_in_database_order(scores: list[int], k: int) -> None:
    naive = sorted(range(len(scores)), key=lambda item: -scores[item])[:k]
    top = top_of(rows_of(scores), k)
    last = scores[naive[-1]]
    assert top.rows.tolist() == [sorted(naive)]
    assert top.places.tolist() == [sum(scores[item] == last for item in naive)]
    assert top.tied.tolist() == [scores.count(last)]
    assert top_of(np.array([scores], dtype=np.float32), k).rows.tolist() == [sorted(naive)]


def test_lists_are_counted_as_sets() -> None:
    # the second ranks the same two the other way round; the third ties 1 with 2 and takes the first
    block = rows_of([3, 2, 1], [2, 3, 1], [3, 2, 2], [0, 2, 1])
    assert distinct_lists(top_of(block, 2).rows) == 2 / 4


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 2), st.tuples(st.booleans(), st.booleans())), min_size=1, max_size=7)
)
def test_items_that_tie_with_n_count_one_nth(items: list[tuple[int, tuple[bool, bool]]]) -> None:
    member, labels = np.array([m for m, _ in items]), np.array([flags for _, flags in items])
    plain = [1 / sum(m == other for other, _ in items) for m, _ in items]
    assert self_retrieval(member) == pytest.approx(np.mean(plain))

    def nearer_or_equal(own: int) -> int:  # an oracle: who shares a label stands first, equal items tie
        shares = [any(a and b for a, b in zip(items[own][1], flags, strict=True)) for _, flags in items]
        key = [(shares[i], m == items[own][0]) for i, (m, _) in enumerate(items)]
        return sum(k >= key[own] for k in key)

    assert self_retrieval(member, labels) == pytest.approx(
        np.mean([1 / nearer_or_equal(own) for own in range(len(items))])
    )


def test_the_nearest_of_the_right_class() -> None:
    query, database = np.array([[1.0, 0.0]]), np.array([[9, 1], [1, 3], [5, 5], [1, 0.0]])
    labels = np.array([[True, False], [True, True], [False, True], [False, True]])
    found = nearest_in_class(query, database, labels[1:2], labels, count=3)
    assert found.tolist() == [[3, 0, 2]]  # cosines 1, .994, .707; and .316 of row 1
    assert nearest_in_class(query, database, labels[:1], labels, count=3).tolist() == [[0, 1, -1]]


def test_scores_of_codes_are_negative_distances() -> None:
    rng = np.random.default_rng(0)
    query, database = (pack(rng.normal(size=(n, 70))) for n in (5, 9))
    blocks = np.concatenate(list(code_scores(query, database)))
    assert (blocks == -hamming(query, database)).all()
    assert blocks.dtype == np.int16


@pytest.fixture(scope="module")
def split() -> tuple[dict[str, NDArray[Any]], Truth]:
    """30 queries, 80 database items with many ties, 12 copies; some queries have no finer label."""
    rng = np.random.default_rng(3)
    parts = {
        name: rng.normal(size=(n, 6)).astype(np.float32) for name, n in (("query", 30), ("database", 80))
    }
    parts["database"][40:44] = parts["database"][0]  # equal features
    originals = rng.permutation(80)[:12]
    parts["copies"] = parts["database"][originals] + rng.normal(0, 0.1, (12, 6)).astype(np.float32)
    labels = [np.eye(4, dtype=bool)[rng.integers(0, 4, n)] | (rng.random((n, 4)) < 0.1) for n in (30, 80)]
    finer = [rng.random((n, 7)) < 0.2 for n in (30, 80)]
    truth = Truth(
        query_labels=labels[0],
        database_labels=labels[1],
        query_finer=finer[0],
        database_finer=finer[1],
        originals=originals,
        neighbours=nearest_in_class(parts["query"], parts["database"], *labels, count=5),
    )
    return parts, truth


def naive(scores: NDArray[Any], copies: NDArray[Any], alone: NDArray[Any], *, truth: Truth) -> dict[str, Any]:
    """All measures by their definitions; ``scores`` of queries, copies and the database among itself."""
    assert truth.query_finer is not None
    assert truth.database_finer is not None
    assert truth.neighbours is not None
    kept = [q for q in range(len(scores)) if truth.query_finer[q].any()]
    right = truth.query_finer.astype(int) @ truth.database_finer.T.astype(int) > 0
    near = np.zeros(scores.shape, dtype=bool)
    for q, rows in enumerate(truth.neighbours):
        near[q, rows[rows >= 0]] = True

    def first_ten(values: NDArray[Any], hit: NDArray[np.bool_]) -> float:
        total, left = 0.0, 10
        for value in sorted(set(values.tolist()), reverse=True):
            tie = values == value
            total += (hit & tie).sum() * min(left, tie.sum()) / tie.sum()
            left -= min(left, tie.sum())
        return total / 10

    def found(values: NDArray[Any], own: int, k: int) -> float:
        before, tied = (values > values[own]).sum(), (values == values[own]).sum()
        return float(np.clip(k - before, 0, tied) / tied)

    lists = {tuple(sorted(sorted(range(len(row)), key=lambda i: -row[i])[:10])) for row in scores}
    return {
        "finer_map": average_precision(-scores[kept], right[kept]).mean(),
        "finer_precision_at_10": np.mean([first_ten(scores[q], right[q]) for q in kept]),
        "finer_queries": len(kept),
        "distinct_lists": len(lists) / len(scores),
        "self_retrieval": np.mean([found(alone[i], i, 1) for i in range(len(alone))]),
        "copy_recall_at_1": np.mean([found(copies[c], o, 1) for c, o in enumerate(truth.originals)]),
        "copy_recall_at_10": np.mean([found(copies[c], o, 10) for c, o in enumerate(truth.originals)]),
        "feature_agreement": np.mean([first_ten(scores[q], near[q]) for q in range(len(scores))]),
    }


def test_all_measures_of_codes(split: tuple[dict[str, NDArray[Any]], Truth]) -> None:
    parts, truth = split
    codes = {name: pack(part) for name, part in parts.items()}
    scores = [-hamming(codes[name], codes["database"]) for name in ("query", "copies", "database")]
    found = likeness_of_codes(codes["query"], codes["database"], codes["copies"], truth, bits=6)
    assert found == pytest.approx(naive(*scores, truth=truth))
    assert 0 < found["finer_queries"] < 30  # type: ignore[operator]


def test_all_measures_of_the_references(split: tuple[dict[str, NDArray[Any]], Truth]) -> None:
    parts, truth = split
    found = references(parts["query"], parts["database"], parts["copies"], truth)
    units = {name: unit(part) for name, part in parts.items()}
    labels = {"query": truth.query_labels, "database": truth.database_labels}
    labels["copies"] = truth.database_labels[truth.originals]
    names = ("query", "copies", "database")
    cosines, shared, signs = [], [], []
    center = parts["database"].mean(axis=0, dtype=np.float64)
    same = equal_rows(parts["database"])
    for name in names:
        values = units[name] @ units["database"].T
        if name == "database":  # equal features are as near as it gets, whatever the rounding
            values = np.where(same[:, None] == same, np.float32(1.5), values)
        cosines.append(values)
        shared.append(labels[name].astype(int) @ labels["database"].T.astype(int) > 0)
        signs.append(-hamming(pack(parts[name] - center), pack(parts["database"] - center)))
    inside = [np.where(right, near, near - 4) for right, near in zip(shared, cosines, strict=True)]
    for name, scores in (
        ("float_cosine", cosines),
        ("feature_signs", signs),
        ("right_class_random", [right.astype(int) for right in shared]),
        ("right_class_cosine", inside),
    ):
        by_class = average_precision(-scores[0], shared[0]).mean()
        assert found[name] == pytest.approx({"map": by_class, **naive(*scores, truth=truth)}, rel=1e-5), name
    assert list(references(np.zeros((30, 0)), np.zeros((80, 0)), np.zeros((12, 0)), truth)) == [
        "right_class_random"
    ]


def test_what_is_not_there_has_no_value(split: tuple[dict[str, NDArray[Any]], Truth]) -> None:
    parts, truth = split
    codes = {name: pack(part) for name, part in parts.items()}
    bare = Truth(
        query_labels=truth.query_labels,
        database_labels=truth.database_labels,
        originals=np.zeros(0, np.int64),
    )
    found = likeness_of_codes(codes["query"], codes["database"], codes["copies"][:0], bare, bits=6)
    absent = ["finer_map", "finer_precision_at_10", "finer_queries", "copy_recall_at_1", "copy_recall_at_10",
              "feature_agreement"]  # fmt: skip
    assert [name for name, value in found.items() if value is None] == absent
    nobody = Truth(
        query_labels=truth.query_labels,
        database_labels=truth.database_labels,
        query_finer=np.zeros((30, 2), bool),
        database_finer=np.zeros((80, 2), bool),
        originals=truth.originals,
    )
    found = likeness_of_codes(codes["query"], codes["database"], codes["copies"], nobody, bits=6)
    assert (found["finer_map"], found["finer_precision_at_10"], found["finer_queries"]) == (None, None, 0)


def test_what_does_not_fit_is_refused(split: tuple[dict[str, NDArray[Any]], Truth]) -> None:
    parts, truth = split
    codes = {name: pack(part) for name, part in parts.items()}
    with pytest.raises(CodeMismatchError):
        likeness_of_codes(codes["query"], codes["database"], codes["copies"], truth, bits=20)
    with pytest.raises(DataError, match="29 and 80 codes need as many rows of labels"):
        likeness_of_codes(codes["query"][1:], codes["database"], codes["copies"], truth, bits=6)
    with pytest.raises(DataError, match="or for neither"):
        Truth(query_labels=truth.query_labels, database_labels=truth.database_labels, originals=truth.originals,
              query_finer=truth.query_finer)  # fmt: skip
    with pytest.raises(DataError, match="rows of a database of 80"):
        Truth(
            query_labels=truth.query_labels, database_labels=truth.database_labels, originals=np.array([80])
        )
