"""The settings of one training run: frozen, checked, and readable from TOML."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from os import PathLike
from pathlib import Path
from typing import Any, Self

from anglehash.codes import check_bits
from anglehash.errors import ConfigError

MAX_PIXELS = 80_000_000
"""Pixels of an image that is decoded, unless somebody says otherwise."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """One run. Equal settings, data, library versions and kind of processor give equal codes.

    Another kind of processor rounds sums in another order: some codes differ there, and an mAP by about a thousandth.

    Settings that are ``None`` are taken from the preset of the method (:meth:`with_preset`).

    Attributes:
        bits: length of a code, 4..1024.
        method: name of the method: ``andsh``, the paper's, or another of docs/methods.md.
        preset: a named group of settings of that method; ``paper`` is the faithful one.
        loss: options of the loss, over those of the preset.
        likeness: how much a code keeps of what a picture looks like, beside what the method makes of it: the
            weight of the features against the method's logits (docs/likeness.md). 0 is the method's own code.
        networks: heads that learn from seeds of their own; a code is that of the mean of their logits, each at unit
            length. Not with ``fine_tune``.
        backbone: name of the network that turns images into features.
        image_size: side of its square input, in pixels.
        fine_tune: train the backbone too; otherwise its features are computed once and cached.
        backbone_rate: learning rate of a pretrained backbone as a share of the head's.
        flip: with ``fine_tune``, mirror training images left to right at random.
        hidden: width of one hidden layer of the hash head; 0 for a linear head.
        batch_norm: normalise the head's logits over the batch.
        dropout: share of features dropped while training.
        epochs: passes over the training images.
        batch_size: images in one step.
        learning_rate: peak of the one-cycle schedule of AdamW.
        weight_decay: decoupled weight decay.
        use_validation: learn from the validation images too; no validation mAP is then reported.
        unlabelled: what to do with images without a label: ``refuse`` or ``skip``.
        allow_truncated: accept JPEG files whose end is missing, in training and when encoding.
        max_pixels: of an image that is decoded, in training and when encoding; a JPEG may have four times as many.
        seed: seed of the weights, the order of images, dropout and augmentation.
        device: where networks learn and features are computed, ``cpu`` or ``cuda``; conventional methods compute
            their head on the CPU. Other codes come out of another device.
        threads: CPU threads of the network; two busy threads can be slower than one.
    """

    bits: int = 64
    method: str = "andsh"
    preset: str = "default"
    loss: Mapping[str, Any] = field(default_factory=dict)
    likeness: float = 1.0
    networks: int = 1
    backbone: str = "efficientnet_lite0"
    image_size: int = 128
    fine_tune: bool = False
    backbone_rate: float = 0.1
    flip: bool = True
    hidden: int | None = None
    batch_norm: bool | None = None
    dropout: float | None = None
    epochs: int | None = None
    batch_size: int = 128
    learning_rate: float | None = None
    weight_decay: float | None = None
    use_validation: bool = False
    unlabelled: str = "refuse"
    allow_truncated: bool = False
    max_pixels: int = MAX_PIXELS
    seed: int = 0
    device: str = "cpu"
    threads: int = 1

    def __post_init__(self) -> None:
        for f in fields(self):
            _check_type(f.name, getattr(self, f.name), str(f.type))
        check_bits(self.bits)
        _within("image_size", self.image_size, 8, 1024)
        _within("batch_size", self.batch_size, 2, 65536)
        _within("threads", self.threads, 1, 256)
        _within("seed", self.seed, 0, 2**31 - 1)
        _within("backbone_rate", self.backbone_rate, 0, 1)
        _within("likeness", self.likeness, 0, 100)
        _within("networks", self.networks, 1, 100)
        for name, low, high in (
            ("hidden", 0, 65536),
            ("epochs", 1, 100_000),
            ("dropout", 0, 0.95),
            ("learning_rate", 1e-8, 10),
            ("weight_decay", 0, 10),
        ):
            if getattr(self, name) is not None:
                _within(name, getattr(self, name), low, high)
        _within("max_pixels", self.max_pixels, 64, 1_000_000_000)
        if self.fine_tune and self.networks > 1:
            raise ConfigError(f"networks must be 1 where the backbone learns, got {self.networks}")
        if self.device not in ("cpu", "cuda"):
            raise ConfigError(f"device must be 'cpu' or 'cuda', got {self.device!r}")
        if self.unlabelled not in ("refuse", "skip"):
            raise ConfigError(f"unlabelled must be 'refuse' or 'skip', got {self.unlabelled!r}")

    @classmethod
    def from_toml(cls, path: str | PathLike[str], **overrides: Any) -> Self:
        """Settings from a TOML file; ``overrides`` win over the file.

        Raises:
            ConfigError: the file cannot be read, or a setting is unknown or out of range.
        """
        try:
            settings = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError(f"{path}: cannot read the settings: {error}") from error
        try:
            return cls.from_dict({**settings, **overrides})
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from error

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> Self:
        """Settings from a table.

        Raises:
            ConfigError: a setting is unknown or out of range.

        >>> TrainConfig.from_dict({"bit": 32})
        Traceback (most recent call last):
        anglehash.errors.ConfigError: unknown setting 'bit'; did you mean 'bits'? Known: allow_truncated, ...
        """
        from anglehash.errors import unknown

        known = {f.name for f in fields(cls)}
        for name in settings:
            if name not in known:
                raise unknown("setting", name, known)
        return cls(**settings)

    def with_preset(self, preset: Mapping[str, Any]) -> Self:
        """These settings, with every ``None`` and every missing loss option taken from ``preset``."""
        given = {k: v for k, v in preset.items() if k != "loss" and getattr(self, k) is None}
        return replace(self, **given, loss={**preset.get("loss", {}), **self.loss})

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON values."""
        return {**asdict(self), "loss": dict(self.loss)}


_KINDS: dict[str, tuple[type, str]] = {
    "int": (int, "a whole number"),
    "float": (float, "a number"),
    "bool": (bool, "true or false"),
    "str": (str, "a text"),
    "Mapping[str, Any]": (Mapping, "a table"),
}


def _check_type(name: str, value: Any, declared: str) -> None:
    kind, words = _KINDS[declared.removesuffix(" | None")]
    if value is None and declared.endswith(" | None"):
        return
    fits = isinstance(value, (int, float) if kind is float else kind)
    if not fits or (isinstance(value, bool) and kind is not bool):
        raise ConfigError(f"{name} must be {words}, got {value!r}")


def _within(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ConfigError(f"{name} must be in {low}..{high}, got {value!r}")
