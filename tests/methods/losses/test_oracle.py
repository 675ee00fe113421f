"""AnDSH against an oracle: everything computed again, by loops over plain floats."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from anglehash.methods.losses.angular import AngularHashLoss
from anglehash.methods.losses.dynamic import MULTILABEL
from anglehash.methods.losses.margins import MARGINS
from anglehash.methods.losses.separation import DISTANCES

LABELS = torch.tensor([[1, 0, 1, 0, 0], [0, 1, 0, 0, 0], [1, 1, 0, 1, 1], [0, 0, 1, 1, 0], [1, 1, 1, 1, 1]])


def make(bits: int = 6, classes: int = 5, **options: Any) -> AngularHashLoss:
    torch.manual_seed(0)
    return AngularHashLoss(bits, classes, **options).double()


def random_logits(n: int) -> Tensor:
    return torch.randn(n, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def naive_cos(a: list[float], b: list[float]) -> float:
    return math.fsum(x * y for x, y in zip(a, b, strict=True)) / (math.hypot(*a) * math.hypot(*b))


def naive_margin(loss: AngularHashLoss, c: float) -> float:
    theta, m = math.acos(max(-1, min(1, c))), loss.m
    if loss.margin == "asoftmax":
        k = min(int(theta * m / math.pi), int(m) - 1)
        psi = math.cos(math.pi * k) * math.cos(m * theta) - 2 * k
        return (loss.lambda_ * c + psi) / (1 + loss.lambda_)
    if loss.margin == "arcface":
        return math.cos(theta + m) if theta <= math.pi - m else c - m * math.sin(m)
    return c - m if loss.margin == "cosface" else c


def cross_entropy(target: float, others: list[float]) -> float:
    return math.log(math.exp(target) + sum(map(math.exp, others))) - target


def naive_classification(loss: AngularHashLoss, z: list[float], labels: list[int]) -> list[float]:
    """The value for one image; in ``sample`` mode each value that it may take."""
    vectors = loss.weight.tolist()
    scale = math.hypot(*z) if loss.scale == "feature" else float(loss.scale)
    logit = [scale * naive_cos(z, w) for w in vectors]
    target = [scale * naive_margin(loss, naive_cos(z, w)) for w in vectors]
    own = [j for j, has in enumerate(labels) if has]
    others = [logit[j] for j, has in enumerate(labels) if not has]
    unit = [[x / math.hypot(*vectors[j]) for x in vectors[j]] for j in own]
    merged = scale * naive_margin(
        loss, naive_cos(z, [statistics.mean(column) for column in zip(*unit, strict=True)])
    )
    if loss.multilabel == "merge":
        return [cross_entropy(merged, others)]
    if loss.multilabel == "append":
        return [cross_entropy(merged, logit)]
    each = [cross_entropy(target[j], others) for j in own]
    if loss.multilabel == "sample":
        return each
    if loss.multilabel == "partial":
        return [statistics.mean(each)]
    mixed = [target[j] if has else logit[j] for j, has in enumerate(labels)]
    return [statistics.mean(math.log(sum(map(math.exp, mixed))) - mixed[j] for j in own)]


def naive_quantization(z: list[float]) -> float:
    return 1 - sum(map(abs, z)) / (math.sqrt(len(z)) * math.hypot(*z))


def naive_distance(form: str, a: list[float], b: list[float]) -> float:
    if form == "cos":
        return (1 - naive_cos(a, b)) / 2
    bits = len(a)
    unit = [[x / math.hypot(*v) for x in v] for v in (a, b)]
    squash: Callable[[float], float] = {
        "tanh_unit": math.tanh,
        "tanh_scaled": lambda x: math.tanh(math.sqrt(bits) * x),
        "sign_ste": lambda x: 1.0 if x > 0 else -1.0,
    }[form]
    product = sum(float(squash(x) * squash(y)) for x, y in zip(*unit, strict=True))
    return (bits - product) / 2 if form == "tanh_unit" else (1 - product / bits) / 2


def naive_separation(loss: AngularHashLoss) -> float:
    pairs = [naive_distance(loss.distance, a, b) for a, b in itertools.combinations(loss.weight.tolist(), 2)]
    variance = statistics.variance(pairs) if len(pairs) > 1 else 0.0
    return -loss.alpha * statistics.mean(pairs) + loss.beta * variance


@pytest.mark.parametrize("multilabel", MULTILABEL)
@pytest.mark.parametrize("margin", MARGINS)
@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("scale", ["auto", 7, "feature"])
def test_equals_naive_loops(margin: str, multilabel: str, distance: str, scale: float | str) -> None:
    loss = make(
        margin=margin, multilabel=multilabel, distance=distance, scale=scale, alpha=0.5, beta=2, gamma=3
    )
    for z, labels in zip(random_logits(len(LABELS)), LABELS, strict=True):
        got = loss(z[None], labels[None]).item()
        others = naive_separation(loss) + 3 * naive_quantization(z.tolist())
        values = naive_classification(loss, z.tolist(), labels.tolist())
        assert any(math.isclose(got, value + others, rel_tol=1e-9) for value in values)


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize(("classes", "bits"), [(2, 6), (3, 4), (200, 12)])
def test_separation_equals_naive_loops(distance: str, classes: int, bits: int) -> None:
    loss = make(bits, classes, distance=distance, alpha=0.5, beta=2)
    got = loss.components(torch.ones(1, bits), torch.tensor([0])).separation.item()
    assert got == pytest.approx(naive_separation(loss))


@pytest.mark.parametrize("multilabel", MULTILABEL)
@pytest.mark.parametrize("margin", MARGINS)
def test_a_batch_is_the_mean_of_its_images(margin: str, multilabel: str) -> None:
    loss = make(margin=margin, multilabel=multilabel)
    labels = torch.eye(5) if multilabel == "sample" else LABELS  # one label leaves nothing to draw
    logits = random_logits(len(labels))
    together = loss.components(logits, labels)
    alone = [loss.components(z[None], y[None]) for z, y in zip(logits, labels, strict=True)]
    for name in ("classification", "quantization"):
        mean = torch.stack([getattr(terms, name) for terms in alone]).mean()
        torch.testing.assert_close(getattr(together, name), mean)
