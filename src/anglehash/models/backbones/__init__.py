"""Backbones: networks that turn prepared images into feature vectors.

A backbone is one name. Its network takes raw RGB, 0 to 255, and normalises inside, so that training,
command line and service cannot disagree on it. Features of a network that does not learn any more are
computed by ONNX Runtime, over three times as fast as torch on a processor; torch trains. Whatever computes
them, an image has the same features, to the last digit, alone and in any batch: so are its codes.

A member is a file of this folder with a function that is registered under its name; a name that ends
in ``:`` takes an argument behind it (``onnx:FILE``).
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from anglehash.config import MAX_PIXELS
from anglehash.data.images.decoding import Limits, Preprocessing
from anglehash.encode.session import Session
from anglehash.errors import ConfigError, DataError, ModelError, first_line
from anglehash.files import sha256_json
from anglehash.models.device import training_device
from anglehash.models.networks import load_weights, run_module, save_weights, weights_sha256
from anglehash.models.onnx_network import exported
from anglehash.registry import Registry

BATCH = 32
"""Images that go through a network at once: more do not go faster, and need more memory."""

WEIGHTS = "backbone.safetensors"

_log = logging.getLogger(__name__)

Run = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The backbone that is wanted.

    Attributes:
        name: as the user writes it.
        preprocessing: how its images are prepared; holds the size.
        pretrained: with learned weights; else with those that torch's random generator gives now.
        download: weights that are not on this machine may be fetched.
        threads: CPU threads of ONNX Runtime.
        folder: the model folder that holds the weights (:meth:`Backbone.save`); it wins over ``pretrained``.
        device: where features are computed, ``cpu`` or ``cuda``.
    """

    name: str
    preprocessing: Preprocessing
    pretrained: bool = True
    download: bool = False
    threads: int = 1
    folder: Path | None = None
    device: str = "cpu"

    @property
    def kind(self) -> str:
        """The registered name: up to the colon, with it."""
        kind, colon, _ = self.name.partition(":")
        return kind + colon

    @property
    def argument(self) -> str:
        """What follows the colon.

        Raises:
            ConfigError: nothing does.
        """
        argument = self.name.partition(":")[2]
        if not argument:
            raise ConfigError(f"backbone {self.name!r} wants a name behind the colon, got none")
        return argument


BACKBONES: Registry[Callable[[Request], Backbone]] = Registry("backbone", package=__name__)


class Backbone:
    """A torch network that turns prepared images into features.

    ``backbone(images)`` takes ``(n, size, size, 3)`` ``uint8`` and returns ``(n, width)`` ``float32``.

    Args:
        request: what was asked for.
        module: takes ``(n, 3, size, size)`` float, 0 to 255, and returns ``(n, width)``; becomes frozen.
        pretrained: whether the weights were learned from images, so that frozen features are of use; as
            the request has it if not given.
        export: run it with ONNX Runtime; not worth it for a network that is tiny.

    Attributes:
        name: what the user calls it.
        size: side of its images, in pixels.
        width: length of a feature vector.
        preprocessing: how its images are prepared.
        identity: sha256 over network, weights and preprocessing: equal identities, equal features.
        pretrained: whether its weights were learned, so that frozen features are of use.
        engine: what computes the features, with its version: another one differs in the last digits.
        module: the frozen network; ``None`` where only a file is known. Train a copy: :meth:`trainable`.

    Raises:
        ConfigError: the network does not take images of this size.
        ModelError: the request's folder does not hold this network's weights.
    """

    module: nn.Module | None

    def __init__(
        self, request: Request, module: nn.Module, *, pretrained: bool | None = None, export: bool = True
    ) -> None:
        if request.folder is not None:
            load_weights(module, request.folder / WEIGHTS)
        self.module = module.eval().requires_grad_(False)
        self.pretrained = request.pretrained if pretrained is None else pretrained
        self._export = export and request.device == "cpu" and find_spec("onnxscript") is not None
        network = {"name": request.name, "weights": weights_sha256(module.state_dict())}
        engine = ("onnxruntime", "torch") if self._export else ("torch",)
        self._describe(request, network, width=_width(module, request), engine=engine)

    def _describe(
        self, request: Request, network: Mapping[str, Any], *, width: int, engine: Sequence[str]
    ) -> None:
        self.request = request
        self.name = request.name
        self.preprocessing = request.preprocessing
        self.size = request.preprocessing.size
        self.width = width
        facts = {"network": dict(network), "preprocessing": request.preprocessing.to_dict()}
        self.identity = sha256_json(facts)
        names = [f"{library} {version(library)}" for library in engine]
        self.engine = " ".join(names if request.device == "cpu" else [*names, request.device])

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Features of prepared images.

        Raises:
            DataError: the images have another shape or type.
            ModelError: a feature is NaN or infinite.
        """
        if images.dtype != np.uint8 or images.shape[1:] != (self.size, self.size, 3):
            raise DataError(
                f"{self.name} takes uint8 images of shape (n, {self.size}, {self.size}, 3), "
                f"got {images.dtype} {images.shape}"
            )
        features = np.empty((len(images), self.width), dtype=np.float32)
        for start in range(0, len(images), BATCH):
            features[start : start + BATCH] = self._run(images[start : start + BATCH])
        if bad := int((~np.isfinite(features).all(axis=1)).sum()):
            raise ModelError(
                f"{self.name} gives NaN or infinite features for {bad} of {len(images)} images: "
                "its weights are unusable"
            )
        return features

    @cached_property
    def _run(self) -> Run:
        return self._start()

    def _start(self) -> Run:
        """The engine; only now, since an export takes seconds and may not be needed."""
        module = self._module()
        if self.request.device != "cpu":
            return partial(run_module, copy.deepcopy(module).to(training_device(self.request.device)))
        if self._export:
            try:
                model = exported(module, self.size, self.identity)
                return Session(model, threads=self.request.threads)
            except torch.onnx.OnnxExporterError as error:
                _log.warning("%s runs in torch: it cannot be exported (%s)", self.name, first_line(error))
        return partial(_one_by_one, module)

    def trainable(self) -> nn.Module:
        """A copy of the network that can learn; give its weights to :meth:`with_weights` at the end.

        Raises:
            ConfigError: the backbone is a file without a network that could learn.
        """
        return copy.deepcopy(self._module()).requires_grad_(True).train()

    def with_weights(self, state: Mapping[str, Tensor]) -> Backbone:
        """The same backbone with other weights, hence with another identity.

        Raises:
            ConfigError: the backbone is a file without a network that could learn.
        """
        module = copy.deepcopy(self._module())
        module.load_state_dict(state)
        request = replace(self.request, folder=None)
        return Backbone(request, module, pretrained=True, export=self._export)

    def _module(self) -> nn.Module:
        if self.module is None:
            raise ConfigError(
                f"{self.name} cannot be fine-tuned: an ONNX file is frozen. Leave out --fine-tune"
            )
        return self.module

    def save(self, folder: Path) -> None:
        """Write what :func:`restore_backbone` needs into a model's folder."""
        save_weights(self._module(), folder / WEIGHTS)


