from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from anglehash.errors import ConfigError
from anglehash.methods.losses.classification import (
    ClassifierLoss,
    GreedyHashLoss,
    soft_cross_entropy,
    straight_through,
)


def random_logits(n: int, bits: int, seed: int = 1) -> Tensor:
    return torch.randn(n, bits, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_soft_cross_entropy_of_one_label_is_the_usual_one() -> None:
    scores, labels = random_logits(7, 5), torch.tensor([0, 3, 2, 4, 4, 1, 0])
    got = soft_cross_entropy(scores, F.one_hot(labels, 5).bool())
    torch.testing.assert_close(got, F.cross_entropy(scores, labels, reduction="none"))


def test_soft_cross_entropy_by_hand() -> None:
    # scores log 1, log 2, log 5 give 1/8, 2/8, 5/8; labels 0 and 2
    scores = torch.tensor([[0.0, math.log(2), math.log(5)]])
    got = soft_cross_entropy(scores, torch.tensor([[True, False, True]]))
    assert got.item() == pytest.approx((math.log(8) + math.log(8 / 5)) / 2)


def test_soft_cross_entropy_is_least_at_equal_shares() -> None:
    positive = torch.tensor([[True, True, True, False]])
    assert soft_cross_entropy(torch.tensor([[50.0, 50, 50, 0]]), positive).item() == pytest.approx(
        math.log(3)
    )
    assert soft_cross_entropy(torch.tensor([[51.0, 50, 50, 0]]), positive).item() > math.log(3)


def test_ce_by_naive_loops() -> None:
    torch.manual_seed(0)
    loss = ClassifierLoss(4, 3).double()
    loss.bias.data.copy_(torch.tensor([0.1, -0.2, 0.3]))
    logits, several = random_logits(5, 4), [[0], [1, 2], [2], [0, 1, 2], [0, 2]]
    hot = torch.tensor([[int(c in own) for c in range(3)] for own in several])
    weight, bias, total = loss.weight.detach(), loss.bias.detach(), 0.0
    for h, own in zip(logits, several, strict=True):
        scores = [float(weight[c] @ h + bias[c]) for c in range(3)]
        normaliser = sum(math.exp(s) for s in scores)
        total += sum(-math.log(math.exp(scores[c]) / normaliser) for c in own) / len(own)
    assert loss(logits, hot).item() == pytest.approx(total / 5)


def test_straight_through_is_exact_and_lets_the_gradient_through() -> None:
    logits = torch.tensor([0.1, 0.0, -0.0, -1e-30, 123456.789, -7e8]).requires_grad_()
    code = straight_through(logits)
    assert code.tolist() == [1, -1, -1, -1, 1, -1]
    (code * torch.arange(6.0)).sum().backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert logits.grad.tolist() == list(range(6))


def test_greedyhash_sees_only_the_code() -> None:
    torch.manual_seed(0)
    loss = GreedyHashLoss(8, 3, alpha=0)
    logits, labels = random_logits(6, 8), torch.arange(6) % 3
    assert loss(logits, labels).item() == loss(logits * 37, labels).item()
    expected = F.cross_entropy(F.linear(logits.sign(), loss.weight.double(), loss.bias.double()), labels)
    assert loss(logits, labels).item() == pytest.approx(expected.item())


def test_greedyhash_pull_by_hand() -> None:
    # |.5 - 1|^3, |1 - 1|^3, |3 - 1|^3 and |0 - 1|^3: (.125 + 0 + 8 + 1) / 4
    torch.manual_seed(0)
    logits = torch.tensor([[0.5, -1, -3, 0]], dtype=torch.float64)
    label = torch.tensor([1])
    loss = GreedyHashLoss(4, 2, alpha=2)
    plain = GreedyHashLoss(4, 2, alpha=0)
    plain.load_state_dict(loss.state_dict())
    assert loss(logits, label).item() - plain(logits, label).item() == pytest.approx(2 * 9.125 / 4)


def test_greedyhash_gradient_is_that_of_the_classifier_at_the_code() -> None:
    torch.manual_seed(0)
    loss = GreedyHashLoss(8, 3, alpha=0).double()
    logits, labels = random_logits(6, 8).requires_grad_(), torch.arange(6) % 3
    code = logits.detach().sign().requires_grad_()
    loss(logits, labels).backward()
    F.cross_entropy(F.linear(code, loss.weight, loss.bias), labels).backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert code.grad is not None
    torch.testing.assert_close(logits.grad, code.grad)


def test_refuses_a_negative_weight() -> None:
    with pytest.raises(ConfigError, match="alpha is a weight"):
        GreedyHashLoss(8, 3, alpha=-1)
