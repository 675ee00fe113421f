"""LSH, the principal components, ITQ and spectral hashing against what they are by definition."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from sklearn.decomposition import PCA

from anglehash.methods.classical.itq import itq, rotation_step
from anglehash.methods.classical.projections import lsh, pca_sign
from anglehash.methods.classical.spectral import sh, smoothest
from anglehash.models.heads.hash_head import logits_of

NONE = np.zeros((0, 0), dtype=bool)  # labels, which are ignored


def test_lsh_bits_differ_with_the_angle_over_pi() -> None:
    angles = np.array([0, math.pi / 6, math.pi / 2, math.pi])
    points = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    bits = logits_of(lsh(points, NONE, 1024, centre=False), points) > 0
    # deviation of a share of 1024 draws: at most .5 / 32
    np.testing.assert_allclose((bits != bits[0]).mean(axis=1), [0, 1 / 6, 1 / 2, 1], atol=0.05)


def test_lsh_measures_angles_around_the_mean() -> None:
    points = np.array([[10, 9], [10, 11]], dtype=np.float32)  # opposite, seen from (10, 10)
    bits = logits_of(lsh(points, NONE, 64), points) > 0
    assert (bits[0] != bits[1]).all()


def test_pca_sign_logits_are_the_scores_of_scikit_learn(rng: np.random.Generator) -> None:
    x = (rng.standard_normal((80, 6)) * [1, 2, 3, 4, 5, 6]).astype(np.float32)
    scores = PCA(4).fit_transform(x)
    np.testing.assert_allclose(
        np.abs(logits_of(pca_sign(x, NONE, 4), x)), np.abs(scores), rtol=1e-3, atol=1e-3
    )


def test_itq_never_loses_more_and_its_rotation_stays_one(rng: np.random.Generator) -> None:
    projected = (rng.standard_normal((200, 8)) * np.linspace(3, 0.5, 8)).astype(np.float32)
    rotation = np.linalg.qr(rng.standard_normal((8, 8)))[0]
    errors = []
    for _ in range(30):
        rotated = projected @ rotation
        errors.append(float(np.square(np.where(rotated > 0, 1, -1) - rotated).sum()))
        rotation = rotation_step(projected, rotation)
        np.testing.assert_allclose(rotation @ rotation.T, np.eye(8), atol=1e-12)
    assert all(after <= before + 1e-3 for before, after in itertools.pairwise(errors))
    assert errors[-1] < 0.97 * errors[0]


def test_a_rotation_step_is_the_best_of_all_rotations_for_its_codes(rng: np.random.Generator) -> None:
    projected = rng.standard_normal((40, 2)).astype(np.float32)
    codes = np.where(projected > 0, 1, -1)

    def error(rotation: np.ndarray) -> float:
        return float(np.square(codes - projected @ rotation).sum())

    grid = [
        np.array([[math.cos(a), -flip * math.sin(a)], [math.sin(a), flip * math.cos(a)]])
        for a in np.linspace(0, 2 * math.pi, 3600)
        for flip in (1, -1)
    ]
    best = min(error(rotation) for rotation in grid)
    assert best - 1e-3 < error(rotation_step(projected, np.eye(2))) <= best


def test_itq_finds_a_rotated_cube(rng: np.random.Generator) -> None:
    corners = np.array(list(itertools.product([-1, 1], repeat=4)))
    turn = np.linalg.qr(rng.standard_normal((6, 6)))[0][:4]
    points = (corners @ turn + 5).astype(np.float32)
    found = min(
        (np.abs(np.abs(logits_of(itq(points, NONE, 4, seed=seed), points)) - 1).max() for seed in range(5)),
    )
    assert found < 1e-3  # every point is a corner again; some starts end in a worse place


@pytest.mark.parametrize("count", [1, 5, 12])
def test_smoothest_equals_brute_force(count: int) -> None:
    sides = np.array([1.3, 4.1, 0.7, 2.9])
    every = sorted((k / side, j, k) for j, side in enumerate(sides) for k in range(1, count + 1))
    axis, mode = smoothest(sides, count)
    assert list(zip(axis.tolist(), mode.tolist(), strict=True)) == [(j, k) for _, j, k in every[:count]]


def test_sh_on_a_line_halves_it_then_quarters_it() -> None:
    line = np.linspace(0, 1, 801, dtype=np.float32)[:, None]
    logits = logits_of(sh(line, NONE, 4), line)
    x = line[:, 0]
    for k in range(1, 5):
        np.testing.assert_allclose(np.abs(logits[:, k - 1]), np.abs(np.cos(k * math.pi * x)), atol=1e-3)
    inside = np.abs(logits).min(axis=1) > 1e-2
    assert np.array_equal((logits[:, 0] > 0)[inside], (x < 0.5)[inside])
    assert np.array_equal((logits[:, 1] > 0)[inside], ((x < 0.25) | (x > 0.75))[inside])
    products = logits.T @ logits / len(x)  # balanced and uncorrelated on an even line
    np.testing.assert_allclose(logits.mean(axis=0), 0, atol=5e-3)
    np.testing.assert_allclose(products, np.eye(4) / 2, atol=5e-3)


def test_sh_serves_a_wide_direction_twice_before_a_narrow_one(rng: np.random.Generator) -> None:
    box = (rng.random((400, 2)) * [10, 1]).astype(np.float32)
    weight = sh(box, NONE, 4).state_dict()["weight"].abs().numpy()
    np.testing.assert_allclose(weight @ [1, 0], 1, atol=0.02)  # 1/10, 2/10, 3/10, 4/10, all below 1/1
    square = (rng.random((400, 2)) * [2, 1.9]).astype(np.float32)
    own = sh(square, NONE, 4, components=1).state_dict()["weight"]
    assert (own == own[0]).all()
