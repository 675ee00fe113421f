"""Ensembles: the mean of unit logits of several networks, turned to those of the first."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from anglehash.benchmark.run_file import Run
from anglehash.config import TrainConfig
from anglehash.errors import ConfigError
from anglehash.methods.catalogue import settled
from anglehash.models.heads.ensemble import EnsembleHead, ensemble_of
from anglehash.models.heads.hash_head import logits_of
from anglehash.models.heads.likeness import LikenessHead
from anglehash.models.model import _restore_head, kind_of_head
from anglehash.training.fit_head import Labelled, Learned, learn_head

BITS = 8
LABELS = np.eye(2, dtype=bool)[np.arange(120) % 2]


@pytest.fixture(scope="module")
def known() -> Labelled:
    rng = np.random.default_rng(0)
    sides = rng.standard_normal((2, 20)) * 2
    return Labelled((LABELS @ sides + rng.standard_normal((120, 20))).astype(np.float32), LABELS)


class Turned(nn.Module):
    """Logits that are the features, turned and scaled."""

    def __init__(self, rotation: NDArray[np.float64], scale: float = 1.0) -> None:
        super().__init__()
        self.register_buffer("matrix", torch.from_numpy(rotation * scale))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features @ self.get_buffer("matrix").to(features.dtype)


def test_logits_are_the_mean_of_turned_units() -> None:
    # (3, 4) / 5 as it is, and (0, 2) / 2 with its axes swapped: the mean of (.6, .8) and (1, 0)
    swap = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [1.0, 0.0]]])
    head = EnsembleHead([nn.Identity(), nn.Identity()], rotations=swap)
    got = head.of_logits([torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, 2.0]])])
    assert got.tolist() == [pytest.approx([0.8, 0.4])]


def test_networks_that_differ_by_a_rotation_are_one() -> None:
    rng = np.random.default_rng(0)
    features = rng.standard_normal((50, BITS)).astype(np.float32)
    turns = [np.linalg.qr(rng.standard_normal((BITS, BITS)))[0] for _ in range(2)]
    head = ensemble_of([Turned(np.eye(BITS)), *(Turned(turn, 3.0) for turn in turns)], features)
    expected = features / np.linalg.norm(features, axis=1, keepdims=True)
    np.testing.assert_allclose(logits_of(head, features), expected, atol=1e-5)


def test_no_other_rotation_brings_them_nearer(known: Labelled) -> None:
    rng = np.random.default_rng(0)
    matrices = [rng.standard_normal((20, 3)) for _ in range(2)]
    head = ensemble_of([Turned(matrix) for matrix in matrices], known.features)
    first, second = (known.features @ matrix for matrix in matrices)
    first, second = (logits / np.linalg.norm(logits, axis=1, keepdims=True) for logits in (first, second))
    found = head.rotations[1].numpy()
    np.testing.assert_allclose(found @ found.T, np.eye(3), atol=1e-5)
    least = np.square(second @ found.T - first).sum()
    for _ in range(200):
        other = np.linalg.qr(rng.standard_normal((3, 3)))[0]
        assert np.square(second @ other.T - first).sum() >= least - 1e-6


def learned(known: Labelled, **settings: object) -> Learned:
    config = settled(TrainConfig.from_dict({"bits": BITS, "epochs": 2, "likeness": 0.0, **settings}))
    return learn_head(known, config, held=Labelled(known.features[:20], known.labels[:20]))


@pytest.mark.parametrize("likeness", [0.0, 1.0])
@pytest.mark.parametrize("method", ["andsh", "csq", "itq", "posterior"])
def test_every_kind_of_method_takes_it_and_is_restored(method: str, likeness: float, known: Labelled) -> None:
    found = learned(known, method=method, networks=2, likeness=likeness)
    inside = found.head.base if isinstance(found.head, LikenessHead) else found.head
    assert isinstance(inside, EnsembleHead)
    assert len(inside.heads) == 2
    assert 0 <= found.log[-1]["validation_map"] <= 1
    config = settled(TrainConfig(method=method, bits=BITS, networks=2))
    again = _restore_head(kind_of_head(found.head), config, 20, found.head.state_dict()).eval()
    np.testing.assert_array_equal(logits_of(again, known.features), logits_of(found.head, known.features))


def test_each_network_is_the_one_that_its_seed_gives(known: Labelled) -> None:
    head = learned(known, networks=2, seed=1).head
    assert isinstance(head, EnsembleHead)
    for own, seed in zip(head.heads, (2, 3), strict=True):
        alone = learned(known, seed=seed).head
        np.testing.assert_array_equal(logits_of(own, known.features), logits_of(alone, known.features))


def test_class_vectors_are_joined_like_logits(known: Labelled) -> None:
    found = learned(known, networks=2)
    assert found.class_vectors.shape == (2, BITS)
    assert learned(known, method="dtsh", networks=2).class_vectors.shape == (0, BITS)


def test_a_variant_of_a_benchmark_may_ask_for_networks(tmp_path: Path) -> None:
    text = 'data = "digits"\nprotocol = "holdout"\nbits = [8]\nseeds = [0]\n'
    for name in ("andsh", "itq"):
        for networks in (1, 5):
            text += f'[[variants]]\nname = "{name} x {networks}"\nmethod = "{name}"\nnetworks = {networks}\n'
    path = tmp_path / "run.toml"
    path.write_text(text)
    cells = list(Run.from_toml(path).cells())
    assert [cell.config.networks for cell in cells] == [1, 5, 1, 5]
    assert len({cell.hash for cell in cells}) == 4


def test_out_of_range_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"networks must be in 1\.\.100, got 0"):
        TrainConfig(networks=0)
    with pytest.raises(ConfigError, match="networks must be 1 where the backbone learns, got 5"):
        replace(TrainConfig(networks=5), fine_tune=True)
