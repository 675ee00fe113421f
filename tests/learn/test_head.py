from __future__ import annotations

import pytest
import torch

from anglehash.learn.head import HashHead


def test_a_linear_head_is_what_it_says() -> None:
    head = HashHead(2, 4).eval()
    head.standardise(torch.tensor([[0.0, 10.0], [2.0, 30.0]]))  # mean 1, 20; deviation 1, 10
    with torch.no_grad():
        linear = head.layers[1]
        linear.weight.copy_(torch.tensor([[1.0, 0], [0, 1], [1, 1], [-1, 0]]))  # type: ignore[operator]
        linear.bias.zero_()  # type: ignore[operator]
        logits = head(torch.tensor([[3.0, 40.0]]))  # standardised: 2, 2
    assert logits.tolist() == [[2.0, 2.0, 4.0, -2.0]]


def test_a_constant_feature_does_not_divide_by_zero() -> None:
    head = HashHead(3, 8)
    head.standardise(torch.ones(5, 3))
    assert torch.isfinite(head(torch.ones(2, 3))).all()


@pytest.mark.parametrize("hidden", [0, 6])
def test_batch_norm_centres_every_bit(hidden: int) -> None:
    head = HashHead(5, 16, hidden=hidden, batch_norm=True).train()
    logits = head(torch.randn(64, 5))
    torch.testing.assert_close(logits.mean(dim=0), torch.zeros(16), atol=1e-5, rtol=0)


def test_dropout_is_for_training_only() -> None:
    head = HashHead(50, 8, dropout=0.5)
    features = torch.randn(4, 50)
    assert not torch.equal(head.train()(features), head.train()(features))
    assert torch.equal(head.eval()(features), head.eval()(features))
