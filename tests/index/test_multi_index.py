"""What the contract tests of all engines are too small to reach: tables, budgets, rebuilding, threads."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from threading import Event
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from anglehash.codes import Codes, pack
from anglehash.errors import DataError
from anglehash.evaluation.kernels import kernel
from anglehash.index import exact, multi_index
from anglehash.index._sort_keys import ROW, SHIFT
from anglehash.index.multi_index import Index, _compiled, _grouping
from anglehash.index.multi_index._compiled import Built
from anglehash.index.multi_index._grouping import grouped, grouped_chunks, joined
from anglehash.index.multi_index._groups import Groups, one_each, places, words_of
from anglehash.index.multi_index._kernels import bits_between, distances, near, offer
from anglehash.index.multi_index._nearest import probe
from anglehash.index.multi_index._plain import Chunk
from anglehash.index.multi_index._tables import MOST_MASKS, MOST_PARTS, WIDEST, parts_of, rings_of, tables_of

NONE = np.empty(0, dtype=np.bool_)


@pytest.fixture(autouse=True, scope="module")
def _no_code_too_few() -> Iterator[None]:
    """Tables from the first code and the first search on: small sets go through them too."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("FEW", 0), ("EARLY", -1), ("PAYS", 0)):
            patch.setattr(multi_index, name, value)
        yield


def built(index: Index) -> Built:
    """What the index has built."""
    assert index._view.built is not None
    return index._view.built


