from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from anglehash.errors import ConfigError
from anglehash.methods.losses.discrete import DsdhLoss, fit_classifier, improve_codes
from anglehash.methods.losses.pairwise import DpshLoss
from anglehash.methods.losses.similarity import sgn

BITS, CLASSES = 4, 3
LABELS = torch.tensor([[1, 0, 0], [0, 1, 0], [1, 1, 0], [0, 0, 1], [0, 1, 0], [0, 0, 1]]).bool().repeat(5, 1)
OPTIONS: dict[str, Any] = {"mu": 3.0, "nu": 0.1, "eta": 0.5}


def rand(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def objective(codes: Tensor, classifier: Tensor, labels: Tensor, pull: Tensor) -> float:
    return float((labels - codes @ classifier).square().sum() + (codes - pull).square().sum())


def test_the_classifier_is_the_least_of_its_objective() -> None:
    codes, labels = sgn(rand(9, BITS)), rand(9, CLASSES, seed=1)
    found = fit_classifier(codes, labels, ridge=0.7).requires_grad_()
    cost = (labels - codes @ found).square().sum() + 0.7 * found.square().sum()
    (gradient,) = torch.autograd.grad(cost, found)
    assert gradient.abs().max() < 1e-12


@pytest.mark.parametrize("seed", range(5))
def test_a_round_sets_each_bit_to_its_best_in_turn(seed: int) -> None:
    classifier, labels, pull = rand(BITS, CLASSES, seed=seed), rand(6, CLASSES, seed=7), rand(6, BITS, seed=8)
    codes = sgn(rand(6, BITS, seed=9))
    expected = codes.clone()
    for k, i in itertools.product(range(BITS), range(6)):  # by trying both values
        costs = {}
        for bit in (-1.0, 1.0):
            expected[i, k] = bit
            costs[bit] = objective(expected, classifier, labels, pull)
        expected[i, k] = min(costs, key=lambda bit: costs[bit])
    before = codes.clone()
    got = improve_codes(codes, classifier, labels, pull)
    assert torch.equal(got, expected)
    assert torch.equal(codes, before)
    assert objective(got, classifier, labels, pull) <= objective(codes, classifier, labels, pull)


def test_turns_of_both_never_raise_the_whole_objective() -> None:
    logits, hot = rand(40, 8), torch.eye(CLASSES, dtype=torch.bool)[torch.arange(40) % CLASSES]
    loss, costs = DsdhLoss(8, CLASSES, mu=2, nu=0.5, eta=0.3, rounds=1), []
    codes = sgn(logits)
    for _ in range(6):
        w = fit_classifier(codes, hot.double(), 0.5 / 2)
        fit = 2 * (hot.double() - codes @ w).square().sum() + 0.5 * w.square().sum()
        costs.append(float(fit + 0.3 * (codes - logits).square().sum()))
        codes = loss.solve(codes, logits, hot)
    assert costs == sorted(costs, reverse=True)
    assert costs[-1] < costs[0]


def test_it_is_the_pairs_of_dpsh_and_the_gap_to_the_codes() -> None:
    logits = rand(30, BITS)
    loss = DsdhLoss(BITS, CLASSES, **OPTIONS)
    codes = loss.solve(sgn(logits), logits, LABELS)
    assert not torch.equal(codes, sgn(logits))  # the labels have turned a bit
    pairs = DpshLoss(BITS, CLASSES, eta=0)(logits, LABELS)
    expected = pairs + 0.5 * (logits - codes).square().mean()
    torch.testing.assert_close(loss(logits, LABELS), expected)


def test_codes_are_found_after_each_pass_and_not_before() -> None:
    loss, pairs = DsdhLoss(BITS, CLASSES, **OPTIONS), DpshLoss(BITS, CLASSES, eta=0)
    loss.remember(LABELS)
    pairs.remember(LABELS)
    first, second = rand(30, BITS).float(), rand(30, BITS, seed=1).float()

    def step(rows: Tensor, logits: Tensor, codes: Tensor) -> None:
        """Visit, and expect these codes in the quantization."""
        for each in (loss, pairs):
            each.set_rows(rows)
        gap = (logits[rows] - codes[rows]).square().mean()
        got, expected = loss(logits[rows], LABELS[rows]), pairs(logits[rows], LABELS[rows])
        torch.testing.assert_close(got, expected + 0.5 * gap)

    order = torch.randperm(30, generator=torch.Generator().manual_seed(0))
    step(order[:20], first, sgn(first))
    assert not loss.codes.any()
    step(order[20:], first, sgn(first))
    found = loss.solve(sgn(first), first, LABELS)
    assert torch.equal(loss.codes, found.to(torch.int8))
    assert not torch.equal(found, sgn(first))
    step(order[10:], second, found)
    step(order[:10], second, found)
    assert torch.equal(loss.codes, loss.solve(found, second, LABELS).to(torch.int8))
    assert loss.visited == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mu": 0}, "mu and nu must be > 0"),
        ({"nu": 0.0}, "mu and nu must be > 0"),
        ({"eta": math.nan}, "eta is a weight"),
        ({"rounds": 0}, "rounds must be a whole number >= 1"),
        ({"reference": True}, "reference must be a whole number >= 0"),
    ],
)
def test_settings_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        DsdhLoss(BITS, CLASSES, **options)
