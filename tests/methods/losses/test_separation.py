from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from anglehash.codes import pack
from anglehash.evaluation.code_statistics import class_code_distances
from anglehash.methods.losses.separation import (
    cos,
    hash_constraint,
    quantization,
    sign_ste,
    tanh_unit,
)


def directions(n: int, bits: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(n, bits, generator=generator, dtype=torch.float64), dim=1)


def simplex(classes: int) -> Tensor:
    """The regular simplex: unit vectors that are all equally far apart and sum to 0."""
    eye = torch.eye(classes, dtype=torch.float64)
    return F.normalize(eye - 1 / classes, dim=1)


@pytest.mark.parametrize("classes", [2, 3, 10, 200])
def test_a_simplex_reaches_the_greatest_mean_distance_without_variance(classes: int) -> None:
    best = classes / (2 * (classes - 1))
    distances = cos(simplex(classes))
    assert hash_constraint(distances, alpha=1, beta=0).item() == pytest.approx(-best)
    assert hash_constraint(distances, alpha=0, beta=1).item() == pytest.approx(0, abs=1e-12)


@given(st.integers(2, 12), st.integers(1, 8), st.integers(0, 2**32 - 1))
def test_no_class_vectors_pass_that_mean(classes: int, bits: int, seed: int) -> None:
    mean = -hash_constraint(cos(directions(classes, bits, seed)), alpha=1, beta=0).item()
    assert mean <= classes / (2 * (classes - 1)) + 1e-9


def test_any_vectors_that_sum_to_0_reach_the_mean_but_not_every_one_without_variance() -> None:
    distances = cos(torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]))
    assert hash_constraint(distances, alpha=1, beta=0).item() == pytest.approx(-4 / 6)
    # 1, 1 and four times 1/2 around 2/3: (2/9 + 4/36) / 5
    assert hash_constraint(distances, alpha=0, beta=1).item() == pytest.approx(1 / 15)


def test_orthogonal_vectors_are_half_apart() -> None:
    assert hash_constraint(cos(torch.eye(5)), alpha=1, beta=1).item() == -0.5


def test_two_classes_are_one_pair_and_have_no_variance() -> None:
    unit = torch.tensor([[1.0, 0.0], [0.6, 0.8]], requires_grad=True)
    loss = hash_constraint(cos(unit), alpha=1, beta=1)
    assert loss.item() == pytest.approx(-0.2)  # (1 - .6) / 2
    loss.backward()  # type: ignore[no-untyped-call]
    assert unit.grad is not None
    assert unit.grad.isfinite().all()


def test_descent_finds_the_simplex() -> None:
    weight = directions(4, 4).requires_grad_()
    optimizer = torch.optim.Adam([weight], lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        loss = hash_constraint(cos(F.normalize(weight, dim=1)), alpha=1, beta=1)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert loss.item() == pytest.approx(-4 / 6, abs=1e-4)


def test_sign_ste_is_the_true_hamming_distance() -> None:
    unit = directions(9, 24)
    unit[0, 0] = 0  # bit 0, as in every code
    mean = -hash_constraint(sign_ste(unit), alpha=1, beta=0).item()
    assert mean * 24 == pytest.approx(class_code_distances(pack(unit.numpy())).mean)


def test_sign_ste_passes_the_gradient_straight_through() -> None:
    unit = directions(2, 4).requires_grad_()
    sign_ste(unit)[0, 1].backward()  # type: ignore[no-untyped-call]
    # D = (1 - p0 . p1 / 4) / 2, dD/dp0 = -p1 / 8, and p counts as w
    assert unit.grad is not None
    torch.testing.assert_close(unit.grad[0], -unit[1].detach().sign() / 8)


def test_tanh_unit_barely_moves() -> None:
    # its whole range is at most tanh's p.p <= 1 around K / 2: opposite and equal vectors differ by < 1 of 64
    w = directions(1, 64)
    d = tanh_unit(torch.cat([w, w, -w]))
    assert 0.9 < (d[0, 2] - d[0, 1]).item() < 1


def test_quantization_by_hand_and_at_its_ends() -> None:
    # code directions lose nothing, an axis the most: 1 - 1/sqrt(K); (3, 4, 0, 0)/5: 1 - 7/10
    rows = torch.tensor([[1.0, -1, 1, 1], [0, 0, -2, 0], [3, 4, 0, 0], [0, 0, 0, 0]])
    assert quantization(F.normalize(rows, dim=1)).tolist() == pytest.approx([0, 0.5, 0.3, 1])


@given(st.integers(1, 64), st.integers(0, 2**32 - 1))
@settings(max_examples=50)
def test_quantization_is_the_distance_to_the_code(bits: int, seed: int) -> None:
    unit = directions(3, bits, seed)
    q = quantization(unit)
    gap = (math.sqrt(bits) * unit - unit.sign()).square().sum(dim=1)
    torch.testing.assert_close(gap, 2 * bits * q)
    assert (q <= 1 - 1 / math.sqrt(bits) + 1e-12).all()
