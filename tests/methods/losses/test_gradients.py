"""Gradients of AnDSH: right, and finite where an angle has none."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from anglehash.methods.losses.angular import AngularHashLoss
from anglehash.methods.losses.dynamic import MULTILABEL
from anglehash.methods.losses.margins import MARGINS

EVERY_MARGIN_AND_MODE = list(itertools.product(MARGINS, MULTILABEL))


def make(bits: int, classes: int, **options: Any) -> AngularHashLoss:
    torch.manual_seed(0)
    return AngularHashLoss(bits, classes, **options)


@pytest.mark.parametrize(("margin", "multilabel"), EVERY_MARGIN_AND_MODE)
def test_gradients_of_margins_and_modes(margin: str, multilabel: str) -> None:
    check_gradient(make(4, 3, margin=margin, multilabel=multilabel, gamma=2).double())


@pytest.mark.parametrize(
    "options", [{"distance": "tanh_unit"}, {"distance": "tanh_scaled"}, {"scale": "feature"}]
)
def test_gradients_of_distances_and_scale(options: dict[str, Any]) -> None:
    check_gradient(make(4, 3, **options).double())


def check_gradient(loss: AngularHashLoss) -> None:
    labels = torch.tensor([[1, 0, 1], [0, 1, 0]])

    def value(logits: Tensor, weight: Tensor) -> Tensor:
        torch.manual_seed(0)  # of the draw in sample
        total: Tensor = torch.func.functional_call(loss, {"weight": weight}, (logits, labels))
        return total

    inputs = torch.randn_like(loss.weight)[:2].requires_grad_(), loss.weight.detach().clone().requires_grad_()
    assert torch.autograd.gradcheck(value, inputs)


@pytest.mark.parametrize(("margin", "multilabel"), EVERY_MARGIN_AND_MODE)
@pytest.mark.parametrize("scale", ["auto", "feature"])
def test_gradient_is_finite_at_the_poles_and_at_zero(margin: str, multilabel: str, scale: str) -> None:
    loss = make(6, 5, margin=margin, multilabel=multilabel, scale=scale, gamma=1)
    w = loss.weight.detach()
    logits = torch.stack([w[0], -w[0], 3 * w[1], torch.zeros(6), w[0] * 1e-30]).requires_grad_()
    value = loss(logits, torch.tensor([0, 0, 1, 0, 0]))
    value.backward()
    assert value.isfinite()
    for gradient in (logits.grad, loss.weight.grad):
        assert gradient is not None
        assert gradient.isfinite().all()
