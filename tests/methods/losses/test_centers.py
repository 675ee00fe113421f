from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anglehash.errors import ConfigError
from anglehash.methods.losses.centers import Signs, different_bits, hadamard, hash_centers, minimum_distance

HADAMARD = [n for n in range(1, 1025) if hadamard(n) is not None]


def distances(centers: Signs) -> list[int]:
    """Of every pair, by counting."""
    pairs = [(a, b) for i, a in enumerate(centers) for b in centers[:i]]
    return [int((a != b).sum()) for a, b in pairs]


@pytest.mark.parametrize("order", HADAMARD)
def test_hadamard_rows_are_orthogonal(order: int) -> None:
    matrix = hadamard(order)
    assert matrix is not None
    assert set(np.unique(matrix).tolist()) <= {-1, 1}
    wide = matrix.astype(np.float32)  # whole numbers up to 1024: exact
    np.testing.assert_array_equal(wide @ wide.T, order * np.eye(order))


def test_the_orders_of_the_benchmark_are_known() -> None:
    assert {12, 16, 20, 24, 32, 40, 48, 64, 96, 128, 256, 512, 1024} <= set(HADAMARD)
    assert {28, 36, 14, 6, 3}.isdisjoint(HADAMARD)


def test_minimum_distance_and_different_bits_by_counting() -> None:
    rng = np.random.default_rng(0)
    for classes, bits in ((2, 4), (5, 9), (9, 30), (4, 40)):
        centers = rng.choice(np.array([-1, 1], dtype=np.int8), (classes, bits))
        columns = [tuple(column) for column in centers.T.tolist()]
        either_way = {min(column, tuple(-x for x in column)) for column in columns}
        assert minimum_distance(centers) == min(distances(centers))
        assert different_bits(centers) == len(set(columns))
        assert different_bits(centers, up_to_sign=True) == len(either_way)


ROWS = [(c, k) for k in (12, 16, 20, 24, 32, 48, 64, 128) for c in (2, 3, 10, 21, 80, 200) if c <= 2 * k]


@pytest.mark.parametrize(("classes", "bits"), ROWS)
@pytest.mark.parametrize("seed", [0, 1])
def test_hadamard_centers_are_half_the_bits_apart(classes: int, bits: int, seed: int) -> None:
    found = distances(hash_centers(classes, bits, seed))
    opposite = max(classes - bits, 0)
    assert sorted(found) == [bits // 2] * (len(found) - opposite) + [bits] * opposite


@pytest.mark.parametrize("bits", [12, 16, 24, 32, 48, 64, 128])
@pytest.mark.parametrize("classes", [10, 21, 200])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_bits_of_the_benchmark_are_no_copies_nor_opposites(bits: int, classes: int, seed: int) -> None:
    repeated = bits - different_bits(hash_centers(classes, bits, seed), up_to_sign=True)
    # the longest linear code here has 48 columns, and only 255 to choose from
    assert repeated <= (2 if (classes, bits) == (200, 48) else 0)


@pytest.mark.parametrize(
    ("classes", "bits", "order"), [(10, 28, 32), (40, 36, 40), (21, 100, 104), (10, 5, 8)]
)
def test_rows_of_a_larger_order_are_all_but_orthogonal(classes: int, bits: int, order: int) -> None:
    centers = hash_centers(classes, bits)
    # each dropped column changes a product of 0 by 1 (opposite rows, beyond the order, are not among these)
    products = (centers.astype(int) @ centers.T)[np.triu_indices(classes, k=1)]
    allowed = np.abs(products) <= order - bits
    assert (allowed | (products == -bits)).all()
    assert (~allowed).sum() <= max(classes - order, 0)


def test_few_classes_have_as_many_different_bits_as_there_can_be() -> None:
    for classes in (2, 3, 4):
        assert different_bits(hash_centers(classes, 64)) == 2**classes


SAMPLED = {  # (classes, bits): seed 0 as the docstring says, other seeds one less at most
    (80, 12): 4,
    (80, 16): 5,
    (80, 24): 9,
    (80, 32): 12,
    (200, 12): 3,
    (200, 16): 5,
    (200, 24): 8,
    (200, 32): 12,
    (200, 48): 19,
    (200, 64): 26,
    (1000, 12): 2,
    (1000, 16): 3,
    (1000, 24): 7,
    (1000, 32): 10,
    (1000, 48): 16,
    (1000, 64): 23,
}


@pytest.mark.parametrize(("classes", "bits"), SAMPLED)
def test_minimum_distance_of_sampled_centers(classes: int, bits: int) -> None:
    assert minimum_distance(hash_centers(classes, bits)) >= SAMPLED[classes, bits]
    assert minimum_distance(hash_centers(classes, bits, seed=7)) >= SAMPLED[classes, bits] - 1


@pytest.mark.parametrize(("classes", "bits"), [(10, 12), (10, 36), (10, 64), (21, 48), (80, 100)])
def test_sampled_centers_are_farther_than_bernoulli_ones(classes: int, bits: int) -> None:
    rng = np.random.default_rng(0)
    plain = [rng.choice(np.array([-1, 1], dtype=np.int8), (classes, bits)) for _ in range(20)]
    sampled = hash_centers(classes, bits, kind="sampled")
    assert minimum_distance(sampled) > max(minimum_distance(centers) for centers in plain)
    assert different_bits(sampled, up_to_sign=True) >= bits - 1


@given(st.integers(2, 300), st.integers(4, 200), st.integers(0, 2**32), st.sampled_from(["auto", "sampled"]))
@settings(max_examples=30, deadline=None)
def test_any_size_gives_codes_that_differ_while_there_are_enough(
    classes: int, bits: int, seed: int, kind: str
) -> None:
    centers = hash_centers(classes, bits, seed, kind=kind)
    assert centers.shape == (classes, bits)
    assert centers.dtype == np.int8
    assert set(np.unique(centers).tolist()) <= {-1, 1}
    assert len(np.unique(centers, axis=0)) == min(classes, 2**bits)


def test_more_classes_than_codes_share_them_equally() -> None:
    counts = np.unique(hash_centers(100, 5), axis=0, return_counts=True)[1]
    assert sorted(counts.tolist()) == [3] * 28 + [4] * 4


@pytest.mark.parametrize(("classes", "bits"), [(10, 32), (10, 36), (200, 32)])
def test_a_seed_gives_the_same_centers_again_and_another_seed_others(classes: int, bits: int) -> None:
    first = hash_centers(classes, bits, 3)
    np.testing.assert_array_equal(first, hash_centers(classes, bits, 3))
    assert (first != hash_centers(classes, bits, 4)).any()


@pytest.mark.parametrize(("classes", "bits"), [(2, 1024), (10, 1021), (1000, 1021), (1000, 499), (1000, 4)])
def test_is_quick(classes: int, bits: int) -> None:
    hash_centers(classes, bits, 1)
    started = time.process_time()
    hash_centers(classes, bits)
    assert time.process_time() - started < 3  # one second and room for a busy machine


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": 1, "bits": 8}, "classes must be a whole number >= 2"),
        ({"classes": 2, "bits": 3}, "bits must be a whole number in 4..1024"),
        ({"classes": 2, "bits": 8, "seed": -1}, "seed must be a whole number >= 0, got -1"),
        (
            {"classes": 2, "bits": 8, "kind": "sample"},
            "unknown kind of centers 'sample'; did you mean 'sampled'",
        ),
    ],
)
def test_refuses_other_settings(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        hash_centers(**options)
