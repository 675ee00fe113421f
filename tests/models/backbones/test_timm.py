"""With a stand-in for the library, which is optional and large."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from anglehash.errors import ConfigError, MissingExtraError, ModelError
from anglehash.models.backbones import make_backbone, restore_backbone
from anglehash.models.networks import run_module


class Net(nn.Sequential):
    """Its features are the standardised channels, averaged and halved."""

    def __init__(self) -> None:
        halve = nn.Linear(3, 3, bias=False)
        halve.weight.data = 0.5 * torch.eye(3)
        super().__init__(nn.AdaptiveAvgPool2d(1), nn.Flatten(), halve)
        self.pretrained_cfg = {"mean": (0.5, 0.25, 0.0), "std": (0.5, 0.25, 1.0)}


class Timm(ModuleType):
    """What is used of timm and of the hub's library; notes how the network was asked for."""

    def __init__(self, cached: dict[str, str]) -> None:
        super().__init__("timm")
        self.asked: list[dict[str, Any]] = []
        self._cached = cached

    def is_model(self, name: str) -> bool:
        return name.partition(".")[0] == "net"

    def get_pretrained_cfg(self, name: str) -> Any:
        return SimpleNamespace(hf_hub_id="timm/net")

    def create_model(self, name: str, **options: Any) -> Net:
        self.asked.append(options)
        if name.endswith(".wrong"):
            raise RuntimeError("Invalid pretrained tag (wrong) for net.")
        return Net()

    def try_to_load_from_cache(self, repository: str, file: str) -> object:
        assert repository == "timm/net"
        return self._cached.get(file, object())  # the library answers "known to be absent" with an object


@pytest.fixture
def cached() -> dict[str, str]:
    """Files in the hub's cache."""
    return {}


@pytest.fixture
def timm(cached: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Timm:
    library = Timm(cached)
    monkeypatch.setitem(sys.modules, "timm", library)
    monkeypatch.setitem(sys.modules, "huggingface_hub", library)
    return library


def test_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(MissingExtraError, match=r"'timm' is needed.*anglehash\[timm\]"):
        make_backbone("timm:net", size=8)


def test_takes_raw_pixels(timm: Timm) -> None:
    backbone = make_backbone("timm:net", size=8, pretrained=False)
    assert timm.asked == [{"num_classes": 0}]
    image = np.full((1, 8, 8, 3), 255, dtype=np.uint8)
    # ((1 - .5) / .5, (1 - .25) / .25, 1 / 1) / 2
    assert backbone.module is not None
    np.testing.assert_allclose(run_module(backbone.module, image), [[0.5, 1.5, 0.5]], rtol=1e-6)


def test_downloads_only_with_leave(timm: Timm, cached: dict[str, str]) -> None:
    with pytest.raises(ModelError, match="timm:net are not on this machine: allow the download"):
        make_backbone("timm:net", size=8)
    assert timm.asked == []
    make_backbone("timm:net", size=8, download=True)
    assert timm.asked.pop() == {"num_classes": 0, "pretrained": True}
    cached["pytorch_model.bin"] = "/cache/old"
    make_backbone("timm:net", size=8)
    assert timm.asked.pop()["pretrained_cfg_overlay"] == {"file": "/cache/old"}
    cached["model.safetensors"] = "/cache/new"
    make_backbone("timm:net", size=8)
    assert timm.asked.pop()["pretrained_cfg_overlay"] == {"file": "/cache/new"}


def test_a_model_brings_its_own_weights(timm: Timm, tmp_path: Path) -> None:
    backbone = make_backbone("timm:net", size=8, download=True)
    backbone.save(tmp_path)
    facts = {"name": "timm:net", "identity": backbone.identity}
    again = restore_backbone(tmp_path, facts, backbone.preprocessing.to_dict())
    assert timm.asked[-1] == {"num_classes": 0}
    assert again.identity == backbone.identity
    assert again.pretrained


@pytest.mark.parametrize(
    ("name", "message"), [("nett", "no network 'nett'"), ("net.wrong", "Invalid pretrained tag")]
)
def test_an_unknown_network_is_named(name: str, message: str, timm: Timm) -> None:
    with pytest.raises(ConfigError, match=message):
        make_backbone(f"timm:{name}", size=8, download=True)
