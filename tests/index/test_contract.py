"""One contract for every engine: brute force decides, and ties are in order of id."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from anglehash.codes import Codes, pack
from anglehash.errors import CodeMismatchError, ConfigError, DataError
from anglehash.index import ENGINES, RadiusResult, SearchResult, make_index, multi_index
from anglehash.index import faiss as faiss_engine

every_engine = pytest.mark.parametrize("engine", [*ENGINES, "multi-index, built"], indirect=True)
every_width = pytest.mark.parametrize("bits", [4, 8, 12, 63, 64, 65, 128, 1000, 1024])


@pytest.fixture(scope="module")
def engine(request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of an engine; one that builds only what pays is also made to build at every search."""
    name = str(request.param).split(",")[0]
    with pytest.MonkeyPatch.context() as patch:
        if name != request.param:
            for setting, value in (("FEW", 0), ("EARLY", -1), ("PAYS", 0)):
                patch.setattr(multi_index, setting, value)
        yield name


def random_codes(n: int, bits: int, seed: int = 0) -> Codes:
    return pack(np.random.default_rng(seed).normal(size=(n, bits)))


def collapsed_codes(n: int, bits: int, distinct: int, seed: int = 0) -> Codes:
    """Codes as learned heads give them: few distinct ones, each many times."""
    return random_codes(distinct, bits, seed)[np.random.default_rng(seed).integers(0, distinct, n)]


SHAPES = ["random", "clustered", "collapsed", "all equal", "one bit apart", "all distinct"]


def codes_of(shape: str, n: int, bits: int, rng: np.random.Generator) -> Codes:
    """Codes as heads give them, and as no head would."""
    fixed = np.random.default_rng(0).random((20, bits)) < 0.5
    if shape == "random":
        return pack(rng.random((n, bits)) < 0.5)
    if shape == "clustered":
        return pack(fixed[rng.integers(0, 20, n)] ^ (rng.random((n, bits)) < 0.06))
    if shape == "collapsed":
        return pack(fixed[rng.integers(0, 20, n)])
    if shape == "all equal":
        return pack(np.repeat(fixed[:1], n, axis=0))
    if shape == "one bit apart":
        return pack(fixed[:1] ^ np.eye(bits, dtype=np.bool_)[rng.integers(0, bits, n)])
    counted = (np.arange(n)[:, None] >> np.arange(bits)[None] % 40) & 1  # neighbours share most bits
    return pack(counted)


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


def pairs_of(found: RadiusResult, row: int) -> list[tuple[int, int]]:
    span = slice(found.lims[row], found.lims[row + 1])
    return list(zip(found.distances[span].tolist(), found.ids[span].tolist(), strict=True))


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


@every_engine
def test_removed_items_do_not_come_and_the_others_keep_their_ids(engine: str) -> None:
    index = make_index(
        engine, pack(np.array([[1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 1, 1], [0, 1, 1, 1]])), bits=4
    )
    index.remove(np.array([2, 1]))
    index.remove(np.array([2]))  # it is out already, and stays out
    assert (len(index), index.rows) == (2, 4)
    index.add(pack(np.array([[1, 1, 1, 0]])))
    assert (len(index), index.rows) == (3, 5)
    distances, ids = index.search(pack(np.ones((1, 4))), k=5)
    assert distances.tolist() == [[0, 1, 1]]
    assert ids.tolist() == [[0, 3, 4]]
    assert index.search_radius(pack(np.ones((1, 4))), radius=0).ids.tolist() == [0]
    index.remove(np.ones(5, dtype=np.bool_))
    assert len(index) == 0
    assert index.search(pack(np.ones((1, 4))), k=5).ids.shape == (1, 0)
    assert index.search_radius(pack(np.ones((1, 4))), radius=4).lims.tolist() == [0, 0]


@every_engine
def test_a_filter_comes_before_the_k_nearest(engine: str) -> None:
    index = make_index(
        engine, pack(np.array([[1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]])), bits=4
    )
    query = pack(np.ones((1, 4)))
    for within in (np.array([3, 1]), np.array([False, True, False, True])):
        assert index.search(query, k=1, within=within).ids.tolist() == [[1]]
        assert index.search(query, k=9, within=within).ids.tolist() == [[1, 3]]
        assert index.search_radius(query, radius=3, within=within).ids.tolist() == [1]
    index.remove(np.array([1]))
    assert index.search(query, k=9, within=np.array([3, 1])).ids.tolist() == [[3]]
    assert index.search(query, k=9, within=np.array([], dtype=np.int64)).ids.shape == (1, 0)
    assert index.search_radius(query, radius=4, within=np.zeros(4, np.bool_)).lims.tolist() == [0, 0]


