from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from anglehash.errors import ModelError
from anglehash.models.heads.classical import HEADS, KernelHead, LinearHead, SpectralHead, restore_head
from anglehash.models.heads.hash_head import logits_of


def state(kind: str, *, width: int = 3, bits: int = 4, anchors: int = 5) -> dict[str, Tensor]:
    """Random tensors of a head."""
    shapes = {
        "linear": {"mean": (width,), "scale": (width,), "weight": (bits, width), "bias": (bits,)},
        "kernel": {
            "mean": (width,),
            "scale": (width,),
            "anchors": (anchors, width),
            "sigma": (),
            "centre": (anchors,),
            "weight": (bits, anchors),
            "bias": (bits,),
        },
        "spectral": {
            "mean": (width,),
            "scale": (width,),
            "weight": (bits, width),
            "low": (bits,),
            "frequency": (bits,),
        },
        "posterior": {
            "mean": (width,),
            "scale": (width,),
            "hidden_weight": (2, 6, width),
            "hidden_bias": (2, 6),
            "class_weight": (2, 5, 6),
            "class_bias": (2, 5),
            "roots": (),
            "code_weight": (8, 5),
            "code_bias": (8,),
            "weight": (bits, 8),
            "bias": (bits,),
        },
    }
    generator = torch.Generator().manual_seed(0)
    return {name: torch.rand(shape, generator=generator) + 0.5 for name, shape in shapes[kind].items()}


def test_a_linear_head_is_what_it_says() -> None:
    head = LinearHead(
        mean=torch.tensor([1.0, 20.0]),
        scale=torch.tensor([1.0, 0.1]),
        weight=torch.tensor([[1.0, 0], [1, 1], [-1, 0]]),
        bias=torch.tensor([0.0, 0.5, 0]),
    )
    assert head(torch.tensor([[3.0, 40.0]])).tolist() == [[2.0, 4.5, -2.0]]  # scaled: 2, 2


def test_a_kernel_head_equals_loops() -> None:
    tensors = state("kernel")
    x = torch.rand(6, 3, generator=torch.Generator().manual_seed(1)) * 3
    got = logits_of(KernelHead(**tensors), x.numpy())
    t = {name: tensor.double().numpy() for name, tensor in tensors.items()}
    for i, row in enumerate(x.double().numpy()):
        scaled = (row - t["mean"]) * t["scale"]
        kernel = [
            math.exp(-sum((s - a) ** 2 for s, a in zip(scaled, anchor, strict=True)) / (2 * t["sigma"] ** 2))
            for anchor in t["anchors"]
        ]
        for bit in range(4):
            expected = t["bias"][bit] + sum(
                w * (k - c) for w, k, c in zip(t["weight"][bit], kernel, t["centre"], strict=True)
            )
            assert got[i, bit] == pytest.approx(expected, rel=1e-5)


def test_a_spectral_head_equals_loops() -> None:
    tensors = state("spectral")
    x = torch.rand(6, 3, generator=torch.Generator().manual_seed(1)) * 3
    got = logits_of(SpectralHead(**tensors), x.numpy())
    t = {name: tensor.double().numpy() for name, tensor in tensors.items()}
    for i, row in enumerate(x.double().numpy()):
        for bit in range(4):
            along = float(((row - t["mean"]) * t["scale"]) @ t["weight"][bit])
            expected = math.sin(math.pi / 2 + t["frequency"][bit] * (along - t["low"][bit]))
            assert got[i, bit] == pytest.approx(expected, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("kind", HEADS)
def test_a_head_survives_a_file(kind: str, tmp_path: Path) -> None:
    head = restore_head(kind, state(kind))
    save_file(head.state_dict(), tmp_path / "head.safetensors")
    again = restore_head(kind, load_file(tmp_path / "head.safetensors"))
    x = np.random.default_rng(0).random((5, 3), dtype=np.float32)
    assert np.array_equal(logits_of(again, x), logits_of(head, x))


@pytest.mark.parametrize("kind", HEADS)
def test_a_head_owns_its_tensors(kind: str) -> None:
    tensors = state(kind)
    head, x = restore_head(kind, tensors), torch.rand(2, 3)
    before = head(x)
    for tensor in tensors.values():
        tensor.zero_()
    assert torch.equal(head(x), before)


@pytest.mark.parametrize("kind", HEADS)
def test_every_tensor_must_be_there_and_fit(kind: str) -> None:
    for name, tensor in state(kind).items():
        rest = {key: value for key, value in state(kind).items() if key != name}
        with pytest.raises(ModelError, match=f"{kind} head does not hold what it should: .*{name}"):
            restore_head(kind, rest)
        for wrong in (tensor[None], torch.zeros(7), torch.zeros(7, 7)):
            with pytest.raises(ModelError, match="must have the shape"):
                restore_head(kind, {**rest, name: wrong})
    with pytest.raises(ModelError, match=r"does not hold what it should: .*extra"):
        restore_head(kind, {**state(kind), "extra": torch.zeros(1)})


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ModelError, match="unknown kind 'lineal'; known: kernel, linear, posterior, spectral"):
        restore_head("lineal", {})
