from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from anglehash.errors import ConfigError
from anglehash.methods.losses.centered import CentralSimilarityLoss, PolarizedLoss, majority
from anglehash.methods.losses.centers import hash_centers

SEVERAL = torch.tensor([[1, 0, 1], [0, 1, 0], [1, 1, 1], [0, 1, 1]])


def random_logits(n: int, bits: int) -> Tensor:
    return torch.randn(n, bits, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def voted(loss: CentralSimilarityLoss | PolarizedLoss, hot: Tensor) -> list[list[float]]:
    """The majority, by counting each bit."""
    targets = []
    for row in hot.tolist():
        own = [loss.weight[c].tolist() for c, has in enumerate(row) if has]
        votes = [sum(center[k] for center in own) for k in range(loss.bits)]
        targets.append([math.copysign(1, v) if v else loss.tie[k].item() for k, v in enumerate(votes)])
    return targets


def test_majority_by_counting() -> None:
    loss = CentralSimilarityLoss(16, 3)
    assert majority(SEVERAL.bool(), loss.weight, loss.tie).tolist() == voted(loss, SEVERAL)


def test_one_label_is_its_center_and_three_have_no_ties() -> None:
    loss = CentralSimilarityLoss(16, 3)
    assert torch.equal(majority(torch.eye(3).bool(), loss.weight, loss.tie), loss.weight)
    three = majority(torch.ones(1, 3).bool(), loss.weight, torch.full((16,), torch.nan))
    assert torch.equal(three[0], loss.weight.sum(dim=0).sign())


@pytest.mark.parametrize("quantization", ["log_cosh", "square"])
def test_csq_by_naive_loops(quantization: str) -> None:
    loss = CentralSimilarityLoss(16, 3, gamma=0.3, quantization=quantization)
    logits = random_logits(4, 16)
    total = 0.0
    for h, center in zip(logits.tolist(), voted(loss, SEVERAL), strict=True):
        for x, c in zip(h, center, strict=True):
            p, wanted = (math.tanh(x) + 1) / 2, (c + 1) / 2
            total -= wanted * math.log(p) + (1 - wanted) * math.log(1 - p)
            gap = abs(math.tanh(x)) - 1
            total += 0.3 * (gap**2 if quantization == "square" else math.log(math.cosh(gap)))
    assert loss(logits, SEVERAL).item() == pytest.approx(total / 16 / 4)


def test_csq_is_not_saturated_by_tanh() -> None:
    loss = CentralSimilarityLoss(4, 2, gamma=0)
    logits = (-50 * loss.weight[:1]).requires_grad_()
    value = loss(logits, torch.tensor([0]))
    value.backward()
    assert value.item() == pytest.approx(100)
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad, -2 / 4 * loss.weight[:1])


def test_dpn_by_naive_loops() -> None:
    loss = PolarizedLoss(16, 3, m=0.7)
    logits = random_logits(4, 16)
    total = sum(
        max(0.7 - x * c, 0)
        for h, center in zip(logits.tolist(), voted(loss, SEVERAL), strict=True)
        for x, c in zip(h, center, strict=True)
    )
    assert loss(logits, SEVERAL).item() == pytest.approx(total / 4)


def test_dpn_is_0_on_its_centers_and_leaves_polarized_bits_alone() -> None:
    loss = PolarizedLoss(8, 3)
    logits = (loss.weight * 1.5).requires_grad_()
    logits.data[1, 2] *= -1
    value = loss(logits, torch.arange(3))
    value.backward()
    assert value.item() == pytest.approx(2.5 / 3)
    assert logits.grad is not None
    assert [tuple(place) for place in logits.grad.nonzero().tolist()] == [(1, 2)]


@pytest.mark.parametrize("kind", [CentralSimilarityLoss, PolarizedLoss])
def test_centers_are_in_the_state_and_come_from_the_seed(
    kind: type[CentralSimilarityLoss | PolarizedLoss],
) -> None:
    loss = kind(36, 10, centers="sampled", seed=5)
    assert set(loss.state_dict()) == {"weight", "tie"}
    assert not list(loss.parameters())
    assert loss.weight.tolist() == hash_centers(10, 36, 5, kind="sampled").tolist()
    assert loss.tie.abs().tolist() == [1] * 36
    assert torch.equal(loss.tie, kind(36, 10, centers="auto", seed=5).tie)
    other = kind(36, 10, seed=6)
    assert not torch.equal(loss.weight, other.weight)
    assert not torch.equal(loss.tie, other.tie)


def test_refuses_other_settings() -> None:
    with pytest.raises(ConfigError, match=r"m must be a finite number > 0 \(the margin of a logit\), got 0"):
        PolarizedLoss(8, 3, m=0)
    with pytest.raises(ConfigError, match="unknown quantization 'cosh'; did you mean 'log_cosh'"):
        CentralSimilarityLoss(8, 3, quantization="cosh")
    with pytest.raises(ConfigError, match="gamma is a weight"):
        CentralSimilarityLoss(8, 3, gamma=math.nan)
