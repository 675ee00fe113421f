"""dsh, dpsh, dhn and hashnet against loops over plain floats."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from anglehash.errors import ConfigError, DataError
from anglehash.methods.losses.hashnet import HashNetLoss
from anglehash.methods.losses.pairwise import DhnLoss, DpshLoss, DshLoss
from anglehash.methods.losses.similarity import log_cosh

BITS, CLASSES = 6, 4
LABELS = torch.tensor([[1, 0, 1, 0], [0, 1, 0, 0], [1, 1, 0, 1], [0, 0, 1, 0], [0, 0, 0, 0]])
ALIKE, APART = LABELS[[0, 2, 0, 2, 0]], torch.eye(5, 4)  # every pair similar, none
ALL = [DshLoss, DpshLoss, DhnLoss, HashNetLoss]


def random_logits() -> Tensor:
    return torch.randn(5, BITS, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def naive_pairs(
    logits: Tensor, labels: Tensor, value: Callable[[Tensor, Tensor, bool], float], *, weighted: bool
) -> float:
    pairs = list(itertools.combinations(range(len(logits)), 2))
    similar = [any(a and b for a, b in zip(labels[i], labels[j], strict=True)) for i, j in pairs]
    values = [value(logits[i], logits[j], s) for (i, j), s in zip(pairs, similar, strict=True)]
    if weighted:
        count = {s: similar.count(s) for s in (True, False)}
        values = [v * len(pairs) / count[s] for v, s in zip(values, similar, strict=True)]
    return statistics.mean(values)


def contrast(margin: float) -> Callable[[Tensor, Tensor, bool], float]:
    def value(a: Tensor, b: Tensor, similar: bool) -> float:
        d: float = sum((x - y) ** 2 for x, y in zip(a.tolist(), b.tolist(), strict=True))
        return d / 2 if similar else max(margin - d, 0) / 2

    return value


def cross_entropy(slope: float) -> Callable[[Tensor, Tensor, bool], float]:
    def value(a: Tensor, b: Tensor, similar: bool) -> float:
        theta: float = slope * sum(x * y for x, y in zip(a.tolist(), b.tolist(), strict=True))
        return math.log1p(math.exp(theta)) - similar * theta

    return value


@pytest.mark.parametrize("labels", [LABELS, ALIKE, APART])
@pytest.mark.parametrize("margin", [2.0, 0.0, 1.25])
def test_dsh_equals_naive_loops(labels: Tensor, margin: float) -> None:
    logits = random_logits()
    pull = statistics.mean(sum(abs(abs(x) - 1) for x in row) for row in logits.tolist())
    pairs = naive_pairs(logits, labels, contrast(margin * BITS), weighted=False)
    got = DshLoss(BITS, CLASSES, margin=margin, alpha=0.3)(logits, labels)
    assert got.item() == pytest.approx(pairs + 2 * 0.3 * pull)


@pytest.mark.parametrize("labels", [LABELS, ALIKE, APART])
def test_dpsh_equals_naive_loops(labels: Tensor) -> None:
    logits = random_logits()
    gap = statistics.mean((x - math.copysign(1, x)) ** 2 for x in logits.flatten().tolist())
    pairs = naive_pairs(logits, labels, cross_entropy(0.5), weighted=False)
    assert DpshLoss(BITS, CLASSES, eta=0.3)(logits, labels).item() == pytest.approx(pairs + 0.3 * gap)


@pytest.mark.parametrize("labels", [LABELS, ALIKE, APART])
def test_dhn_equals_naive_loops(labels: Tensor) -> None:
    logits = random_logits()
    gap = statistics.mean(math.log(math.cosh(abs(x) - 1)) for x in logits.flatten().tolist())
    pairs = naive_pairs(logits, labels, cross_entropy(0.5), weighted=True)
    assert DhnLoss(BITS, CLASSES, lambda_=0.3)(logits, labels).item() == pytest.approx(pairs + 0.3 * gap)


@pytest.mark.parametrize("labels", [LABELS, ALIKE, APART])
@pytest.mark.parametrize("progress", [0.0, 0.4, 1.0])
def test_hashnet_equals_naive_loops(labels: Tensor, progress: float) -> None:
    loss, logits = HashNetLoss(BITS, CLASSES, beta=5), random_logits()
    loss.set_progress(progress)
    beta = math.sqrt(1 + 24 * progress)
    pairs = naive_pairs(torch.tanh(beta * logits), labels, cross_entropy(10 / BITS), weighted=True)
    assert loss(logits, labels).item() == pytest.approx(pairs)


@pytest.mark.parametrize("kind", ALL)
def test_gradients(kind: Callable[..., nn.Module]) -> None:
    assert torch.autograd.gradcheck(
        lambda z: kind(BITS, CLASSES)(z, LABELS), (random_logits().requires_grad_(),)
    )


@pytest.mark.parametrize("kind", [DpshLoss, DhnLoss, HashNetLoss])
def test_turning_the_signs_of_a_bit_in_all_images_changes_nothing(kind: Callable[..., nn.Module]) -> None:
    loss, logits = kind(BITS, CLASSES), random_logits()
    turned = logits * torch.tensor([1, -1, 1, 1, -1, 1])
    torch.testing.assert_close(loss(turned, LABELS), loss(logits, LABELS))


def test_dsh_past_its_margin_leaves_the_pull_only() -> None:
    logits = torch.tensor([[1.0] * BITS, [-1.0] * BITS], requires_grad=True)
    DshLoss(BITS, CLASSES)(logits, torch.tensor([0, 1])).backward()  # |h| = 1: no pull either
    assert logits.grad is not None
    assert logits.grad.tolist() == [[0.0] * BITS] * 2


def test_log_cosh_does_not_overflow_and_its_gradient_is_tanh() -> None:
    x = torch.tensor([-1e4, -2.0, -1e-3, 1e-3, 0.5, 1e4], dtype=torch.float64, requires_grad=True)
    log_cosh(x).sum().backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(x.grad, torch.tanh(x.detach()))
    assert log_cosh(x)[-1].item() == pytest.approx(1e4 - math.log(2))


def test_hashnet_starts_at_1_and_logs_beta() -> None:
    loss = HashNetLoss(BITS, CLASSES)
    assert loss.statistics() == {"beta": 1.0}
    loss.set_progress(1)
    assert loss.statistics() == {"beta": pytest.approx(10)}
    for progress in (-0.1, 1.1, math.nan):
        with pytest.raises(ConfigError, match=r"in \[0, 1\]"):
            loss.set_progress(progress)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (DshLoss, {"margin": -1}, "margin is a weight"),
        (DshLoss, {"alpha": math.nan}, "alpha is a weight"),
        (DpshLoss, {"eta": "1"}, "eta is a weight"),
        (DpshLoss, {"reference": 0.5}, "reference must be a whole number >= 0"),
        (DhnLoss, {"lambda_": -1}, "lambda_ is a weight"),
        (HashNetLoss, {"a": math.inf}, "a is a weight"),
        (HashNetLoss, {"beta": 0.5}, "beta grows from 1"),
    ],
)
def test_settings_out_of_range_are_refused(
    kind: Callable[..., nn.Module], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        kind(BITS, CLASSES, **options)


@pytest.mark.parametrize("kind", ALL)
def test_batches_that_do_not_fit_are_refused(kind: Callable[..., nn.Module]) -> None:
    with pytest.raises(DataError, match="logits must be float of shape"):
        kind(BITS, CLASSES)(torch.zeros(2, 5), torch.tensor([0, 1]))
    with pytest.raises(DataError, match="class numbers must be in"):
        kind(BITS, CLASSES)(torch.zeros(2, BITS), torch.tensor([0, 4]))
    with pytest.raises(ConfigError, match="classes must be"):
        kind(BITS, 1)
