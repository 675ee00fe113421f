"""Any frozen network that was exported to ONNX: ``onnx:FILE``.

The graph has one input, images in ``(n, 3, h, w)`` or ``(n, h, w, 3)``, ``float32`` or ``uint8``, RGB
from 0 to 255; and one output, ``(n, width)`` or a map ``(n, width, h, w)``, which is averaged. Where it
wants other numbers, a file ``FILE.json`` beside it says which: with ``{"scale": s, "mean": [r, g, b],
"std": [r, g, b]}``, of which each may be left out, it is fed with ``(pixels * scale - mean) / std``.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from anglehash.encode.session import Session
from anglehash.errors import ConfigError, ModelError, first_line
from anglehash.files import write_atomic
from anglehash.models.backbones import BACKBONES, Backbone, Request, Run
from anglehash.models.onnx_network import read_plain

MAX_BYTES = 1 << 30
PICKLES = (".pt", ".pth", ".pkl", ".pickle", ".bin", ".ckpt")
SAVED = "backbone.onnx"


class Layout(NamedTuple):
    """What a graph is fed with.

    Attributes:
        channels_first: ``(n, 3, h, w)``, else ``(n, h, w, 3)``.
        size: side of the images; ``None`` where the graph takes any.
        dtype: ``float32`` or ``uint8``.
        one_by_one: the graph takes a single image at a time.
    """

    channels_first: bool
    size: int | None
    dtype: str
    one_by_one: bool


class Scaling(NamedTuple):
    """How pixels become the numbers that a graph expects: ``(pixels * scale - mean) / std``."""

    scale: float = 1.0
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)

    @classmethod
    def read(cls, path: Path) -> Scaling:
        """The scaling that a JSON file states; nothing is changed where there is none.

        Raises:
            ConfigError: the file is not understood.
        """
        if not path.is_file():
            return cls()
        try:
            scaling = cls(**json.loads(path.read_bytes()))
            scaling = scaling._replace(mean=tuple(scaling.mean), std=tuple(scaling.std))
            numbers = np.array([[scaling.scale] * 3, scaling.mean, scaling.std], dtype=np.float32)
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            like = '{"scale": 1, "mean": [0, 0, 0], "std": [1, 1, 1]}'
            raise ConfigError(f"{path} must be like {like}: {first_line(error)}") from error
        if numbers.shape != (3, 3) or not np.isfinite(numbers).all() or numbers[2].min() <= 0:
            raise ConfigError(f"{path}: scale is a number, mean and std are 3 each, and std is over 0")
        return scaling


class FileNetwork:
    """An ONNX graph, called like a backbone: ``(n, size, size, 3)`` ``uint8`` to ``(n, width)``.

    Args:
        model: the content of the file.
        name: what to call it in messages.
        scaling: how pixels become its input.
        threads: CPU threads.

    Raises:
        ModelError: the model is unsafe, damaged, or not a network of images.
        ConfigError: it takes ``uint8`` images, which cannot be scaled.
    """

    def __init__(self, model: bytes, name: str, scaling: Scaling, *, threads: int) -> None:
        self.model = model
        self.scaling = scaling
        self.layout = _layout(read_plain(model, name).graph, name)
        self._name = name
        if scaling != Scaling() and self.layout.dtype == "uint8":
            raise ConfigError(f"{name} takes pixels as they are (uint8), so its .json must not scale them")
        self._session = Session(model, threads=threads)

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Features of images.

        Raises:
            ModelError: the graph fails on them, or its output is neither vectors nor maps.
        """
        batch: NDArray[Any] = images.astype(self.layout.dtype)
        if self.scaling != Scaling():
            mean, std = (np.array(v, dtype=np.float32) for v in (self.scaling.mean, self.scaling.std))
            batch = (batch * np.float32(self.scaling.scale) - mean) / std
        if self.layout.channels_first:
            batch = np.ascontiguousarray(batch.transpose(0, 3, 1, 2))
        parts = np.split(batch, len(batch)) if self.layout.one_by_one else [batch]
        try:
            features = np.concatenate([self._session(part) for part in parts])
        except Exception as error:  # ONNX Runtime's errors have no other base
            raise ModelError(f"{self._name} fails on an image: {first_line(error)}") from error
        if features.ndim == 4:
            features = features.mean(axis=(2, 3))
        if features.ndim != 2 or len(features) != len(images):
            raise ModelError(
                f"{self._name} must give (n, width) or (n, width, h, w), got {features.shape} of "
                f"{len(images)} images"
            )
        return features


