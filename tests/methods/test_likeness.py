"""Likeness: the embedding of a method's logits and the features."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from anglehash.codes import hamming, pack
from anglehash.config import TrainConfig
from anglehash.errors import ConfigError
from anglehash.methods.catalogue import settled
from anglehash.methods.likeness import with_likeness
from anglehash.models.heads.hash_head import logits_of
from anglehash.models.heads.likeness import LikenessHead
from anglehash.models.model import _restore_head, kind_of_head
from anglehash.training import fit_head as fit_head
from anglehash.training.fit_head import Labelled, learn_head

BITS = 16
LABELS = np.eye(2, dtype=bool)[np.arange(200) % 2]


class FirstFeatures(nn.Module):
    """A head whose logits are the first features."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features[:, :BITS]


@pytest.fixture(scope="module")
def features() -> NDArray[np.float32]:
    """Two classes far apart in the first features, and a place inside the class in the others."""
    rng = np.random.default_rng(0)
    sides = np.sign(rng.standard_normal((2, BITS)))
    labels = np.arange(200) % 2
    noise = rng.standard_normal((200, BITS)) * 0.3
    return np.hstack([sides[labels] * 4 + noise, rng.standard_normal((200, 24))]).astype(np.float32)


def test_logits_are_the_two_unit_vectors_weighted() -> None:
    # z = (3, 4) / 5; x - mu = (3, 4, 0) / 5: the first bit reads z_1 twice, the second f_2 and z_2
    class Two(nn.Module):
        def forward(self, features: torch.Tensor) -> torch.Tensor:
            return features[:, :2] - 1

    head = LikenessHead(
        Two(),
        mean=torch.ones(3),
        logit_weight=torch.tensor([[2.0, 0.0], [0.0, 1.0]]),
        feature_weight=torch.tensor([[0.0, 0.0, 0.0], [0.0, 10.0, 0.0]]),
    )
    assert head(torch.tensor([[4.0, 5.0, 1.0]])).tolist() == [pytest.approx([1.2, 8.8])]
    assert head.of_logits(torch.tensor([[3.0, 4.0]])).tolist() == [pytest.approx([1.2, 0.8])]


def test_little_likeness_is_the_methods_own_code(features: NDArray[np.float32]) -> None:
    rng = np.random.default_rng(1)
    spread = features.copy()
    spread[:, :BITS] = np.sign(rng.standard_normal((200, BITS))) + rng.uniform(-0.3, 0.3, (200, BITS))
    head = with_likeness(FirstFeatures(), spread, LABELS, 0.01)
    own, joined = pack(spread[:, :BITS]), pack(logits_of(head, spread))
    assert np.mean(hamming(own, joined)[np.arange(200), np.arange(200)]) / BITS < 0.02


def test_more_likeness_follows_the_features_more(features: NDArray[np.float32]) -> None:
    centred = features - features.mean(axis=0)
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    pairs = np.triu_indices(100, 1)
    cosine = (unit[::2] @ unit[::2].T)[pairs]  # inside one class

    def follows(likeness: float) -> float:
        codes = pack(logits_of(with_likeness(FirstFeatures(), features, LABELS, likeness), features))[::2]
        return float(np.cov(-hamming(codes, codes)[pairs], cosine)[0, 1])

    assert follows(0.1) < follows(1.0) < follows(4.0)


def test_codes_of_one_class_differ_and_classes_stay_apart(features: NDArray[np.float32]) -> None:
    codes = pack(logits_of(with_likeness(FirstFeatures(), features, LABELS, 1.0), features))
    own = pack(features[:, :BITS])
    assert len(np.unique(codes, axis=0)) > len(np.unique(own, axis=0))
    same = np.arange(200)[:, None] % 2 == np.arange(200) % 2
    distances = hamming(codes, codes)
    assert distances[same].mean() < distances[~same].mean()


def test_the_scale_of_the_logits_does_not_matter(features: NDArray[np.float32]) -> None:
    head = with_likeness(FirstFeatures(), features, LABELS, 1.0)
    longer = LikenessHead(
        nn.Sequential(FirstFeatures(), _Times(7.0)),
        **dict(head.state_dict()),
    )
    np.testing.assert_allclose(logits_of(longer, features), logits_of(head, features), atol=1e-5)


class _Times(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return values * self.factor


@pytest.mark.parametrize("method", ["andsh", "itq", "posterior"])
def test_every_kind_of_method_takes_it_and_is_restored(method: str, features: NDArray[np.float32]) -> None:
    config = settled(TrainConfig(method=method, bits=BITS, epochs=1))
    learned = learn_head(Labelled(features, LABELS), config, held=Labelled(features[:20], LABELS[:20]))
    assert isinstance(learned.head, LikenessHead)
    assert 0 <= learned.log[-1]["validation_map"] <= 1
    kind, state = kind_of_head(learned.head), learned.head.state_dict()
    again = _restore_head(kind, config, features.shape[1], state).eval()
    np.testing.assert_array_equal(logits_of(again, features), logits_of(learned.head, features))


def test_more_bits_than_directions_still_give_codes(features: NDArray[np.float32]) -> None:
    few = features[:6]
    codes = pack(logits_of(with_likeness(FirstFeatures(), few, LABELS[:6], 1.0), few))
    assert len(np.unique(codes, axis=0)) > 1


def test_zero_is_the_method_alone(features: NDArray[np.float32]) -> None:
    config = settled(TrainConfig(method="itq", bits=BITS, likeness=0.0))
    assert not isinstance(learn_head(Labelled(features, LABELS), config).head, LikenessHead)


def test_a_negative_weight_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"likeness must be in 0\.\.100"):
        TrainConfig(likeness=-1.0)
