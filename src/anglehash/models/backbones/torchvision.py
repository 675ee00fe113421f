"""Any classifier of torchvision, by its name there: ``torchvision:alexnet``, ``torchvision:resnet50``.

The features are what its last linear layer is fed with (4096 of AlexNet, 2048 of ResNet-50).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
from torch import nn

from anglehash.errors import ConfigError, MissingExtraError, ModelError, first_line
from anglehash.models.backbones import BACKBONES, Backbone, Request
from anglehash.models.networks import Normalised


@BACKBONES.register("torchvision:")
def make(request: Request) -> Backbone:
    """A classifier of torchvision, without its last linear layer.

    Raises:
        MissingExtraError: torchvision is not installed.
        ConfigError: torchvision has no such classifier, or it does not end in a linear layer.
        ModelError: its weights are not on this machine, and may not be downloaded.
    """
    name = request.argument
    try:
        from torchvision import models
    except ImportError as error:
        raise MissingExtraError("torchvision", extra="torchvision") from error
    try:
        weights = models.get_model_weights(name).DEFAULT
    except ValueError as error:
        raise ConfigError(f"torchvision gives no network {name!r}: {first_line(error)}") from error
    learned = request.pretrained and request.folder is None
    if learned and not request.download and not _cached(weights):
        raise ModelError(
            f"the weights of {request.name} are not on this machine: allow the download with --download"
        )
    network = models.get_model(name, weights=weights if learned else None)
    _drop_classifier(network, name)
    scaling = weights.transforms()
    return Backbone(request, Normalised(network, scaling.mean, scaling.std))


def _cached(weights: Any) -> bool:
    """Whether torch's own cache of downloads holds the weights."""
    return (Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(weights.url).path).name).is_file()


def _drop_classifier(network: nn.Module, name: str) -> None:
    linear = [path for path, module in network.named_modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise ConfigError(f"torchvision:{name} has no linear layer to take the features from: choose another")
    network.set_submodule(linear[-1], nn.Identity())
