from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import check_grad

from anglehash.errors import ConfigError
from anglehash.methods.classical import pairs
from anglehash.methods.classical.ksh import Residue, _loss, ksh, next_bit, whitened
from anglehash.methods.classical.pairs import similarity_between, similarity_of
from anglehash.models.heads.hash_head import logits_of


def dense(labels: NDArray[np.bool_]) -> NDArray[np.float64]:
    return np.array([[1.0 if (a & b).any() else -1.0 for a in labels] for b in labels])


@pytest.fixture(params=["one label", "several labels"])
def labels(request: pytest.FixtureRequest) -> NDArray[np.bool_]:
    rng = np.random.default_rng(1)
    if request.param == "one label":
        return np.eye(3, dtype=bool)[rng.integers(0, 3, 30)]
    several = rng.random((30, 9)) < 0.3  # nine columns: two bytes when packed
    several[~several.any(axis=1), 0] = True
    return several


def test_similarity_equals_the_dense_matrix(rng: np.random.Generator, labels: NDArray[np.bool_]) -> None:
    s, similarity = dense(labels), similarity_of(labels)
    x = rng.standard_normal((30, 4))
    np.testing.assert_allclose(similarity.times(x[:, 0]), s @ x[:, 0])
    np.testing.assert_allclose(similarity.inside(x), x.T @ s @ x)
    assert np.array_equal(similarity_between(labels, labels[:7]), s[:, :7])


def test_similarity_of_one_label_a_row_is_low_rank(rng: np.random.Generator) -> None:
    hot = np.eye(4, dtype=bool)[rng.integers(0, 4, 100)]
    assert similarity_of(hot).between.shape == (4, 4)
    y = hot.astype(float)
    np.testing.assert_allclose(dense(hot), 2 * y @ y.T - 1)


def test_too_many_label_sets_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs, "MAX_SETS", 2)
    similarity_of(np.eye(2, dtype=bool))
    with pytest.raises(ConfigError, match="3 rows have 3 distinct label sets, more than 2: learn from fewer"):
        similarity_of(np.eye(3, dtype=bool))


def test_the_residue_equals_the_dense_one(rng: np.random.Generator, labels: NDArray[np.bool_]) -> None:
    basis = whitened(rng.standard_normal((30, 6)))[0]
    residue, expected = Residue(similarity_of(labels), basis, bits=4), 4 * dense(labels)
    for _ in range(3):
        code = np.where(rng.standard_normal(30) > 0, 1.0, -1.0)
        residue.take(code)
        expected -= np.outer(code, code)
        v = rng.standard_normal(30)
        np.testing.assert_allclose(residue.times(v), expected @ v, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(residue.inside, basis.T @ expected @ basis, rtol=1e-3, atol=1e-3)


def test_the_basis_is_orthonormal_and_leaves_copies_out(rng: np.random.Generator) -> None:
    values = rng.standard_normal((30, 4))
    basis, back = whitened(np.concatenate([values, values], axis=1))
    assert basis.shape == (30, 4)
    np.testing.assert_allclose(basis.T @ basis, np.eye(4), atol=1e-5)
    np.testing.assert_allclose(np.concatenate([values, values], axis=1) @ back, basis, atol=1e-5)
    assert whitened(np.zeros((30, 4)))[0].shape == (30, 0)


def test_the_gradient_equals_finite_differences(rng: np.random.Generator, labels: NDArray[np.bool_]) -> None:
    basis = whitened(rng.standard_normal((30, 5)))[0]
    residue = Residue(similarity_of(labels), basis, bits=4)
    residue.take(np.where(rng.standard_normal(30) > 0, 1.0, -1.0))
    at = 3 * rng.standard_normal(5)
    error = check_grad(
        lambda w: _loss(w, residue, basis)[0], lambda w: _loss(w, residue, basis)[1], at, epsilon=1e-2
    )
    assert error < 0.02 * np.linalg.norm(_loss(at, residue, basis)[1])


def test_without_ascent_a_bit_is_the_spectral_answer(
    rng: np.random.Generator, labels: NDArray[np.bool_]
) -> None:
    values = rng.standard_normal((30, 5))
    basis, back = whitened(values)
    a = back @ next_bit(Residue(similarity_of(labels), basis, bits=4), basis, iterations=0)
    left = values.T @ (4 * dense(labels)) @ values @ a  # K^T R K a = lambda K^T K a
    right = values.T @ values @ a
    np.testing.assert_allclose(left, (a @ left / (a @ right)) * right, rtol=1e-3, atol=1e-2)
    assert a @ right == pytest.approx(30, rel=1e-4)


def test_the_first_bit_is_the_best_of_all_codes_that_can_be_reached() -> None:
    """Ten rows in a space that holds every centred code of them: the optimum over all 1,024 codes."""
    labels = np.eye(2, dtype=bool)[np.arange(10) % 2]
    basis = whitened(np.eye(10) - 0.1)[0]
    residue, s = Residue(similarity_of(labels), basis, bits=4), 4 * dense(labels)
    code = np.sign(basis @ next_bit(residue, basis, iterations=50))
    best = max(np.array(c) @ s @ np.array(c) for c in itertools.product([-1, 1], repeat=10))
    assert code @ s @ code == best == 400


def test_ascent_never_ends_below_the_spectral_answer(
    rng: np.random.Generator, labels: NDArray[np.bool_]
) -> None:
    basis, s = whitened(rng.standard_normal((30, 5)))[0], 4 * dense(labels)
    fits = []
    for iterations in (0, 50):
        code = np.sign(basis @ next_bit(Residue(similarity_of(labels), basis, 4), basis, iterations))
        fits.append(code @ s @ code)
    assert fits[1] >= fits[0]


def test_more_bits_fit_the_similarity_better(rng: np.random.Generator) -> None:
    labels = np.eye(3, dtype=bool)[np.arange(90) % 3]
    features = (labels @ rng.standard_normal((3, 8)) + 0.1 * rng.standard_normal((90, 8))).astype(np.float32)
    errors = []
    for bits in (4, 8, 16):
        h = np.where(logits_of(ksh(features, labels, bits), features) > 0, 1, -1)
        errors.append(np.square(h @ h.T / bits - dense(labels)).mean())
    assert errors[2] <= errors[0]
    # inner products of three codes average -1/3 at best: two thirds of the pairs are off by 1 - 1/3
    assert errors[2] == pytest.approx(2 / 3 * (2 / 3) ** 2, abs=0.05)
