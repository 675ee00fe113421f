"""With a stand-in for the library, which is optional and large."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from anglehash.errors import ConfigError, MissingExtraError, ModelError
from anglehash.models.backbones import make_backbone
from anglehash.models.networks import run_module

WEIGHTS = SimpleNamespace(
    url="https://example.org/models/net-1234abcd.pth",
    transforms=lambda: SimpleNamespace(mean=[0.0, 0.0, 0.0], std=[1.0, 1.0, 1.0]),
)


class AlexLike(nn.Module):
    """The last linear layer sits inside the classifier, as in AlexNet."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.classifier = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 1000))

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.classifier(self.features(x))
        return scores


class Models(ModuleType):
    """What is used of torchvision.models; notes which weights were asked for."""

    def __init__(self) -> None:
        super().__init__("torchvision.models")
        self.asked: list[Any] = []

    def get_model_weights(self, name: str) -> Any:
        if name not in ("alexnet", "squeezenet"):
            raise ValueError(f"Unknown model {name}")
        return SimpleNamespace(DEFAULT=WEIGHTS)

    def get_model(self, name: str, *, weights: Any) -> nn.Module:
        self.asked.append(weights)
        return AlexLike() if name == "alexnet" else nn.Sequential(nn.Conv2d(3, 4, 1), nn.Flatten())


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Models:
    library, package = Models(), ModuleType("torchvision")
    package.models = library  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torchvision", package)
    monkeypatch.setitem(sys.modules, "torchvision.models", library)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    return library


def test_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(MissingExtraError, match=r"'torchvision' is needed.*anglehash\[torchvision\]"):
        make_backbone("torchvision:alexnet", size=8)


def test_gives_what_the_last_linear_layer_is_fed_with(models: Models) -> None:
    backbone = make_backbone("torchvision:alexnet", size=8, pretrained=False)
    assert backbone.width == 5
    assert models.asked == [None]
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
    assert backbone.module is not None
    network = backbone.module.get_submodule("network")
    first = network.get_submodule("classifier.0")
    with torch.inference_mode():
        expected = first(torch.from_numpy(images.mean(axis=(1, 2)) / 255).float()).relu()
    np.testing.assert_allclose(run_module(backbone.module, images), expected, atol=1e-5)


def test_downloads_only_with_leave(models: Models, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="torchvision:alexnet are not on this machine: allow the download"):
        make_backbone("torchvision:alexnet", size=8)
    assert models.asked == []
    make_backbone("torchvision:alexnet", size=8, download=True)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "net-1234abcd.pth").touch()
    make_backbone("torchvision:alexnet", size=8)
    assert models.asked == [WEIGHTS, WEIGHTS]


def test_an_unknown_network_is_named(models: Models) -> None:
    with pytest.raises(ConfigError, match="no network 'alexnett': Unknown model"):
        make_backbone("torchvision:alexnett", size=8, pretrained=False)


def test_a_network_without_a_linear_layer_is_refused(models: Models) -> None:
    with pytest.raises(ConfigError, match="no linear layer"):
        make_backbone("torchvision:squeezenet", size=8, pretrained=False)
