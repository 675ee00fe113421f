from __future__ import annotations

import logging
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import anglehash.models.onnx_network as ours
from anglehash.encode.session import Session
from anglehash.errors import MissingExtraError, ModelError
from anglehash.files import cache_dir
from anglehash.models.backbones import make_backbone
from anglehash.models.backbones.efficientnet_lite import SameConv2d
from anglehash.models.networks import run_module
from anglehash.models.onnx_network import export, exported, read_plain

SIZE = 10


class Small(nn.Module):
    """A padding that depends on the size, a batch norm and a pooling: what a backbone is made of."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = SameConv2d(3, 4, 3, 2, bias=False)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.norm(self.conv((images - 127) / 128)).relu().mean(dim=(2, 3))
        return features


@pytest.fixture(scope="module")
def small() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Small().eval()


@pytest.fixture(scope="module")
def model(small: nn.Module) -> bytes:
    return export(small, SIZE)


@pytest.fixture
def images() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (5, SIZE, SIZE, 3), dtype=np.uint8)


def test_the_export_gives_what_torch_gives(small: nn.Module, model: bytes, images: NDArray[np.uint8]) -> None:
    session = Session(model)
    for n in (1, 2, 5):
        np.testing.assert_allclose(session(images[:n]), run_module(small, images[:n]), atol=1e-5)


def test_exporting_says_nothing_and_leaves_no_file(
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    export(nn.Flatten(), SIZE)  # warnings are errors here
    assert capfd.readouterr() == ("", "")
    assert [record for record in caplog.records if record.levelno >= logging.INFO] == []
    assert list(tmp_path.iterdir()) == []


def test_the_export_is_whole_in_itself(model: bytes) -> None:
    (image,) = read_plain(model, "small").graph.input
    assert image.name == "images"
    assert [dim.dim_value for dim in image.type.tensor_type.shape.dim] == [0, SIZE, SIZE, 3]
    assert image.type.tensor_type.elem_type == onnx.TensorProto.UINT8


def test_lite0_in_onnx_runtime_is_lite0_in_torch() -> None:
    """One size, since an export takes seconds; benchmarks/backbones.py checks 128 and 224."""
    size = 100  # -> 50 -> 25 -> 13 -> 7 -> 4: each kind of padding
    backbone = make_backbone("efficientnet_lite0", size=size)
    assert "onnxruntime" in backbone.engine
    assert backbone.module is not None
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (4, size // 4, size // 4, 3), dtype=np.uint8)
    images = images.repeat(4, axis=1).repeat(4, axis=2)
    features = backbone(images)
    expected = run_module(backbone.module, images)
    assert expected.max() > 1
    np.testing.assert_allclose(features, expected, atol=1e-4)
    # Codes must not depend on who is in the batch, nor on the threads: equal to the last digit.
    alone = np.concatenate([backbone(image[None]) for image in images])
    np.testing.assert_array_equal(alone, features)
    two_threads = make_backbone("efficientnet_lite0", size=size, threads=2)
    np.testing.assert_array_equal(two_threads(images), features)


def test_a_network_is_exported_once(
    small: nn.Module, model: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calls = []

    def count(module: nn.Module, size: int) -> bytes:
        calls.append(size)
        return model

    monkeypatch.setenv("ANGLEHASH_CACHE", str(tmp_path))
    monkeypatch.setattr(ours, "export", count)
    assert exported(small, SIZE, "weights") == model
    assert exported(small, SIZE, "weights") == model
    assert calls == [SIZE]
    exported(small, SIZE + 1, "weights")
    exported(small, SIZE, "other weights")
    assert calls == [SIZE, SIZE + 1, SIZE]

    monkeypatch.setattr(torch, "__version__", "another")
    exported(small, SIZE, "weights")
    assert len(calls) == 4


def test_a_damaged_export_is_made_again(
    small: nn.Module, model: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ANGLEHASH_CACHE", str(tmp_path))
    monkeypatch.setattr(ours, "export", lambda module, size: model)
    exported(small, SIZE, "weights")
    (path,) = (cache_dir() / "onnx").iterdir()
    damaged = bytearray(model)
    damaged[len(model) // 2] ^= 1
    path.write_bytes(damaged)
    assert exported(small, SIZE, "weights") == model
    assert path.read_bytes() == model


def test_what_onnx_runtime_cannot_read_is_a_model_error() -> None:
    with pytest.raises(ModelError, match="ONNX Runtime cannot read the model"):
        Session(b"not a model")


def test_reading_foreign_models_needs_onnx(monkeypatch: pytest.MonkeyPatch, model: bytes) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingExtraError, match=r"anglehash\[train\]"):
        read_plain(model, "small")
