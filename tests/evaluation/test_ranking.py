from __future__ import annotations

from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from anglehash.codes import Codes, hamming, pack, unpack
from anglehash.errors import CodeMismatchError, ConfigError, DataError
from anglehash.evaluation import ranking
from anglehash.evaluation.metrics import (
    average_precision,
    histograms_of,
    mean_average_precision_convention,
    tabulate,
)
from anglehash.evaluation.multi_label import weighted_average_precision
from anglehash.evaluation.ranking import (
    average_precision_of_codes,
    histograms,
    rank_tables,
    shuffled_average_precision,
)


class Parts(NamedTuple):
    query_codes: Codes
    database_codes: Codes
    query_labels: NDArray[np.bool_]
    database_labels: NDArray[np.bool_]

    @property
    def distances(self) -> NDArray[np.int32]:
        return hamming(self.query_codes, self.database_codes)

    @property
    def shared(self) -> NDArray[np.int64]:
        return self.query_labels.astype(np.int64) @ self.database_labels.T.astype(np.int64)


def random_parts(
    bits: int, classes: int = 5, *, queries: int = 7, database: int = 50, seed: int = 0
) -> Parts:
    rng = np.random.default_rng(seed)
    labels = rng.random((queries + database, classes)) < 0.3
    codes = pack(labels @ rng.normal(size=(classes, bits)) + rng.normal(size=(len(labels), bits)))
    return Parts(codes[:queries], codes[queries:], labels[:queries], labels[queries:])


def whole_table(parts: Parts, bits: int) -> NDArray[np.int64]:
    """What numpy counts, with room for every level and distance that the kernel keeps."""
    small = tabulate(parts.distances, parts.shared)
    levels = 1 + max(1, min(parts.query_labels.sum(axis=1).max(), parts.database_labels.sum(axis=1).max()))
    table = np.zeros((len(small), levels, bits + 1), dtype=np.int64)
    table[:, : small.shape[1], : small.shape[2]] = small
    return table


@pytest.mark.parametrize("bits", [4, 12, 63, 64, 65, 128, 1000, 1024])
@pytest.mark.parametrize("classes", [1, 5, 64, 130])
def test_tables_are_what_numpy_counts(bits: int, classes: int) -> None:
    parts = random_parts(bits, classes)
    assert (np.concatenate(list(rank_tables(*parts, bits=bits))) == whole_table(parts, bits)).all()


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_tables_of_any_draw(seed: int) -> None:
    rng = np.random.default_rng(seed)
    bits, classes, queries, database = (int(rng.integers(low, 70)) for low in (4, 1, 1, 1))
    parts = random_parts(bits, classes, queries=queries, database=database, seed=seed)
    assert (np.concatenate(list(rank_tables(*parts, bits=bits))) == whole_table(parts, bits)).all()


def test_the_highest_bit_of_every_word_counts() -> None:
    codes = pack(np.array([np.ones(128), np.zeros(128)]))
    labels = np.eye(2, dtype=bool)
    items, relevant = histograms(codes[:1], codes, labels[:1], labels, bits=128)
    assert np.flatnonzero(items[0]).tolist() == [0, 128]
    assert np.flatnonzero(relevant[0]).tolist() == [0]


def test_blocks_are_bounded_and_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = random_parts(32, queries=20)
    whole = np.concatenate(list(rank_tables(*parts, bits=32)))
    monkeypatch.setattr(ranking, "CELLS", 3 * whole[0].size)
    blocks = list(rank_tables(*parts, bits=32))
    assert [len(block) for block in blocks] == [3] * 6 + [2]
    assert (np.concatenate(blocks) == whole).all()
    for ours, theirs in zip(histograms(*parts, bits=32), histograms_of(whole), strict=True):
        assert (ours == theirs).all()


@pytest.mark.parametrize("k", [None, 1, 10, 99])
def test_average_precision_straight_from_codes(k: int | None) -> None:
    parts = random_parts(12)
    expected = average_precision(parts.distances, parts.shared > 0, k=k)
    assert average_precision_of_codes(*parts, bits=12, k=k).tolist() == pytest.approx(expected.tolist())


def test_perfect_codes_score_1() -> None:
    labels = np.eye(4, dtype=bool)[np.arange(40) % 4]
    codes = pack(labels.repeat(4, axis=1))
    precision = average_precision_of_codes(codes[:8], codes[8:], labels[:8], labels[8:], bits=16)
    assert precision.tolist() == pytest.approx([1] * 8)


def test_neither_the_order_of_bits_nor_of_the_database_matters() -> None:
    parts, rng = random_parts(24), np.random.default_rng(1)
    bits, order = rng.permutation(24), rng.permutation(50)
    moved = Parts(
        pack(unpack(parts.query_codes, 24)[:, bits]),
        pack(unpack(parts.database_codes, 24)[:, bits])[order],
        parts.query_labels,
        parts.database_labels[order],
    )
    for ours, theirs in zip(histograms(*moved, bits=24), histograms(*parts, bits=24), strict=True):
        assert (ours == theirs).all()


@pytest.mark.parametrize("bits", [12, 64, 100])
@pytest.mark.parametrize("k", [None, 10, 99])
def test_shuffled_ties_are_those_of_the_definitions(bits: int, k: int | None) -> None:
    parts = random_parts(bits, 70)
    results = list(islice(shuffled_average_precision(*parts, k=k, seed=3), 10))
    convention = mean_average_precision_convention(parts.distances, parts.shared > 0, k=k, seed=3)
    assert results[0].average_precision.mean() == pytest.approx(convention)
    wap = weighted_average_precision(parts.distances, parts.shared, k=k, seed=3)
    assert np.mean([result.weighted for result in results], axis=0).tolist() == pytest.approx(wap.tolist())


def test_queries_without_a_label_find_nothing() -> None:
    parts = random_parts(12)._replace(query_labels=np.zeros((7, 5), dtype=bool))
    assert average_precision_of_codes(*parts, bits=12).tolist() == [0] * 7
    assert next(shuffled_average_precision(*parts)).average_precision.tolist() == [0] * 7


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"query_codes": np.zeros((7, 3), np.uint8)}, CodeMismatchError),
        ({"query_labels": np.ones((6, 5), bool)}, DataError),
        ({"query_labels": -np.ones((7, 5), int)}, DataError),
        ({"query_labels": np.ones((7, 0), bool), "database_labels": np.ones((50, 0), bool)}, DataError),
        ({"query_labels": np.ones((7, 4), bool)}, DataError),
        ({"database_labels": np.ones(50, bool)}, DataError),
        ({"database_codes": np.zeros((0, 2), np.uint8), "database_labels": np.ones((0, 5), bool)}, DataError),
    ],
)
def test_parts_that_do_not_fit_are_refused(change: dict[str, Any], error: type[Exception]) -> None:
    parts = random_parts(12)._replace(**change)
    with pytest.raises(error):
        next(rank_tables(*parts, bits=12))
    with pytest.raises(error):
        next(shuffled_average_precision(*parts))


def test_codes_longer_than_their_bits_never_reach_the_kernel() -> None:
    parts = random_parts(12)
    for bits in (4, 9, 17):
        with pytest.raises(CodeMismatchError):
            next(rank_tables(*parts, bits=bits))


def test_a_cut_is_a_positive_whole_number() -> None:
    with pytest.raises(ConfigError):
        next(shuffled_average_precision(*random_parts(12), k=0))
