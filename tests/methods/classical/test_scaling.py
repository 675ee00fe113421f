from __future__ import annotations

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge

from anglehash.methods.classical import scaling
from anglehash.methods.classical.principal import principal_axes
from anglehash.methods.classical.scaling import blocks_of, cross, ridge, scaling_of, squares

FEATURES = (np.random.default_rng(0).standard_normal((100, 6)) * [1, 2, 3, 4, 5, 6] + 10).astype(np.float32)


@pytest.fixture(autouse=True, params=[7, 8192])
def _block(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scaling, "BLOCK", request.param)


def test_standardising_gives_mean_0_and_deviation_1() -> None:
    scaled = scaling_of(FEATURES, standardise=True).apply(FEATURES)
    np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(scaled.std(axis=0), 1, rtol=1e-5)


def test_a_constant_feature_is_not_blown_up() -> None:
    features = np.concatenate([FEATURES, np.full((100, 1), 0.1, dtype=np.float32)], axis=1)
    assert scaling_of(features, standardise=True).scale[-1] == 1


def test_without_centring_nothing_is_subtracted() -> None:
    assert not scaling_of(FEATURES, standardise=False, centre=False).mean.any()


def test_moments_and_projections_do_not_depend_on_the_blocks(rng: np.random.Generator) -> None:
    own, targets = scaling_of(FEATURES, standardise=True), rng.standard_normal((100, 2))
    whole = own.apply(FEATURES).astype(np.float64)
    np.testing.assert_allclose(squares(own.precise(FEATURES)), whole.T @ whole, rtol=1e-12)
    np.testing.assert_allclose(cross(own.precise(FEATURES), targets), whole.T @ targets, rtol=1e-12)
    np.testing.assert_allclose(np.concatenate(list(blocks_of(FEATURES))), FEATURES)
    weight = rng.standard_normal((3, 6))
    np.testing.assert_allclose(own.project(FEATURES, weight), whole @ weight.T, rtol=1e-4, atol=1e-5)


def test_ridge_solves_the_normal_equations_as_scikit_learn_does(rng: np.random.Generator) -> None:
    x, t = rng.standard_normal((30, 5)), rng.standard_normal((30, 2))
    weight = ridge(x.T @ x, x.T @ t, 2.5)
    np.testing.assert_allclose(x.T @ (x @ weight - t) + 2.5 * weight, 0, atol=1e-10)
    theirs = Ridge(alpha=2.5, fit_intercept=False).fit(x, t)
    np.testing.assert_allclose(weight.T, theirs.coef_)


@pytest.mark.parametrize("standardise", [False, True])
def test_principal_axes_equal_scikit_learns_up_to_sign(standardise: bool) -> None:
    own = scaling_of(FEATURES, standardise=standardise)
    axes, variances = principal_axes(FEATURES, own, 4)
    theirs = PCA(4).fit(own.apply(FEATURES))
    np.testing.assert_allclose(np.abs(np.sum(axes * theirs.components_, axis=1)), 1, rtol=1e-5)
    np.testing.assert_allclose(variances, theirs.explained_variance_ * 99 / 100, rtol=1e-4)
    assert (axes[np.arange(4), np.abs(axes).argmax(axis=1)] > 0).all()


def test_there_are_no_more_axes_than_directions_in_which_rows_vary() -> None:
    flat = np.concatenate([FEATURES[:, :2], FEATURES[:, :2] @ [[1], [-1]]], axis=1).astype(np.float32)
    assert len(principal_axes(flat, scaling_of(flat, standardise=False), 3).axes) == 2
