"""Any network of the timm library, by its name there: ``timm:resnet50``, ``timm:vit_base_patch16_224.dino``.

timm downloads weights from the Hugging Face hub; without leave to do so only those in the hub's cache
on this machine are taken.
"""

from __future__ import annotations

from typing import Any

from anglehash.errors import ConfigError, MissingExtraError, ModelError, first_line
from anglehash.models.backbones import BACKBONES, Backbone, Request
from anglehash.models.networks import Normalised

FILES = ("model.safetensors", "pytorch_model.bin")
"""Names under which timm keeps weights on the hub, in its order of preference."""


@BACKBONES.register("timm:")
def make(request: Request) -> Backbone:
    """A network of timm, without its classifier.

    Raises:
        MissingExtraError: timm is not installed.
        ConfigError: timm has no such network.
        ModelError: its weights are not on this machine, and may not be downloaded.
    """
    name = request.argument
    try:
        import timm
    except ImportError as error:
        raise MissingExtraError("timm", extra="timm") from error
    if not timm.is_model(name):
        raise ConfigError(f"timm has no network {name!r}: timm.list_models() names them all")
    options: dict[str, Any] = {}
    if request.pretrained and request.folder is None:
        options["pretrained"] = True
        if not request.download:
            options["pretrained_cfg_overlay"] = {"file": _cached_weights(timm.get_pretrained_cfg(name), name)}
    try:
        network = timm.create_model(name, num_classes=0, **options)
    except (RuntimeError, ValueError) as error:
        raise ConfigError(f"timm gives no network {name!r}: {first_line(error)}") from error
    facts = network.pretrained_cfg
    return Backbone(request, Normalised(network, facts["mean"], facts["std"]))


def _cached_weights(facts: Any, name: str) -> str:
    from huggingface_hub import try_to_load_from_cache

    for file in FILES:
        path = try_to_load_from_cache(facts.hf_hub_id, file) if facts and facts.hf_hub_id else None
        if isinstance(path, str):
            return path
    raise ModelError(
        f"the weights of timm:{name} are not on this machine: allow the download with --download"
    )
