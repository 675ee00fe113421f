from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from anglehash.errors import ConfigError
from anglehash.methods.losses.margins import (
    ARCFACE_MOST,
    MARGINS,
    Annealing,
    arcface,
    asoftmax,
    chebyshev,
    choose_strength,
    cosface,
    psi,
    softmax,
)

ANGLES = torch.linspace(0, math.pi, 2001, dtype=torch.float64)
COSINES = ANGLES.cos()


@pytest.mark.parametrize("m", range(1, 8))
def test_psi_is_its_definition(m: int) -> None:
    expected = []
    for theta in ANGLES.tolist():
        k = min(int(theta * m / math.pi), m - 1)
        expected.append((-1) ** k * math.cos(m * theta) - 2 * k)
    torch.testing.assert_close(psi(COSINES, m), torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("m", range(1, 8))
def test_psi_falls_from_1_to_1_minus_2m_strictly_and_without_a_jump(m: int) -> None:
    values = psi(COSINES, m)
    assert values[0].item() == 1
    assert values[-1].item() == pytest.approx(1 - 2 * m)
    steps = values.diff()
    assert (steps < 0).all()
    assert steps.abs().max().item() <= m * math.pi / 2000 * 1.001  # its slope is at most m


@pytest.mark.parametrize("m", range(1, 8))
def test_psi_is_never_above_cos(m: int) -> None:
    assert (psi(COSINES, m) <= COSINES + 1e-12).all()


def test_psi_by_hand() -> None:
    # 60, 90, 180 degrees with m = 4: k = 1: -cos 240 - 2; k = 2: cos 360 - 4; k = 3: -cos 720 - 6
    got = psi(torch.tensor([0.5, 0.0, -1.0]), 4)
    torch.testing.assert_close(got, torch.tensor([-1.5, -3.0, -7.0]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_psi_survives_cosines_that_rounding_pushed_past_1(dtype: torch.dtype) -> None:
    cosine = torch.tensor([1 + 1e-6, -1 - 1e-6], dtype=dtype)
    torch.testing.assert_close(psi(cosine, 4), torch.tensor([1.0, -7.0], dtype=dtype), atol=1e-4, rtol=0)


@given(st.integers(1, 12), st.floats(0, math.pi))
def test_chebyshev_multiplies_the_angle(m: int, theta: float) -> None:
    got = chebyshev(torch.tensor(math.cos(theta), dtype=torch.float64), m).item()
    assert got == pytest.approx(math.cos(m * theta), abs=1e-9)


def test_arcface_by_hand() -> None:
    # cos(90 + 60 degrees); at 150 degrees the sum passes 180: c - m sin m
    m = math.radians(60)
    got = arcface(torch.tensor([0.0, math.cos(math.radians(150))], dtype=torch.float64), m)
    assert got.tolist() == pytest.approx([-math.sqrt(3) / 2, -math.sqrt(3) / 2 * (1 + m)])


def test_arcface_is_its_definition() -> None:
    inner = slice(5, -5)  # nearer to 0 and pi the clamp of 1 - c^2 shows
    for m in (0.0, 0.2, 1.0, 2.0):
        expected = [
            math.cos(theta + m) if theta <= math.pi - m else math.cos(theta) - m * math.sin(m)
            for theta in ANGLES.tolist()
        ]
        got = arcface(COSINES, m)
        torch.testing.assert_close(got[inner], torch.tensor(expected, dtype=torch.float64)[inner])
        assert (got - torch.tensor(expected)).abs().max() <= 1.001e-3 * abs(math.sin(m)) + 1e-6


@pytest.mark.parametrize("m", [0.2, 1.0, math.pi / 2, 2.0, 2.33, ARCFACE_MOST])
def test_arcface_falls_throughout(m: float) -> None:
    at = torch.tensor([math.pi - m - 1e-9, math.pi - m + 1e-9], dtype=torch.float64).cos()
    before, after = arcface(at, m).tolist()
    assert after <= before + 1e-8
    assert (arcface(COSINES[50:-50], m).diff() <= 0).all()


def test_the_most_of_arcface_is_where_its_pieces_meet() -> None:
    # past pi - m: -cos m - m sin m = -1; 1 - cos m = m sin m; tan(m / 2) = m
    assert math.tan(ARCFACE_MOST / 2) == pytest.approx(ARCFACE_MOST)
    # m = 2.4: cos 2.4 + 2.4 sin 2.4 = -.7374 + 1.6211 = .8837, so it jumps from -1 to -.8837
    rises = arcface(torch.tensor([math.pi - 2.4 + 1e-6], dtype=torch.float64).cos(), 2.4)
    assert rises.item() == pytest.approx(-0.8837, abs=1e-4)
    assert choose_strength("arcface", 2.331) == 2.331
    with pytest.raises(ConfigError, match=r"in \[0, 2.331\]: with more it is not monotone, got 2.4"):
        choose_strength("arcface", 2.4)


def test_cosface_and_softmax_by_hand() -> None:
    assert cosface(torch.tensor(0.5), 0.2).item() == pytest.approx(0.3)
    assert softmax(torch.tensor(0.5), 0.0).item() == 0.5


@pytest.mark.parametrize("name", MARGINS)
@pytest.mark.parametrize("lambda_", [0.0, 5.0, 1000.0])
def test_a_margin_never_raises_a_cosine(name: str, lambda_: float) -> None:
    strengths: dict[str, list[float]] = {
        "asoftmax": [1, 2, 3, 4, 7],
        "arcface": [0, 1e-4, 0.2, 1.5, ARCFACE_MOST],
        "cosface": [0, 0.2, 1.9],
        "softmax": [0],
    }
    for m in strengths[name]:
        assert (MARGINS[name].apply(COSINES, m, lambda_) <= COSINES + 1e-12).all()


@pytest.mark.parametrize("name", MARGINS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradient_is_finite_at_the_poles(name: str, dtype: torch.dtype) -> None:
    cosine = torch.tensor([1.0, -1.0, 0.0], dtype=dtype, requires_grad=True)
    MARGINS[name].apply(cosine, MARGINS[name].m, 5.0).sum().backward()  # type: ignore[no-untyped-call]
    assert cosine.grad is not None
    assert cosine.grad.isfinite().all()


def test_gradient_of_psi_at_the_poles_is_m_squared() -> None:
    # T_4' = 16 at c = 1 and -16 at c = -1, where (-1)^3 turns it
    cosine = torch.tensor([1.0, -1.0], requires_grad=True)
    psi(cosine, 4).sum().backward()  # type: ignore[no-untyped-call]
    assert cosine.grad is not None
    assert cosine.grad.tolist() == [16, 16]


def test_margins_without_strength_are_softmax() -> None:
    torch.testing.assert_close(asoftmax(COSINES, 1, 0.0), COSINES)
    torch.testing.assert_close(cosface(COSINES, 0.0), COSINES)
    torch.testing.assert_close(arcface(COSINES, 0.0), COSINES)


def test_asoftmax_with_a_huge_lambda_is_softmax() -> None:
    torch.testing.assert_close(asoftmax(COSINES, 4, 1e9), COSINES)


def test_lambda_is_the_published_schedule() -> None:
    fall = Annealing(5, 1000, 0.12, 0.45)
    assert fall.at_iteration(100) == pytest.approx(1000 / 13)
    assert fall.at_iteration(1658) > 5 == fall.at_iteration(1659)


@given(st.floats(0.01, 1), st.floats(0.001, 10), st.floats(0.1, 900))
def test_scaled_lambda_arrives_at_its_part_of_the_run(part: float, decay: float, minimum: float) -> None:
    fall = Annealing(minimum, 1000, decay, part)
    assert fall.at(0) == 1000
    assert fall.at(part * 0.99) > minimum
    assert fall.at(part) == pytest.approx(minimum)
    assert fall.at(1) == pytest.approx(minimum)
    assert fall.at(part / 2) == pytest.approx(1000 / (1 + (1000 / minimum - 1) / 2))  # decay cancels


def test_lambda_min_0_is_the_bare_psi_throughout() -> None:
    assert [Annealing(0, 1000, 0.12, 0.45).at(part) for part in (0, 0.5, 1)] == [0, 0, 0]


@pytest.mark.parametrize(
    "settings", [(-1, 1000, 0.12, 0.45), (6, 5, 0.12, 0.45), (5, 1000, 0, 0.45), (5, 1000, 0.12, 0)]
)
def test_schedules_that_do_not_fall_are_refused(settings: tuple[float, float, float, float]) -> None:
    with pytest.raises(ConfigError, match="lambda"):
        Annealing(*settings)


@pytest.mark.parametrize(
    ("name", "m"),
    [
        ("asoftmax", 0),
        ("asoftmax", 2.5),
        ("arcface", 2.34),
        ("cosface", 4),
        ("cosface", -0.1),
        ("softmax", 4),
    ],
)
def test_strengths_out_of_range_are_refused(name: str, m: float) -> None:
    with pytest.raises(ConfigError, match=f"m of the margin '{name}'"):
        choose_strength(name, m)


@pytest.mark.parametrize("m", [True, "4", math.nan, math.inf])
@pytest.mark.parametrize("name", MARGINS)
def test_strengths_that_are_no_numbers_are_refused(name: str, m: float) -> None:
    with pytest.raises(ConfigError, match=f"m of the margin '{name}'"):
        choose_strength(name, m)
