from __future__ import annotations

import itertools
import math
import statistics

import pytest
import torch
from torch import Tensor

from anglehash.errors import ConfigError
from anglehash.methods.losses import triplet
from anglehash.methods.losses.similarity import sign_gap
from anglehash.methods.losses.triplet import DtshLoss

BITS, CLASSES = 6, 4
LABELS = torch.tensor([[1, 0, 1, 0], [0, 1, 0, 0], [1, 1, 0, 1], [0, 0, 1, 0], [0, 0, 0, 0], [0, 1, 0, 0]])


def random_logits() -> Tensor:
    return torch.randn(6, BITS, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def naive_triplets(logits: Tensor, labels: Tensor, alpha: float) -> dict[tuple[int, int], list[float]]:
    """Values of all n, by (i, p)."""
    similar = [[any(a and b for a, b in zip(x, y, strict=True)) for y in labels] for x in labels]
    out: dict[tuple[int, int], list[float]] = {}
    for i, p, n in itertools.product(range(len(logits)), repeat=3):
        if i != p and similar[i][p] and not similar[i][n]:
            gap = float(logits[i] @ logits[p] - logits[i] @ logits[n]) / 2 - alpha
            out.setdefault((i, p), []).append(math.log1p(math.exp(-gap)))
    return out


@pytest.mark.parametrize("alpha", [0.0, 5.0])
def test_equals_naive_loops(alpha: float) -> None:
    logits = random_logits()
    values = itertools.chain(*naive_triplets(logits, LABELS, alpha).values())
    got = DtshLoss(BITS, CLASSES, alpha=alpha, lambda_=0.3)(logits, LABELS)
    assert got.item() == pytest.approx(statistics.mean(values) + 0.3 * sign_gap(logits).item())


def test_gradients() -> None:
    loss = DtshLoss(BITS, CLASSES)
    assert torch.autograd.gradcheck(lambda z: loss(z, LABELS), (random_logits().requires_grad_(),))


@pytest.mark.parametrize("labels", [[0, 0, 0], [0, 1, 2], [-1, -1, -1], [3]])
def test_a_batch_without_a_triplet_has_the_quantization_only(labels: list[int]) -> None:
    logits = random_logits()[: len(labels)]
    got = DtshLoss(BITS, CLASSES, lambda_=2)(logits, torch.tensor(labels))
    assert got.item() == pytest.approx(2 * sign_gap(logits).item())


def test_a_large_batch_is_a_fair_draw_of_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triplet, "MOST_ENTRIES", 3 * 6)  # room for 3 pairs of 6 images
    logits, loss = random_logits(), DtshLoss(BITS, CLASSES, lambda_=0)
    pairs = naive_triplets(logits, LABELS, 5)
    assert len(pairs) == 10
    possible = [
        statistics.mean(itertools.chain(*chosen)) for chosen in itertools.combinations(pairs.values(), 3)
    ]
    torch.manual_seed(0)
    values = [loss(logits, LABELS).item() for _ in range(400)]
    assert all(any(math.isclose(v, p, rel_tol=1e-9) for p in possible) for v in values)
    assert statistics.mean(values) == pytest.approx(statistics.mean(possible), rel=0.02)


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigError, match="alpha is a weight"):
        DtshLoss(BITS, CLASSES, alpha=-1)
    with pytest.raises(ConfigError, match="lambda_ is a weight"):
        DtshLoss(BITS, CLASSES, lambda_=math.inf)
