from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from anglehash.methods.classical.kernel import kernel_to_anchors
from anglehash.methods.classical.scaling import ridge, scaling_of
from anglehash.methods.classical.sdh import descend, sdh
from anglehash.models.heads.hash_head import logits_of

Matrix = NDArray[np.float64]


def signs(rng: np.random.Generator, *shape: int) -> Matrix:
    return np.where(rng.standard_normal(shape) > 0, 1.0, -1.0)


def code_part(codes: Matrix, wanted: Matrix, weights: Matrix) -> float:
    return float(np.square(codes @ weights).sum() - 2 * (codes * wanted).sum())


def test_a_sweep_equals_trying_both_values_of_each_bit_in_turn(rng: np.random.Generator) -> None:
    codes, wanted, weights = signs(rng, 6, 5), rng.standard_normal((6, 5)), rng.standard_normal((5, 3))
    expected = codes.copy()
    for bit in range(5):
        for row in range(6):
            both = np.stack([expected[row]] * 2)
            both[:, bit] = [1, -1]
            parts = [code_part(b[None], wanted[row : row + 1], weights) for b in both]
            expected[row, bit] = both[int(np.argmin(parts)), bit]
    assert np.array_equal(descend(codes, wanted, weights), expected)


def test_sweeps_never_raise_the_objective_and_end_where_no_bit_gains(rng: np.random.Generator) -> None:
    codes, wanted, weights = signs(rng, 20, 8), rng.standard_normal((20, 8)), rng.standard_normal((8, 3))
    parts = [code_part(codes, wanted, weights)]
    for _ in range(20):
        codes = descend(codes, wanted, weights)
        parts.append(code_part(codes, wanted, weights))
    assert all(after <= before + 1e-9 for before, after in itertools.pairwise(parts))
    assert parts[-1] < parts[0]
    for bit in range(8):
        other = codes.copy()
        other[:, bit] *= -1
        for row in range(20):
            rows = slice(row, row + 1)
            assert code_part(other[rows], wanted[rows], weights) >= code_part(
                codes[rows], wanted[rows], weights
            )


def test_a_bit_that_does_not_matter_stays(rng: np.random.Generator) -> None:
    codes = signs(rng, 4, 3)
    assert np.array_equal(descend(codes, np.zeros((4, 3)), np.zeros((3, 2))), codes)


def test_one_round_of_all_three_never_raises_the_whole_objective(rng: np.random.Generator) -> None:
    y, phi = np.eye(3)[rng.integers(0, 3, 40)], rng.random((40, 6))
    nu, strength, own = 0.1, 1.0, 1e-6
    codes = signs(rng, 40, 8)
    reached, weights = np.zeros((6, 8)), np.zeros((8, 3))

    def objective() -> float:
        fit = np.square(y - codes @ weights).sum() + strength * np.square(weights).sum()
        return float(fit + nu * np.square(codes - phi @ reached).sum())

    values = [objective()]
    for _ in range(6):
        reached = ridge(phi.T @ phi, phi.T @ codes, own)
        values.append(objective())
        weights = ridge(codes.T @ codes, codes.T @ y, strength)
        values.append(objective())
        codes = descend(codes, y @ weights.T + nu * phi @ reached, weights)
        values.append(objective())
    assert all(after <= before + 1e-3 for before, after in itertools.pairwise(values))


def test_the_kernel_equals_its_definition_and_its_width_the_mean_distance(rng: np.random.Generator) -> None:
    features = rng.standard_normal((50, 4)).astype(np.float32)
    scaling = scaling_of(features, standardise=False)
    kernel = kernel_to_anchors(features, scaling, 20, spread=0.5, rng=np.random.default_rng(1))
    distance = np.linalg.norm(scaling.apply(features)[:, None] - kernel.anchors, axis=2)
    assert kernel.anchors.shape == (20, 4)
    np.testing.assert_allclose(kernel.sigma, 0.5 * distance.mean(), rtol=1e-4)  # all 50 rows are drawn
    np.testing.assert_allclose(
        kernel.values(features), np.exp(-(distance**2) / (2 * kernel.sigma**2)), rtol=1e-4
    )


def test_anchors_are_training_rows_drawn_once_each(rng: np.random.Generator) -> None:
    features = rng.standard_normal((30, 4)).astype(np.float32)
    scaling = scaling_of(features, standardise=False)
    kernel = kernel_to_anchors(features, scaling, 99, spread=1, rng=np.random.default_rng(1))
    assert np.array_equal(kernel.anchors, scaling.apply(features))


def test_well_parted_classes_get_codes_near_their_own_and_far_from_others(rng: np.random.Generator) -> None:
    labels = np.eye(4, dtype=bool)[np.arange(80) % 4]
    features = (10 * labels + rng.standard_normal((80, 4))).astype(np.float32)
    codes = logits_of(sdh(features, labels, 16), features) > 0
    distance = (codes[:, None] != codes).sum(axis=2)
    same = labels.argmax(axis=1)[:, None] == labels.argmax(axis=1)
    assert distance[same].mean() < 1 < 4 <= distance[~same].min()
