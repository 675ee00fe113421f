"""Every method by name: the losses of deep hashing, and the conventional methods on features.

A *loss* trains a network by gradient (:data:`~anglehash.methods.losses.LOSSES`); a *conventional* method
computes its hash functions from the features of the training images in its own way
(:data:`~anglehash.methods.classical.CLASSICAL`). Either gives a model like any other.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from anglehash.config import TrainConfig
from anglehash.errors import ConfigError, unknown
from anglehash.methods.classical import CLASSICAL
from anglehash.methods.losses import LOSSES

if TYPE_CHECKING:
    from torch import nn

COMMON = {
    "hidden": 256,
    "batch_norm": True,
    "dropout": 0.5,
    "epochs": 30,
    "learning_rate": 3e-3,
    "weight_decay": 5e-4,
}
"""Settings that a preset leaves open: the head that most methods do best with (docs/results.md)."""

_NO_OPTIONS = {
    "loss": ("bits", "classes", "generator"),
    "classical": ("features", "labels", "bits", "seed", "progress"),
}
"""Parameters that a run fills in itself."""


def method_names() -> list[str]:
    """All methods, sorted."""
    return sorted([*LOSSES, *CLASSICAL])


def is_classical(name: str) -> bool:
    """Whether a method learns from features alone, without gradient steps.

    Raises:
        ConfigError: no such method.
    """
    return name not in LOSSES and _member(name) is not None


def kind_of(name: str) -> str:
    """What a method is called in a table: ``deep`` where a network learns by gradient, else ``shallow``.

    Raises:
        ConfigError: no such method.

    >>> kind_of("andsh"), kind_of("posterior"), kind_of("itq")
    ('deep', 'deep', 'classical')
    """
    return "classical" if is_classical(name) and name != "posterior" else "deep"


def is_frozen(config: TrainConfig) -> bool:
    """Whether a run leaves its backbone as it is and learns from its features alone, by no loss of batches.

    What is said of epochs, rates and the like then means nothing.

    Raises:
        ConfigError: no such method.

    >>> [is_frozen(TrainConfig(method=name)) for name in ("posterior", "itq", "andsh")]
    [True, True, False]
    """
    return is_classical(config.method) and not config.fine_tune


def settled(config: TrainConfig) -> TrainConfig:
    """The config with every open setting taken from its method's preset, else from :data:`COMMON`.

    Raises:
        ConfigError: the method, the preset or an option of the method is unknown, or nested codes are asked for
            with likeness or of several networks.
    """
    presets: Mapping[str, Mapping[str, Any]] = getattr(_member(config.method), "presets", {"default": {}})
    if config.preset not in presets:
        raise unknown(f"preset of {config.method}", config.preset, presets)
    config = config.with_preset(presets[config.preset]).with_preset(COMMON)
    known = default_options(config.method)
    for name in config.loss:
        if name not in known:
            raise unknown(f"option of the method {config.method}", name, known)
    if config.loss.get("nested") and (config.likeness or config.networks > 1):
        raise ConfigError(
            "the first bits of codes with likeness, or of several networks, are no codes of their own, got nested = "
            f"{config.loss['nested']}, likeness = {config.likeness:g} and networks = {config.networks}: give "
            "--likeness 0 and networks = 1, or leave out nested"
        )
    return config


def default_options(name: str) -> dict[str, Any]:
    """A method's own options and their defaults.

    Raises:
        ConfigError: no such method.

    >>> default_options("dpn")
    {'m': 1.0, 'centers': 'sampled', 'seed': 0}
    """
    filled = _NO_OPTIONS["classical" if is_classical(name) else "loss"]
    parameters = inspect.signature(_member(name)).parameters.values()
    return {p.name: p.default for p in parameters if p.name not in filled}


def _member(name: str) -> Callable[..., nn.Module]:
    if name in LOSSES:
        return LOSSES[name]
    if name in CLASSICAL:
        return CLASSICAL[name]
    raise unknown("method", name, method_names())
