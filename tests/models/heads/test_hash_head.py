from __future__ import annotations

import pytest
import torch

from anglehash.errors import ConfigError
from anglehash.models.heads.hash_head import Dropout, HashHead


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


def test_dropout_keeps_its_share_and_the_mean() -> None:
    torch.manual_seed(0)
    dropped = Dropout(0.3)(torch.full((1000, 999), 2.0))  # 999: the last draw is used in part
    assert dropped.shape == (1000, 999)
    assert float((dropped == 0).float().mean()) == pytest.approx(0.3, abs=0.002)  # four deviations
    assert dropped.unique().tolist() == pytest.approx([0, 2 / 0.7], rel=1e-4)
    assert float(dropped.mean()) == pytest.approx(2, abs=0.01)


def test_dropout_drops_each_place_by_itself() -> None:
    torch.manual_seed(0)
    kept = (Dropout(0.5)(torch.ones(20_000, 12)) > 0).double()
    torch.testing.assert_close(kept.mean(dim=0), torch.full((12,), 0.5).double(), atol=0.02, rtol=0)
    correlation = torch.corrcoef(kept.T) - torch.eye(12)
    assert float(correlation.abs().max()) < 0.035  # five deviations of independent places


def test_dropout_passes_the_gradient_of_what_it_kept() -> None:
    values = torch.ones(50, 7, requires_grad=True)
    out = Dropout(0.4)(values)
    out.sum().backward()
    assert torch.equal(values.grad, out.detach())  # type: ignore[arg-type]


def test_the_seed_decides_what_is_dropped() -> None:
    def drop(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        dropped: torch.Tensor = Dropout(0.5)(torch.ones(9, 5))
        return dropped

    assert torch.equal(drop(1), drop(1))
    assert not torch.equal(drop(1), drop(2))


@pytest.mark.parametrize("p", [0.0, 1e-9])
def test_dropping_nothing_changes_and_draws_nothing(p: float) -> None:
    values, before = torch.randn(3, 4), torch.get_rng_state()
    assert Dropout(p)(values) is values
    assert Dropout(0.5).eval()(values) is values
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("p", [-0.1, 1.0, 0.999999, float("nan")])
def test_dropout_needs_a_share(p: float) -> None:
    with pytest.raises(ConfigError, match="share in"):
        Dropout(p)
