from __future__ import annotations

import math
import statistics

import pytest
import torch
from torch import Tensor

from anglehash.errors import ConfigError
from anglehash.methods.losses.hyp2 import HybridProxyLoss

# images 0 and 3 share none of their labels, nor do 0 and 4; image 1 has a single one
SEVERAL = torch.tensor(
    [[1, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0, 1, 1, 0, 0], [0, 0, 0, 1, 1], [0, 0, 1, 0, 1]], dtype=torch.bool
)


def make(bits: int, classes: int, *, beta: float = 0.5, zeta: float | None = None) -> HybridProxyLoss:
    torch.manual_seed(0)
    return HybridProxyLoss(bits, classes, beta=beta, zeta=zeta).double()


def random_logits(n: int, bits: int) -> Tensor:
    return torch.randn(n, bits, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def cosine(a: Tensor, b: Tensor) -> float:
    return float(a @ b / (a.norm() * b.norm()))


def test_by_naive_loops() -> None:
    loss, logits, zeta = make(8, 5, zeta=-0.2), random_logits(5, 8), -0.2
    proxies = loss.weight.detach()
    near, far, pairs = [], [], []
    for i in range(5):
        for j in range(5):
            c = cosine(logits[i], proxies[j])
            if SEVERAL[i, j]:
                near.append(1 - c)
            else:
                far.append(max(c - zeta, 0))
            enough = SEVERAL[i].sum() > 1 and SEVERAL[j].sum() > 1
            if enough and not (SEVERAL[i] & SEVERAL[j]).any():
                pairs.append(max(cosine(logits[i], logits[j]) - zeta, 0))
    assert len(pairs) == 6  # 0-3, 0-4 and 2-3, both ways
    assert min(far) == 0 < max(far)
    expected = statistics.mean(near) + statistics.mean(far) + 0.5 * statistics.mean(pairs)
    assert loss(logits, SEVERAL).item() == pytest.approx(expected)


def test_single_labels_have_no_pairs_of_images() -> None:
    logits, labels = random_logits(6, 8), torch.arange(6) % 3
    assert make(8, 3, beta=100)(logits, labels).item() == make(8, 3, beta=0)(logits, labels).item()


def test_images_that_share_a_label_are_not_pushed_apart() -> None:
    logits, hot = random_logits(2, 8), torch.tensor([[1, 1, 0, 0], [0, 1, 1, 0]])
    assert make(8, 4, beta=100)(logits, hot).item() == make(8, 4, beta=0)(logits, hot).item()


def test_images_with_every_class_have_no_rival() -> None:
    loss = make(8, 3)
    logits = random_logits(2, 8)
    near = [1 - cosine(h, proxy) for h in logits for proxy in loss.weight.detach()]
    assert loss(logits, torch.ones(2, 3)).item() == pytest.approx(statistics.mean(near))


@pytest.mark.parametrize(
    ("bits", "classes", "zeta"),
    # opposite; 2/3 of 12 bits; 33 of 64 by Plotkin (22 codes); half at 2K classes; 3 of 12 by Hamming
    [(16, 2, -1), (12, 3, 1 - 16 / 12), (64, 21, 1 - 66 / 64), (32, 64, 0), (12, 200, 1 - 6 / 12)],
)
def test_zeta_is_the_cosine_at_the_largest_distance(bits: int, classes: int, zeta: float) -> None:
    assert make(bits, classes).zeta == pytest.approx(zeta)


def test_ignores_the_scale_of_each_image() -> None:
    loss, logits = make(8, 5), random_logits(5, 8)
    scale = torch.linspace(0.1, 10, 5)[:, None]
    torch.testing.assert_close(loss(logits * scale, SEVERAL), loss(logits, SEVERAL))


def test_refuses_other_settings() -> None:
    with pytest.raises(ConfigError, match=r"zeta is a cosine in \[-1, 1\]"):
        make(8, 3, zeta=1.5)
    with pytest.raises(ConfigError, match="beta is a weight"):
        make(8, 3, beta=-math.inf)
