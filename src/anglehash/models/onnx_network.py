"""ONNX: networks that do not learn any more, exported once and run by ONNX Runtime."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from anglehash.cache import read_cached, write_cached
from anglehash.encode.onnx_check import DOMAINS
from anglehash.errors import MissingExtraError, ModelError, first_line
from anglehash.files import cache_dir, sha256_json


class _FromPixels(nn.Module):
    """The network as it is exported: fed with images as they lie in memory."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, images: Tensor) -> Tensor:
        """``(n, size, size, 3)`` ``uint8`` to features."""
        features: Tensor = self.module(images.permute(0, 3, 1, 2).float())
        return features


def export(module: nn.Module, size: int, *, output: str = "features") -> bytes:
    """A network as an ONNX model of any batch size and one image size.

    Args:
        module: takes ``(n, 3, size, size)`` float, 0 to 255, and returns ``(n, width)``.
        size: side of the images; paddings that depend on it become constants.
        output: name of the output.

    Returns:
        The model, one input ``images`` ``(n, size, size, 3)`` ``uint8``, one output.

    Raises:
        torch.onnx.OnnxExporterError: an operation of the network cannot be exported.
    """
    with quiet():
        program = torch.onnx.export(
            _FromPixels(module).eval(),
            (
                torch.zeros((2, size, size, 3), dtype=torch.uint8),
            ),  # 2: an extent of 1 would become a constant
            input_names=["images"],
            output_names=[output],
            dynamic_shapes=({0: torch.export.Dim("n", min=1)},),
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    return bytes(program.model_proto.SerializeToString())


def exported(module: nn.Module, size: int, identity: str) -> bytes:
    """The export of a network, out of the cache if it is there.

    Args:
        module: as for :func:`export`.
        size: side of the images.
        identity: changes whenever the network or its weights do.
    """
    folder = cache_dir() / "onnx"
    stem = sha256_json([identity, size, torch.__version__])[:32]
    for path in sorted(folder.glob(f"{stem}-*.onnx")):
        if model := read_cached(path):
            return model
    model = export(module, size)
    write_cached(folder, stem, ".onnx", model)
    return model


def read_plain(data: bytes, name: str) -> Any:
    """A foreign model, parsed and not run, if all that it needs is in it.

    Args:
        data: the content of an ONNX file.
        name: what to call it in messages.

    Returns:
        The ``onnx.ModelProto``.

    Raises:
        ModelError: it is damaged, it refers to other files, or it wants operators outside the standard.
        MissingExtraError: the onnx package is not installed.
    """
    try:
        import onnx
    except ImportError as error:
        raise MissingExtraError("onnx", extra="train") from error
    try:
        model = onnx.load_model_from_string(data)
    except Exception as error:  # a DecodeError of whichever protobuf onnx was built with
        raise ModelError(f"{name} is not an ONNX model, or is damaged: {first_line(error)}") from error
    functions = {(function.domain, function.name) for function in model.functions}
    for message in _messages(model):
        if isinstance(message, onnx.TensorProto) and message.data_location == onnx.TensorProto.EXTERNAL:
            raise ModelError(f"{name} keeps weights in other files: save it again with external_data=False")
        if isinstance(message, onnx.NodeProto) and message.domain not in DOMAINS:
            operator = (message.domain, message.op_type)
            if operator not in functions:
                raise ModelError(f"{name} wants the custom operator {'.'.join(operator)}: refused")
    return model


def _messages(message: Any) -> Iterator[Any]:
    """A protobuf message and all that it holds: graphs lie inside nodes, tensors inside attributes."""
    yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in value if hasattr(value, "__len__") else (value,):
                yield from _messages(part)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Torch's exporter speaks on every channel; none of it concerns a user."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