@every_engine
def test_radius_and_k_together(engine: str) -> None:
    index = make_index(
        engine, pack(np.array([[1, 1, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0], [1, 1, 1, 0]])), bits=4
    )
    queries = pack(np.array([[1, 1, 1, 1], [0, 0, 0, 0], [0, 0, 0, 1]]))
    lims, distances, ids = index.search_radius(queries, radius=1, k=1)
    assert lims.tolist() == [0, 1, 2, 3]
    assert distances.tolist() == [0, 0, 1]
    assert ids.tolist() == [1, 2, 2]
    lims, distances, ids = index.search_radius(queries, radius=2, k=3)
    assert lims.tolist() == [0, 3, 5, 6]  # 1111: 1111, 1110, 1100; 0000: 0000, 1100; 0001: 0000
    assert ids.tolist() == [1, 3, 0, 2, 0, 2]
    with pytest.raises(ConfigError, match=r"^k is a number of neighbours"):
        index.search_radius(queries, radius=2, k=0)


@every_engine
@settings(max_examples=40, deadline=None)
@given(
    data=st.data(),
    bits=st.sampled_from([4, 11, 64, 90]),
    shape=st.sampled_from(SHAPES),
    seed=st.integers(0, 99),
)
def test_changes_equal_brute_force_on_what_is_there(
    engine: str, data: st.DataObject, bits: int, shape: str, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    index, all_codes, there = (
        ENGINES[engine].Index(bits),
        codes_of(shape, 0, bits, rng),
        np.zeros(0, np.bool_),
    )
    for _ in range(data.draw(st.integers(1, 5))):
        new = codes_of(shape, data.draw(st.integers(0, 40)), bits, rng)
        index.add(new)
        all_codes, there = np.concatenate([all_codes, new]), np.append(there, np.ones(len(new), np.bool_))
        out = rng.random(len(there)) < data.draw(st.sampled_from([0, 0.1, 0.9]))
        index.remove(out if data.draw(st.booleans()) else np.flatnonzero(out))
        there &= ~out
        assert (len(index), index.rows) == (there.sum(), len(there))
        within = rng.random(len(there)) < data.draw(st.sampled_from([0, 0.1, 0.9, 1]))
        queries, k = codes_of(shape, 2, bits, rng), data.draw(st.integers(1, 50))
        radius = data.draw(st.integers(0, bits))
        for rows, given_rows in ((there, None), (there & within, within)):
            found = index.search(queries, k, within=given_rows)
            near = index.search_radius(queries, radius, within=given_rows)
            both = index.search_radius(queries, radius, k=k, within=given_rows)
            for row, query in enumerate(queries):
                truth = [pair for pair in ranking(query, all_codes) if rows[pair[1]]]
                inside = [pair for pair in truth if pair[0] <= radius]
                assert list(zip(found.distances[row], found.ids[row], strict=True)) == truth[:k]
                assert pairs_of(near, row) == inside
                assert pairs_of(both, row) == inside[:k]


@every_engine
@pytest.mark.parametrize("shape", SHAPES)
def test_many_codes(engine: str, shape: str) -> None:
    rng = np.random.default_rng(3)
    database = codes_of(shape, 50_000, 64, rng)
    queries = np.concatenate([database[:5], codes_of(shape, 3, 64, rng), random_codes(2, 64)])
    index = make_index(engine, database, bits=64)
    unequal = np.array([np.unpackbits(query ^ database, axis=1).sum(axis=1) for query in queries])
    order = np.argsort(unequal, axis=1, kind="stable")
    for k in (1, 100, 2000):
        found = index.search(queries, k)
        np.testing.assert_array_equal(found.ids, order[:, :k])
        np.testing.assert_array_equal(found.distances, np.take_along_axis(unequal, order[:, :k], axis=1))
    for radius in (0, 2, 20):
        near = index.search_radius(queries, radius)
        np.testing.assert_array_equal(np.diff(near.lims), (unequal <= radius).sum(axis=1))
        expected = [row[: (own <= radius).sum()] for row, own in zip(order, unequal, strict=True)]
        np.testing.assert_array_equal(near.ids, np.concatenate(expected))


@every_engine
@pytest.mark.parametrize(
    "wrong",
    [np.array([5]), np.array([-1]), np.zeros(4, np.bool_), np.array([[1]]), np.array([1.0])],
    ids=["past the end", "negative", "short mask", "two-dimensional", "dtype"],
)
def test_refuses_rows(engine: str, wrong: Any) -> None:
    index = make_index(engine, random_codes(5, 16), bits=16)
    for call in (
        index.remove,
        lambda rows: index.search(random_codes(1, 16), 1, within=rows),
        lambda rows: index.search_radius(random_codes(1, 16), 1, within=rows),
    ):
        with pytest.raises(
            DataError, match=r"^(rows are a mask of 5 or row numbers|5 rows were ever added), got "
        ):
            call(wrong)
    assert len(index) == 5


@every_engine
def test_tells_its_memory(engine: str) -> None:
    index = ENGINES[engine].Index(64)
    index.add(random_codes(20_000, 64))
    index.search(random_codes(1, 64), k=1)
    assert 8 * 20_000 <= index.nbytes <= 8 * 8 * 20_000


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