class FileBackbone(Backbone):
    """A backbone that is an ONNX file; it cannot learn.

    Raises:
        ConfigError: the network takes images of another size than the request's.
        ModelError: its output is neither vectors nor maps.
    """

    def __init__(self, request: Request, network: FileNetwork) -> None:
        size, wanted = request.preprocessing.size, network.layout.size
        if wanted not in (None, size):
            raise ConfigError(
                f"{request.name} takes images of {wanted} px, not {size}: use --image-size {wanted}"
            )
        self.module = None
        self.pretrained = True
        self._network = network
        facts = {"onnx": hashlib.sha256(network.model).hexdigest(), "scaling": network.scaling._asdict()}
        width = network(np.zeros((2, size, size, 3), dtype=np.uint8)).shape[1]  # 2: none may be lost
        self._describe(request, facts, width=width, engine=["onnxruntime"])

    def _start(self) -> Run:
        return self._network

    def save(self, folder: Path) -> None:
        """Copy the network, and its scaling, into a model's folder."""
        write_atomic(folder / SAVED, self._network.model)
        write_atomic(folder / f"{SAVED}.json", json.dumps(self._network.scaling._asdict()).encode())


@BACKBONES.register("onnx:")
def make(request: Request) -> Backbone:
    """The network in an ONNX file.

    Raises:
        ConfigError: no such file, it takes images of another size, ``FILE.json`` is wrong, or another device
            than the CPU is wanted.
        ModelError: the file is unsafe, damaged, or not a network from images to features.
        MissingExtraError: the onnx package is not installed.
    """
    if request.device != "cpu":
        raise ConfigError(f"{request.name} runs on the CPU only, not on {request.device}: leave out --device")
    path = request.folder / SAVED if request.folder else Path(request.argument)
    if path.suffix.lower() in PICKLES:
        raise ModelError(
            f"{path} may be a pickle, which runs code when it is read: where you trust it, convert it with "
            "torch.onnx.export and give the .onnx file"
        )
    if not path.is_file():
        raise ConfigError(f"backbone {request.name!r}: no file {path}")
    if path.stat().st_size > MAX_BYTES:
        raise ModelError(f"{path} has more than {MAX_BYTES >> 20} MiB, the most that is read")
    scaling = Scaling.read(path.with_name(f"{path.name}.json"))
    network = FileNetwork(path.read_bytes(), request.name, scaling, threads=request.threads)
    return FileBackbone(request, network)


def _layout(graph: Any, name: str) -> Layout:
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value.type.tensor_type for value in graph.input if value.name not in weights]
    if len(inputs) != 1 or len(graph.output) != 1:
        raise ModelError(f"{name} must have 1 input and 1 output, got {len(inputs)} and {len(graph.output)}")
    types = {1: "float32", 2: "uint8"}  # the numbers of onnx.TensorProto
    shape = [dim.dim_value or None for dim in inputs[0].shape.dim]  # None: any extent
    if len(shape) != 4 or 3 not in (shape[1], shape[3]) or inputs[0].elem_type not in types:
        raise ModelError(
            f"{name} must take float32 or uint8 images (n, 3, h, w) or (n, h, w, 3), its input is {shape}"
        )
    if shape[0] not in (None, 1):
        raise ModelError(f"{name} takes {shape[0]} images at a time: export it with a dynamic batch size")
    channels_first = shape[1] == 3
    height, width = shape[2:] if channels_first else shape[1:3]
    if height != width:
        raise ModelError(f"{name} takes images of {width} x {height} px, but ours are square")
    return Layout(channels_first, height, types[inputs[0].elem_type], shape[0] == 1)
