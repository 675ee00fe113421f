"""One contract for every engine: brute force decides, and ties are in order of id."""

from __future__ import annotations

from typing import Any

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from anglehash.codes import Codes, pack
from anglehash.errors import CodeMismatchError, ConfigError
from anglehash.search.engines import ENGINES, SearchResult, make_index
from anglehash.search.engines import faiss as faiss_engine

every_engine = pytest.mark.parametrize("engine", list(ENGINES))
every_width = pytest.mark.parametrize("bits", [4, 8, 12, 63, 64, 65, 128, 1000, 1024])


def random_codes(n: int, bits: int, seed: int = 0) -> Codes:
    return pack(np.random.default_rng(seed).normal(size=(n, bits)))


def collapsed_codes(n: int, bits: int, distinct: int, seed: int = 0) -> Codes:
    """Codes as learned heads give them: few distinct ones, each many times."""
    return random_codes(distinct, bits, seed)[np.random.default_rng(seed).integers(0, distinct, n)]


def ranking(query: NDArray[np.uint8], database: Codes) -> list[tuple[int, int]]:
    """The definition: (distance, id) of every item, sorted; distances by counting unequal bits."""
    unequal = np.unpackbits(query) != np.unpackbits(database, axis=1)
    return sorted((int(row.sum()), item) for item, row in enumerate(unequal))


def check(engine: str, queries: Codes, database: Codes, bits: int, k: int, radius: int) -> None:
    index = make_index(engine, database, bits)
    distances, ids = index.search(queries, k)
    near = index.search_radius(queries, radius)
    assert distances.dtype == near.distances.dtype == np.int32
    assert ids.dtype == near.ids.dtype == near.lims.dtype == np.int64
    assert distances.shape == ids.shape == (len(queries), min(k, len(database)))
    assert near.lims.shape == (len(queries) + 1,)
    assert near.lims[0] == 0
    assert near.lims[-1] == len(near.distances) == len(near.ids)
    for row, query in enumerate(queries):
        truth = ranking(query, database)
        assert list(zip(distances[row], ids[row], strict=True)) == truth[:k]
        span = slice(near.lims[row], near.lims[row + 1])
        inside = [pair for pair in truth if pair[0] <= radius]
        assert list(zip(near.distances[span], near.ids[span], strict=True)) == inside


def assert_same(got: SearchResult, expected: SearchResult) -> None:
    np.testing.assert_array_equal(got.distances, expected.distances)
    np.testing.assert_array_equal(got.ids, expected.ids)


@every_engine
def test_hand_made(engine: str) -> None:
    #                                          distance to 1111: 2, 0, 4, 2, 0
    database = pack(np.array([[1, 1, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0], [0, 1, 0, 1], [1, 1, 1, 1]]))
    index = make_index(engine, database, bits=4)
    query = pack(np.ones((1, 4)))
    distances, ids = index.search(query, k=3)
    assert distances.tolist() == [[0, 0, 2]]
    assert ids.tolist() == [[1, 4, 0]]
    lims, distances, ids = index.search_radius(query, radius=2)
    assert lims.tolist() == [0, 4]
    assert distances.tolist() == [0, 0, 2, 2]
    assert ids.tolist() == [1, 4, 0, 3]


@every_engine
@every_width
def test_equals_brute_force(engine: str, bits: int) -> None:
    check(engine, random_codes(7, bits, seed=1), random_codes(300, bits), bits, k=10, radius=bits // 2)
    check(engine, random_codes(3, bits, seed=1), collapsed_codes(300, bits, 5), bits, k=7, radius=bits)


@every_engine
@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(0, 400),
    bits=st.sampled_from([4, 9, 16, 70]),
    distinct=st.integers(1, 6),
    k=st.integers(1, 420),
    radius=st.integers(0, 4),
    seed=st.integers(0, 99),
)
def test_collapsed_codes(
    engine: str, n: int, bits: int, distinct: int, k: int, radius: int, seed: int
) -> None:
    database, queries = collapsed_codes(n, bits, distinct, seed), collapsed_codes(3, bits, distinct, seed)
    check(engine, queries, database, bits, k, radius)


@every_engine
def test_k_past_the_end_gives_every_item_once(engine: str) -> None:
    index = make_index(engine, collapsed_codes(50, 32, 3), bits=32)
    distances, ids = index.search(random_codes(2, 32), k=10**9)
    assert distances.shape == (2, 50)
    assert np.array_equal(np.sort(ids, axis=1), np.tile(np.arange(50), (2, 1)))


@every_engine
def test_empty_index_and_empty_batch(engine: str) -> None:
    empty = ENGINES[engine].Index(12)
    assert len(empty) == 0
    distances, ids = empty.search(random_codes(2, 12), k=5)
    assert distances.shape == ids.shape == (2, 0)
    assert empty.search_radius(random_codes(2, 12), radius=12).lims.tolist() == [0, 0, 0]
    full = make_index(engine, random_codes(9, 12), bits=12)
    assert full.search(random_codes(0, 12), k=5).ids.shape == (0, 5)
    assert full.search_radius(random_codes(0, 12), radius=12).lims.tolist() == [0]