def codes_near(n: int, bits: int, flipped: float, seed: int = 0) -> Codes:
    """Codes around five centres; half of the bits flipped gives random ones, none five distinct ones."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(1).random((5, bits)) < 0.5
    return pack(centres[rng.integers(0, 5, n)] ^ (rng.random((n, bits)) < flipped))


def value(code: NDArray[np.uint8], bits: int, first: int, width: int) -> int:
    """The definition of a part: a slice of the bits, the first the highest."""
    return int("".join(map(str, np.unpackbits(code, count=bits)[first : first + width])), 2)


def assert_equals_exact(index: Index, oracle: exact.Index, queries: Codes, k: int, radius: int) -> None:
    np.testing.assert_array_equal(index.search(queries, k), oracle.search(queries, k))
    for most in (None, k):
        found, truth = (engine.search_radius(queries, radius, k=most) for engine in (index, oracle))
        for own, expected in zip(found, truth, strict=True):
            np.testing.assert_array_equal(own, expected)


# --- the small steps, by hand and by definition


@settings(max_examples=60, deadline=None)
@given(data=st.data(), bits=st.sampled_from([4, 12, 64, 65, 128, 200]), seed=st.integers(0, 99))
def test_a_part_is_a_slice_of_the_bits(data: st.DataObject, bits: int, seed: int) -> None:
    codes = codes_near(3, bits, 0.5, seed)
    first = data.draw(st.integers(0, bits - 1))
    width = data.draw(st.integers(1, min(WIDEST, bits - first)))
    words = words_of(codes).T.copy()
    for number, code in enumerate(codes):
        assert int(one_part(words, number, first, width)) == value(code, bits, first, width)


@kernel
def one_part(words: NDArray[np.uint64], number: int, first: int, width: int) -> int:
    return bits_between(words, number, first, width)  # type: ignore[no-any-return]


@pytest.mark.parametrize("bits", [8, 64, 130])
def test_distances_count_unequal_bits(bits: int) -> None:
    codes = codes_near(301, bits, 0.5)
    unequal = np.unpackbits(codes[0] ^ codes, axis=1).sum(axis=1)
    words, out = words_of(codes), np.zeros(300, dtype=np.uint16)
    distances(words[0], words.T.copy(), 1, 301, out)
    np.testing.assert_array_equal(out, unequal[1:])
    candidates, away = np.array([7, 0, 30, 7], dtype=np.int32), np.zeros(4, dtype=np.int32)
    reach = int(unequal[7])
    kept = near_ones(words[0], words.T.copy(), candidates, reach, away)
    expected = [code for code in (7, 0, 30, 7) if unequal[code] <= reach]
    assert candidates[:kept].tolist() == expected
    assert away[:kept].tolist() == unequal[expected].tolist()


@kernel
def near_ones(
    query: NDArray[np.uint64],
    codes: NDArray[np.uint64],
    candidates: NDArray[np.int32],
    reach: int,
    out: NDArray[np.int32],
) -> int:
    return near(query, codes, candidates, len(candidates), reach, out)  # type: ignore[no-any-return]


@settings(max_examples=60, deadline=None)
@given(offers=st.lists(st.integers(0, 5), max_size=30), k=st.integers(1, 10), seed=st.integers(0, 99))
def test_a_heap_keeps_the_first_in_distance_and_id(offers: list[int], k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 4, len(offers))  # rows of each code
    shuffled = rng.permutation(int(sizes.sum()))
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
    rows = np.concatenate([[0], *(np.sort(shuffled[a:b]) for a, b in pairwise(starts))])
    allowed = rng.random(len(shuffled)) < 0.7
    for mask in (NONE, allowed):
        heap = np.full(k, 6 << SHIFT, dtype=np.int64)
        offer_all(heap, np.array(offers, dtype=np.int64), starts, rows[1:].astype(np.int32), mask)
        pairs = [
            (distance, int(row))
            for code, distance in enumerate(offers)
            for row in rows[1:][starts[code] : starts[code + 1]]
            if mask is NONE or mask[int(row)]
        ]
        kept = [(int(key) >> SHIFT, int(key) & ROW) for key in np.sort(heap) if key < 6 << SHIFT]
        assert kept == sorted(pairs)[:k]


@kernel
def offer_all(
    heap: NDArray[np.int64],
    offers: NDArray[np.int64],
    starts: NDArray[np.int32],
    rows: NDArray[np.int32],
    allowed: NDArray[np.bool_],
) -> None:
    for code in range(len(offers)):
        offer(heap, offers[code], code, starts, rows, allowed)


# --- groups and tables


def test_groups_hold_each_row_under_its_code() -> None:
    codes = codes_near(400, 70, 0.01)
    groups = grouped(words_of(codes).T.copy(), np.arange(400, dtype=np.int32))
    assert len(np.unique(codes, axis=0)) == groups.codes.shape[1] < 400
    assert sorted(groups.rows.tolist()) == list(range(400))
    np.testing.assert_array_equal(groups.codes[:, places(groups)], words_of(codes)[groups.rows].T)
    columns = groups.codes.T.tolist()
    assert columns == sorted(columns)
    for start, end in pairwise(groups.starts):
        assert (np.diff(groups.rows[start:end]) > 0).all()


@pytest.mark.parametrize("bits", [40, 130])
@pytest.mark.parametrize("slice_", [7, 10**6])
def test_grouping_in_slices_and_joining_equal_grouping_at_once(
    bits: int, slice_: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_grouping, "SLICE", slice_)
    words = words_of(codes_near(300, bits, 0.02)).T.copy()
    rows, there = np.arange(300, dtype=np.int32), np.random.default_rng(0).random(300) < 0.5
    first = grouped(words[:, :200].copy(), rows[:200])
    second = one_each(words[:, 200:], rows[200:])
    chunks = [Chunk(words[:, :120], 0), Chunk(words[:, 120:], 120)]
    for mask, left in ((NONE, slice(None)), (there, there), (~(rows >= 0), [])):
        whole = grouped(words[:, left], rows[left])
        for made in (joined(first, second, mask), grouped_chunks(chunks, mask)):
            for own, expected in zip(made, whole, strict=True):
                np.testing.assert_array_equal(own, expected)
            assert made.codes.flags.c_contiguous


def test_slices_share_out_all_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_grouping, "SLICE", 100)
    words = np.random.default_rng(0).integers(0, 2**64, 1000, dtype=np.uint64)
    slices = list(_grouping._slices([words[:700], words[700:]]))
    assert (int(slices[0].first), int(slices[-1].last)) == (0, 2**64 - 1)
    assert all(int(a.last) + 1 == int(b.first) for a, b in pairwise(slices))
    assert [len(part.of(words)) for part in slices] == pytest.approx([100] * 10, abs=2)
    same = np.full(1000, 5, np.uint64)  # cannot be shared out
    assert [len(part.of(same)) for part in _grouping._slices([same])] == [0, 1000]


@pytest.mark.parametrize("bits", [4, 12, 64, 100, 1024])
def test_a_table_lists_each_code_under_its_value(bits: int) -> None:
    codes = np.unique(codes_near(500, bits, 0.1), axis=0)  # in ascending order, as groups are
    tables = tables_of(words_of(codes).T.copy(), bits)
    parts = list(zip(tables.first.tolist(), tables.width.tolist(), strict=True))
    assert parts == parts_of(bits, len(codes))
    lists = [np.arange(len(codes)), *tables.lists]
    for base, listed, (first, width) in zip(tables.bases, lists, parts, strict=True):
        ends = tables.offsets[base : base + (1 << width) + 1]
        assert sorted(listed.tolist()) == list(range(len(codes)))
        for number in range(1 << width):
            inside = listed[ends[number] : ends[number + 1]]
            assert all(value(codes[code], bits, first, width) == number for code in inside)


@given(bits=st.integers(4, 1024), count=st.integers(1, 10**9))
def test_parts_do_not_overlap_and_cover_all_bits_if_there_may_be_so_many(bits: int, count: int) -> None:
    parts = parts_of(bits, count)
    assert len(parts) <= MOST_PARTS
    assert all(1 <= width <= WIDEST for _, width in parts)
    ends = [first + width for first, width in parts]
    assert [first for first, _ in parts] == [0, *ends[:-1]]
    assert ends[-1] == bits if len(parts) < MOST_PARTS else ends[-1] <= bits


def test_folds_lie_in_the_order_of_their_lists_where_there_is_room() -> None:
    codes = words_of(np.unique(codes_near(500, 100, 0.1), axis=0)).T.copy()
    small = tables_of(codes, 100)
    assert small.folds.shape == (len(small.first) - 1, 0)
    room = small.nbytes + 2 * small.lists.size
    assert tables_of(codes, 100, room=room - 1).folds.size == 0
    tables = tables_of(codes, 100, room=room)
    assert tables.nbytes == room
    parity = np.bitwise_xor.reduce(codes.byteswap().view(np.uint16).reshape(2, -1, 4), axis=(0, 2)).byteswap()
    for folds, listed in zip(tables.folds, tables.lists, strict=True):
        np.testing.assert_array_equal(folds, parity[listed])
    differing = np.bitwise_count(codes[:, :1] ^ codes).sum(axis=0)
    assert (np.bitwise_count(parity[0] ^ parity) <= differing).all()


@pytest.mark.parametrize("width", [1, 5, 16, 22])
def test_a_ring_holds_every_value_so_many_bits_away(width: int) -> None:
    rings = rings_of(width)
    assert 1 < sum(map(len, rings)) <= MOST_MASKS
    for size, ring in enumerate(rings):
        assert sorted(ring) == [v for v in range(1 << width) if v.bit_count() == size]


# --- the engine


@settings(max_examples=60, deadline=None)
@given(
    bits=st.sampled_from([4, 9, 20, 64, 65, 128, 1024]),
    n=st.integers(1, 1500),
    flipped=st.sampled_from([0, 0.01, 0.05, 0.5]),
    k=st.sampled_from([1, 7, 100, 2000]),
    radius=st.integers(0, 6),
    touch=st.sampled_from([1, 30, 10**9]),
    memory=st.sampled_from([0, 10**9]),  # without folds, and with them
)
def test_equals_exact_through_tables_whatever_the_budget(
    bits: int, n: int, flipped: float, k: int, radius: int, touch: int, memory: int
) -> None:
    codes = codes_near(n, bits, flipped, seed=n)
    queries = np.concatenate([codes[:3], codes_near(3, bits, 0.1, seed=n + 1)])
    oracle, index = exact.Index(bits), Index(bits)
    oracle.add(codes)
    index.add(codes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_compiled, "TOUCH", touch)
        patch.setattr(_compiled, "MEMORY", memory)
        assert_equals_exact(index, oracle, queries, k, min(radius, bits))
        index._view = index._view._replace(
            built=built(index)._replace(most=10**9)
        )  # also where tables do not pay
        assert_equals_exact(index, oracle, queries, k, min(radius, bits))
    tables = built(index).tables
    assert len(tables.first)
    assert tables.folds.size == (tables.lists.size if memory else 0)


def test_a_query_without_budget_is_left_to_a_scan_and_one_with_plenty_is_not() -> None:
    words = words_of(np.unique(codes_near(3000, 64, 0.05), axis=0))
    groups = one_each(words.T, np.arange(len(words), dtype=np.int32))
    tables = tables_of(groups.codes, 64)
    for budget, uncertain in ((0, [0, 1]), (10**6, [])):
        heaps = np.full((2, 5), 65 << SHIFT, dtype=np.int64)
        left, radii, touches = probe(words[:2].copy(), groups, tables, NONE, heaps, budget)
        assert left.tolist() == uncertain
        assert radii.shape == (2, len(tables.first))
        assert (touches == 0) == (budget == 0)
    assert (heaps >> SHIFT).min(axis=1).tolist() == [0, 0]
    reached = (radii + 1).sum(axis=1) - 1  # all codes within this distance have been met
    assert (reached >= (heaps >> SHIFT).max(axis=1)).all()
    assert touches < 2 * len(words)


def test_tables_are_used_where_they_save_work() -> None:
    for flipped, least, most in ((0.02, 10, 10**10), (0.5, 0, 1)):
        index = Index(64)
        index.add(codes_near(30_000, 64, flipped))
        index.search(codes_near(1, 64, flipped), k=1)
        assert least <= built(index).most <= most


def test_recent_codes_are_listed_until_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multi_index, "FEW", 10)
    codes, query = codes_near(100, 32, 0.05), codes_near(1, 32, 0.05, seed=9)
    index, oracle, listed = Index(32), exact.Index(32), []
    for start in range(0, 100, 6):
        for engine in (index, oracle):
            engine.add(codes[start : start + 6])
        assert_equals_exact(index, oracle, query, 20, 3)
        listed.append(index._view.unsorted)
    assert listed[:4] == [6, 0, 6, 0]


def test_removed_rows_leave_the_groups_when_there_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multi_index, "FEW", 10)
    codes, query = codes_near(100, 32, 0.05), codes_near(1, 32, 0.05, seed=9)
    index, oracle = Index(32), exact.Index(32)
    held = []
    for engine in (index, oracle):
        engine.add(codes)
        engine.search(query, k=1)
    for rows in (np.arange(8), np.arange(13), np.arange(30), np.array([40])):
        for engine in (index, oracle):
            engine.remove(rows)
        assert_equals_exact(index, oracle, query, 20, 3)
        assert len(index) == len(oracle)
        held.append(len(built(index).main.rows))
    assert held == [100, 87, 70, 70]
    index.remove(np.arange(30))  # gone from the groups, and counted once
    assert (len(index), index.rows) == (69, 100)


@pytest.mark.parametrize("share", [0.001, 0.02, 0.5])
@pytest.mark.parametrize("is_built", [False, True])
def test_few_and_many_rows_within(share: float, is_built: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multi_index, "FEW", 200 if is_built else 10_000)
    codes, rng = codes_near(5000, 64, 0.05), np.random.default_rng(0)
    index, oracle = Index(64), exact.Index(64)
    for part in (codes[:4900], codes[4900:]):  # the second stays in the list of recent codes
        index.add(part)
        oracle.add(part)
        index.search(codes[:1], k=1)
    within = rng.permutation(5000)[: int(5000 * share)]
    for k in (1, 20, 5000):
        found, truth = (engine.search(codes[:4], k, within=within) for engine in (index, oracle))
        np.testing.assert_array_equal(found, truth)
    assert (index._view.built is not None) == is_built
    assert index._view.unsorted == (100 if is_built else 5000)


def test_memory_is_less_than_four_times_the_packed_codes() -> None:
    codes = np.random.default_rng(0).integers(
        0, 256, (1_000_000, 8), dtype=np.uint8
    )  # distinct: the worst case
    index = Index(64)
    index.add(codes)
    index.search(codes[:1], k=1)
    assert len(built(index).main.rows) == 1_000_000
    assert index.nbytes < 4 * codes.nbytes


def test_refuses_more_rows_than_it_can_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multi_index, "MOST_ROWS", 10)
    index = Index(8)
    index.add(codes_near(8, 8, 0.5))
    with pytest.raises(DataError, match=r"^an index holds 10 rows, got 11: use several"):
        index.add(codes_near(3, 8, 0.5))
    assert (len(index), index.rows) == (8, 8)


def test_nothing_is_built_for_a_few_searches_and_then_beside_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multi_index, "EARLY", 10)
    monkeypatch.setattr(multi_index, "PAYS", 100)
    codes, queries = codes_near(3000, 64, 0.02), codes_near(4, 64, 0.02, seed=9)
    index, oracle = Index(64), exact.Index(64)
    for engine in (index, oracle):
        engine.add(codes)
    begun, may_go_on = Event(), Event()
    real = _compiled.built

    def slowly(*given: Any, **options: Any) -> Built:
        begun.set()
        assert may_go_on.wait(60)
        return real(*given, **options)

    monkeypatch.setattr(_compiled, "built", slowly)
    for _ in range(2):
        assert_equals_exact(index, oracle, queries[:1], 20, 3)  # three searches
    assert not index._builder.is_alive()
    assert_equals_exact(index, oracle, queries, 20, 3)
    assert begun.wait(60)
    for engine in (index, oracle):  # all of it while the index is being built
        engine.remove(np.arange(0, 3000, 7))
        engine.add(codes[:50])
        engine.remove(np.array([3001]))
    assert_equals_exact(index, oracle, queries, 20, 3)
    assert index._view.built is None
    may_go_on.set()
    index._builder.join()
    assert len(built(index).main.rows) == 3000
    assert (index._view.unsorted, index._view.gone, len(index)) == (50, 430, 2620)
    assert_equals_exact(index, oracle, queries, 20, 3)


def test_a_batch_that_is_worth_it_waits_until_all_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multi_index, "EARLY", 10)
    monkeypatch.setattr(multi_index, "PAYS", 100)
    index, codes = Index(64), codes_near(3000, 64, 0.02)
    index.add(codes)
    index.search(codes[:9], 5)
    assert index._view.built is None
    index.search(codes[:100], 5)
    assert len(built(index).main.rows) == 3000


def test_where_building_fails_scans_go_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(multi_index, "PAYS", 10**9)

    def fail(*given: Any, **options: Any) -> Built:
        raise MemoryError

    monkeypatch.setattr(_compiled, "built", fail)
    index, oracle, codes = Index(64), exact.Index(64), codes_near(300, 64, 0.02)
    for engine in (index, oracle):
        engine.add(codes)
    assert_equals_exact(index, oracle, codes[:2], 20, 3)
    index._builder.join()
    assert "searches go on more slowly" in caplog.text


def test_adding_one_by_one_leaves_few_chunks() -> None:
    index, codes = Index(16), codes_near(300, 16, 0.5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(multi_index, "FEW", 1000)
        for number in range(300):
            index.add(codes[number : number + 1])
            assert index.search(codes[number : number + 1], 1).distances.tolist() == [[0]]
    sizes = [len(chunk) for chunk in index._view.chunks]
    assert sum(sizes) == 300
    assert all(one > 2 * other for one, other in pairwise(sizes))
    np.testing.assert_array_equal(
        np.concatenate([chunk.codes for chunk in index._view.chunks], axis=1), words_of(codes).T
    )


@pytest.mark.parametrize("patience", [0, 10**9], ids=["built at once", "built beside"])
def test_searches_meanwhile_see_the_index_before_or_after_a_change(
    patience: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(multi_index, "FEW", 20)
    monkeypatch.setattr(multi_index, "PAYS", patience)
    index, code = Index(16), pack(np.ones((1, 16)))
    index.add(codes_near(50, 16, 0.5))

    def change() -> None:
        for number in range(200):
            index.add(code)
            if number % 3 == 0:
                index.remove(np.array([50 + number]))

    def look() -> list[list[int]]:
        return [index.search_radius(code, 0).ids.tolist() for _ in range(100)]

    with ThreadPoolExecutor(3) as pool:
        changing, *looking = pool.submit(change), pool.submit(look), pool.submit(look)
        changing.result()
        seen = [ids for looked in looking for ids in looked.result()]
    stay = [50 + number for number in range(200) if number % 3]
    for ids in seen:
        added = max(ids, default=49)
        # one more than stays may be there: it was added, and is not removed yet
        assert [i for i in ids if i >= 50 and i != added] == [i for i in stay if i < added]


def test_nothing_but_groups_is_kept_of_the_codes() -> None:
    index = Index(64)
    index.add(codes_near(1000, 64, 0.01))
    index.search(codes_near(1, 64, 0.01), k=1)
    assert isinstance(built(index).main, Groups)
    assert index._added == []
    assert index._view.chunks == ()
    assert index.nbytes == built(index).nbytes + index._view.recent.nbytes
