from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from anglehash.methods.classical.cosdish import alternate, balanced, cosdish, flip_up, sampled_codes
from anglehash.methods.classical.pairs import similarity_between
from anglehash.models.heads.hash_head import logits_of

Matrix = NDArray[np.float64]


def signs(rng: np.random.Generator, *shape: int) -> Matrix:
    return np.where(rng.standard_normal(shape) > 0, 1.0, -1.0)


def objective(sample: Matrix, rest: Matrix, inside: Matrix, outside: Matrix) -> float:
    bits = sample.shape[1]
    return float(
        np.square(bits * inside - sample @ sample.T).sum() + np.square(bits * outside - rest @ sample.T).sum()
    )


@pytest.mark.parametrize("seed", range(5))
def test_flips_end_where_none_gains_and_near_the_best_of_all(seed: int) -> None:
    rng = np.random.default_rng(seed)
    r, c, start = rng.standard_normal((8, 8)), rng.standard_normal(8), signs(rng, 8)
    r = r + r.T

    def value(b: Matrix) -> float:
        return float(b @ r @ b + c @ b)

    found = flip_up(start, r, c)
    assert value(found) >= value(start)
    assert all(value(found) >= value(found * np.where(np.arange(8) == i, -1, 1)) - 1e-9 for i in range(8))
    values = [value(np.array(b)) for b in itertools.product([-1.0, 1.0], repeat=8)]
    assert value(found) >= np.quantile(values, 0.9)


@pytest.mark.parametrize("seed", range(5))
def test_updating_the_sample_lowers_the_objective(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = np.eye(3, dtype=bool)[rng.integers(0, 3, 12)]
    s = similarity_between(labels, labels[:5]).astype(np.float64)
    sample, rest = signs(rng, 5, 6), signs(rng, 7, 6)
    updated = sampled_codes(sample, rest, s[:5], s[5:])
    assert objective(updated, rest, s[:5], s[5:]) <= objective(sample, rest, s[:5], s[5:])
    again = sampled_codes(updated, rest, s[:5], s[5:])
    assert objective(again, rest, s[:5], s[5:]) <= objective(updated, rest, s[:5], s[5:])


def test_flipping_one_row_of_one_bit_changes_the_objective_as_the_quadratic_form_says() -> None:
    """The form for bit k, b^T R b + c^T b, from the docstring, against the objective itself."""
    rng = np.random.default_rng(0)
    inside, outside = signs(rng, 5, 5), signs(rng, 7, 5)
    inside = np.triu(inside) + np.triu(inside, 1).T
    sample, rest, k = signs(rng, 5, 6), signs(rng, 7, 6), 2
    others = [bit for bit in range(6) if bit != k]
    r = 6 * inside - sample[:, others] @ sample[:, others].T
    c = (6 * outside - rest[:, others] @ sample[:, others].T).T @ rest[:, k]
    constants = []
    for code in itertools.product([-1.0, 1.0], repeat=5):
        b = np.array(code)
        sample[:, k] = b
        constants.append(objective(sample, rest, inside, outside) + 2 * (b @ r @ b + c @ b))
    np.testing.assert_allclose(constants, constants[0])


def test_the_rest_get_the_codes_of_least_absolute_error() -> None:
    rng = np.random.default_rng(0)
    labels = np.eye(3, dtype=bool)[rng.integers(0, 3, 12)]
    drawn = np.array([3, 7, 8])
    s = similarity_between(labels, labels[drawn]).astype(np.float64)
    codes = alternate(signs(rng, 12, 4), s, drawn)
    every = np.array(list(itertools.product([-1.0, 1.0], repeat=4)))
    for row in set(range(12)) - set(drawn.tolist()):
        errors = np.abs(4 * s[row] - every @ codes[drawn].T).sum(axis=1)
        assert np.abs(4 * s[row] - codes[row] @ codes[drawn].T).sum() == errors.min()


def test_balanced_columns_sum_to_0_unless_all_pairs_are_alike() -> None:
    labels = np.eye(5, dtype=bool)[np.arange(20) % 5]
    s = similarity_between(labels, labels[:6]).astype(np.float64)
    assert balanced(s).sum() == pytest.approx(0)
    assert balanced(s).max() == 1
    assert np.array_equal(balanced(np.ones((3, 2))), np.ones((3, 2)))


def test_well_parted_classes_get_one_code_each() -> None:
    rng = np.random.default_rng(0)
    labels = np.eye(3, dtype=bool)[np.arange(90) % 3]
    features = (10 * labels + rng.standard_normal((90, 3))).astype(np.float32)
    codes = logits_of(cosdish(features, labels, 16), features) > 0
    of_class = [np.unique(codes[i::3], axis=0) for i in range(3)]
    assert [len(own) for own in of_class] == [1, 1, 1]
    assert len(np.unique(np.concatenate(of_class), axis=0)) == 3