def make_backbone(
    name: str,
    *,
    size: int = 128,
    pretrained: bool = True,
    allow_truncated: bool = False,
    max_pixels: int = MAX_PIXELS,
    download: bool = False,
    threads: int = 1,
    device: str = "cpu",
) -> Backbone:
    """The backbone of a name.

    Args:
        name: a member of :data:`BACKBONES`, with its argument.
        size: side of its images, in pixels.
        pretrained: take learned weights; else those of torch's random generator, which the caller seeds.
        allow_truncated: accept JPEG files whose end is missing.
        max_pixels: of an image that is decoded.
        download: fetch weights that are not on this machine.
        threads: CPU threads that compute features.
        device: where they are computed, ``cpu`` or ``cuda``.

    Raises:
        ConfigError: the name is unknown, or the network does not take images of this size.
        MissingExtraError: the library or the weights of the name are not installed.
        ModelError: the weights are damaged, or not here and ``download`` is not set.
    """
    request = Request(
        name=name,
        preprocessing=Preprocessing(
            size=size, allow_truncated=allow_truncated, limits=Limits(max_pixels=max_pixels)
        ),
        pretrained=pretrained,
        download=download,
        threads=threads,
        device=device,
    )
    return BACKBONES[request.kind](request)


def restore_backbone(
    folder: Path,
    facts: Mapping[str, Any],
    preprocessing: Mapping[str, Any],
    *,
    threads: int = 1,
    device: str = "cpu",
) -> Backbone:
    """The backbone that :meth:`Backbone.save` wrote.

    Args:
        folder: the model's folder.
        facts: at least its ``name`` and ``identity``.
        preprocessing: as :meth:`Preprocessing.to_dict` gave it.
        threads: CPU threads that compute features.
        device: where they are computed, ``cpu`` or ``cuda``.

    Raises:
        ModelError: the folder holds other weights than those of ``facts``.
    """
    request = Request(
        name=facts["name"],
        preprocessing=Preprocessing.from_dict(dict(preprocessing)),
        folder=folder,
        threads=threads,
        device=device,
    )
    backbone = BACKBONES[request.kind](request)
    if backbone.identity != facts["identity"]:
        raise ModelError(f"{folder}: the backbone is not the one that the model was trained with")
    return backbone


def _one_by_one(module: nn.Module, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Features by torch, whose last digits would otherwise depend on the size of the batch."""
    return np.concatenate([run_module(module, image[None]) for image in images])


def _width(module: nn.Module, request: Request) -> int:
    """Length of the module's features, found by running it once."""
    size = request.preprocessing.size
    try:
        shape = run_module(module, np.zeros((1, size, size, 3), dtype=np.uint8)).shape
    except (RuntimeError, ValueError, AssertionError) as error:
        raise ConfigError(
            f"{request.name} does not take images of {size} px ({first_line(error)}): choose another --image-size"
        ) from error
    if len(shape) != 2:
        raise ConfigError(f"{request.name} must give features of shape (n, width), got {shape}")
    return int(shape[1])
