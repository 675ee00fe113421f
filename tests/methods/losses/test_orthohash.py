from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from anglehash.errors import ConfigError
from anglehash.methods.losses.centers import hash_centers
from anglehash.methods.losses.orthohash import OrthoHashLoss

SEVERAL = torch.tensor([[1, 0, 1], [0, 1, 0], [1, 1, 1], [0, 1, 1]])


def random_logits(n: int, bits: int) -> Tensor:
    return torch.randn(n, bits, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("margin", ["cosine", "arc"])
def test_by_naive_loops(margin: str) -> None:
    loss = OrthoHashLoss(16, 3, margin=margin, m=0.3, scale=5)
    logits = random_logits(4, 16)
    total = 0.0
    for h, own in zip(logits, SEVERAL.tolist(), strict=True):
        scores = []
        for center, has in zip(loss.weight.double(), own, strict=True):
            cosine = float(h @ center / (h.norm() * 4))
            harder = cosine - 0.3 if margin == "cosine" else math.cos(math.acos(cosine) + 0.3)
            scores.append(5 * (harder if has else cosine))
        normaliser = math.log(sum(map(math.exp, scores)))
        total += sum(normaliser - s for s, has in zip(scores, own, strict=True) if has) / sum(own)
    assert loss(logits, SEVERAL).item() == pytest.approx(total / 4)


def test_without_a_margin_it_is_the_cross_entropy_of_cosines() -> None:
    logits, labels = random_logits(6, 16), torch.arange(6) % 3
    loss = OrthoHashLoss(16, 3, m=0)
    cosine = F.normalize(logits, dim=1) @ F.normalize(loss.weight.double(), dim=1).T
    assert loss(logits, labels).item() == pytest.approx(F.cross_entropy(4 * cosine, labels).item())
    torch.testing.assert_close(OrthoHashLoss(16, 3, margin="arc", m=0)(logits, labels), loss(logits, labels))


@pytest.mark.parametrize("margin", ["cosine", "arc"])
def test_ignores_the_scale_of_each_image(margin: str) -> None:
    loss, logits, labels = OrthoHashLoss(16, 3, margin=margin), random_logits(6, 16), torch.arange(6) % 3
    scale = torch.linspace(0.1, 10, 6)[:, None]
    torch.testing.assert_close(loss(logits * scale, labels), loss(logits, labels))


@pytest.mark.parametrize("margin", ["cosine", "arc"])
def test_gradient_is_right_and_finite_at_the_poles_and_at_zero(margin: str) -> None:
    loss = OrthoHashLoss(4, 3, margin=margin)
    inputs = random_logits(3, 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: loss(z, SEVERAL[:3]), inputs)
    logits = torch.stack([loss.weight[0], -loss.weight[0], torch.zeros(4)]).requires_grad_()
    loss(logits, torch.zeros(3, dtype=torch.int64)).backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_centers_are_a_buffer_of_the_seed() -> None:
    loss = OrthoHashLoss(36, 10, seed=5)
    assert list(loss.state_dict()) == ["weight"]
    assert not list(loss.parameters())
    assert loss.weight.tolist() == hash_centers(10, 36, 5).tolist()
    assert OrthoHashLoss(64, 10, centers="sampled").weight.tolist() == (
        hash_centers(10, 64, kind="sampled").tolist()
    )


def test_scale_is_the_root_of_the_bits() -> None:
    assert OrthoHashLoss(64, 10).scale == 8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"margin": "cos"}, "unknown margin 'cos'; did you mean 'cosine'"),
        ({"m": 2.5}, "m of the margin 'cosface' is a part of a cosine's range"),
        ({"scale": 0}, "scale must be a finite number > 0"),
        ({"scale": "auto"}, "scale must be a finite number > 0"),
        ({"centers": "hadamard"}, "unknown kind of centers 'hadamard'"),
    ],
)
def test_refuses_other_settings(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        OrthoHashLoss(16, 3, **options)
