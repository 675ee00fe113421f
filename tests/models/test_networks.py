from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from anglehash.errors import ModelError
from anglehash.models.networks import Normalised, load_weights, run_module, save_weights, weights_sha256


def test_normalised_feeds_standardised_channels() -> None:
    network = Normalised(nn.Flatten(), mean=[0.5, 0.0, 1.0], std=[0.5, 1.0, 0.25])
    images = torch.tensor([255.0, 51.0, 0.0]).view(1, 3, 1, 1)
    # (1 - .5) / .5 = 1; .2 / 1; (0 - 1) / .25 = -4
    torch.testing.assert_close(network(images), torch.tensor([[1.0, 0.2, -4.0]]))


def test_run_module_evaluates_and_leaves_the_mode() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Dropout(0.9))
    images = np.arange(12, dtype=np.uint8).reshape(1, 2, 2, 3)
    assert module.train()
    assert run_module(module, images).tolist() == [[0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11]]
    assert module.training
    assert module[1].training
    run_module(module.eval(), images)
    assert not module.training


def test_weights_survive_a_file_and_keep_their_hash(tmp_path: Path) -> None:
    first, second = nn.Linear(3, 2), nn.Linear(3, 2)
    assert weights_sha256(first.state_dict()) != weights_sha256(second.state_dict())
    save_weights(first, tmp_path / "w.safetensors")
    load_weights(second, tmp_path / "w.safetensors")
    assert weights_sha256(first.state_dict()) == weights_sha256(second.state_dict())


def test_weights_that_share_memory_can_be_saved(tmp_path: Path) -> None:
    tied = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])
    tied[1].weight = tied[0].weight
    save_weights(tied, tmp_path / "w.safetensors")
    load_weights(tied, tmp_path / "w.safetensors")


def test_the_hash_sees_names_types_and_shapes() -> None:
    zeros = torch.zeros(4)
    states = [
        {"a": zeros},
        {"b": zeros},
        {"a": zeros.view(2, 2)},
        {"a": zeros.double()[:2]},
        {"a": zeros + 1},
    ]
    assert len({weights_sha256(state) for state in states}) == len(states)


@pytest.mark.parametrize("content", [None, b"", b"pickle", "other"])
def test_other_weights_are_refused(tmp_path: Path, content: bytes | str | None) -> None:
    path = tmp_path / "w.safetensors"
    if content == "other":
        save_weights(nn.Linear(3, 3), path)
    elif isinstance(content, bytes):
        path.write_bytes(content)
    with pytest.raises(ModelError, match=r"w\.safetensors does not hold the weights"):
        load_weights(nn.Linear(3, 2), path)
