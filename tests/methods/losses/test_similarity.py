from __future__ import annotations

import math

import pytest
import torch

from anglehash.errors import DataError
from anglehash.methods.losses.similarity import (
    balanced,
    likelihood,
    read_batch,
    sgn,
    sign_gap,
    similarity,
    softplus,
)


def test_similar_is_a_shared_label() -> None:
    labels = torch.rand(20, 5, generator=torch.Generator().manual_seed(0)) < 0.3
    others = labels.flip(0)[:7]
    expected = [[bool((a & b).any()) for b in others] for a in labels]
    assert similarity(labels, others).tolist() == expected
    assert torch.equal(similarity(labels), similarity(labels, labels))


def test_zero_is_minus_one_as_in_every_code() -> None:
    assert sgn(torch.tensor([0.0, -0.0, 1e-30])).tolist() == [-1, -1, 1]
    logits = torch.zeros(1, 1, requires_grad=True)
    sign_gap(logits).backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert logits.grad.item() == 2  # 2 (0 - -1)


@pytest.mark.parametrize("similar", [True, False])
@pytest.mark.parametrize("theta", [-30.0, -1.0, 0.0, 2.0, 30.0])
def test_likelihood_is_its_definition(theta: float, similar: bool) -> None:
    got = likelihood(torch.tensor([theta], dtype=torch.float64), torch.tensor([similar]))
    assert got.item() == pytest.approx(math.log1p(math.exp(theta)) - similar * theta, abs=1e-8)


def test_softplus_and_its_gradient_are_torchs_own() -> None:
    x = torch.linspace(-200, 200, 401, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(softplus(x), torch.nn.functional.softplus(x))
    softplus(x).sum().backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(x.grad, torch.sigmoid(x.detach()))
    near = torch.linspace(-4, 4, 9, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(softplus, (near,))
    assert softplus(torch.tensor([-torch.inf, 1e30])).tolist() == pytest.approx([0, 1e30])


@pytest.mark.parametrize("similar", [[True, True, False], [True] * 3, [False] * 3, []])
def test_balanced_weighs_by_the_other_kind(similar: list[bool]) -> None:
    values = [1.0, 4.0, 8.0][: len(similar)]
    ones, n = sum(similar), len(similar)
    weighted = [v * n / (ones if s else n - ones) for v, s in zip(values, similar, strict=True)]
    got = balanced(torch.tensor(values), torch.tensor(similar, dtype=torch.bool))
    assert got.item() == pytest.approx(sum(weighted) / max(n, 1))


def test_a_batch_of_another_width_is_refused() -> None:
    with pytest.raises(DataError, match=r"logits must be float of shape \(batch, 8\), got float32 \(2, 4\)"):
        read_batch(torch.zeros(2, 4), torch.tensor([0, 1]), 8, 2)