@every_engine
def test_adding_in_parts_equals_adding_at_once(engine: str) -> None:
    codes, queries = collapsed_codes(90, 20, 4), random_codes(4, 20)
    parts = ENGINES[engine].Index(20)
    for part in (codes[:0], codes[:40], codes[40:41], codes[41:]):
        parts.add(part)
        parts.search(queries, k=3)  # a search between two additions changes nothing
    assert len(parts) == 90
    whole = make_index(engine, codes, bits=20)
    assert_same(parts.search(queries, 30), whole.search(queries, 30))


@every_engine
def test_codes_are_copied(engine: str) -> None:
    codes = random_codes(20, 16)
    index = make_index(engine, codes, bits=16)
    query = codes[3:4].copy()
    codes[:] = 0
    assert index.search(query, k=1).distances.tolist() == [[0]]


@every_engine
@pytest.mark.parametrize("k", [0, -1, 1.0, True, "3"])
def test_refuses_k(engine: str, k: Any) -> None:
    index = make_index(engine, random_codes(5, 16), bits=16)
    with pytest.raises(ConfigError, match=r"^k is a number of neighbours, at least 1, got "):
        index.search(random_codes(1, 16), k)


@every_engine
@pytest.mark.parametrize("radius", [-1, 17, 2.0, False])
def test_refuses_radius(engine: str, radius: Any) -> None:
    index = make_index(engine, random_codes(5, 16), bits=16)
    with pytest.raises(ConfigError, match=r"^a radius is a whole number of bits in 0\.\.16, got "):
        index.search_radius(random_codes(1, 16), radius)


@every_engine
@pytest.mark.parametrize("bits", [3, 1025, 8.0])
def test_refuses_bits(engine: str, bits: Any) -> None:
    with pytest.raises(ConfigError, match=r"in 4\.\.1024"):
        ENGINES[engine].Index(bits)


@every_engine
@pytest.mark.parametrize(
    "wrong",
    [
        random_codes(2, 24),
        random_codes(2, 16),  # as wide in bytes as 12 bits, but bits are set where padding must be 0
        random_codes(2, 12)[0],
        random_codes(2, 12).astype(np.int64),
    ],
    ids=["wider", "padding", "one-dimensional", "dtype"],
)
def test_refuses_codes_of_another_width(engine: str, wrong: Codes) -> None:
    index = make_index(engine, random_codes(5, 12), bits=12)
    for call in (index.add, lambda q: index.search(q, 1), lambda q: index.search_radius(q, 1)):
        with pytest.raises(CodeMismatchError):
            call(wrong)
    assert len(index) == 5


def test_unknown_engine_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="unknown engine 'fais'; did you mean 'faiss'"):
        make_index("fais", random_codes(1, 8), bits=8)


class Contrary:
    """A faiss that is right about distances and picks the worst of equally distant items."""

    def __init__(self, real: Any, codes: Codes) -> None:
        self._codes, self.xb, self.ntotal = codes, real.xb, real.ntotal

    def search(self, queries: Codes, k: int) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        order = [sorted(ranking(q, self._codes), key=lambda pair: (pair[0], -pair[1]))[:k] for q in queries]
        pairs = np.array(order)
        return pairs[:, :, 0].astype(np.int32), pairs[:, :, 1]


@pytest.mark.parametrize("block", [16, 1 << 16])
@pytest.mark.parametrize("distinct", [1, 3, 40, 600])
def test_faiss_is_not_trusted_with_ties(monkeypatch: pytest.MonkeyPatch, distinct: int, block: int) -> None:
    monkeypatch.setattr(faiss_engine, "_BLOCK", block)
    database, queries = collapsed_codes(600, 16, distinct), random_codes(8, 16, seed=5)
    index = faiss_engine.Index(bits=16)
    index.add(database)
    monkeypatch.setattr(index, "_faiss", Contrary(index._faiss, database))
    for k in (1, 10, 100, 299, 600):
        assert_same(index.search(queries, k), make_index("exact", database, bits=16).search(queries, k))


def test_faiss_runs_on_one_thread_and_puts_the_setting_back(monkeypatch: pytest.MonkeyPatch) -> None:
    index = make_index("faiss", random_codes(5, 16), bits=16)
    set_threads, before = faiss.omp_set_num_threads, faiss.omp_get_max_threads()
    seen: list[int] = []

    def spy(n: int) -> None:
        seen.append(n)
        set_threads(n)

    set_threads(3)
    try:
        monkeypatch.setattr(faiss, "omp_set_num_threads", spy)
        index.search(random_codes(1, 16), k=1)
        index.search_radius(random_codes(1, 16), radius=1)
        assert seen == [1, 3, 1, 3]
        assert faiss.omp_get_max_threads() == 3
    finally:
        set_threads(before)
