"""A learned model as one ONNX network, from pixels to logits, in full precision or in 8 bits."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from anglehash.data.images.decoding import Pixels
from anglehash.errors import MissingExtraError, ModelError, first_line
from anglehash.models.model import Model
from anglehash.models.onnx_network import export, quiet

CALIBRATION = 256
"""Images that the ranges of the 8-bit network are taken from."""


class _Whole(nn.Module):
    """Backbone and head; the head in float64, as a model computes its logits, then rounded to float32.

    The head's weights stay float32 in the file, at half the size: they become float64 as they are used.
    """

    def __init__(self, backbone: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, images: Tensor) -> Tensor:
        """``(n, 3, size, size)`` float, 0 to 255, to logits."""
        wide = {
            name: tensor.double() if tensor.is_floating_point() else tensor
            for name, tensor in self.head.state_dict().items()
        }
        features = self.backbone(images).double()
        logits: Tensor = torch.func.functional_call(self.head, wide, (features,))
        return logits.float()


def whole_network(model: Model) -> bytes:
    """A model's backbone and head in one ONNX model: ``images`` to ``logits``, any number at a time.

    Any head can be expressed: a hash layer, and those of the conventional methods and of ``posterior``.

    Raises:
        ModelError: a weight is NaN or infinite, the backbone is an ONNX file already, or an operation of the
            network cannot be exported.
    """
    for part in (model.backbone.module, model.head):
        for name, tensor in part.state_dict().items() if part else ():
            if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                raise ModelError(
                    f"{name} holds NaN or infinity: the weights are unusable, train the model again"
                )
    if model.backbone.module is None:
        raise ModelError(
            f"the backbone {model.backbone.name} is an ONNX file already, which cannot be joined with a head: "
            "export the network that it came from through --backbone timm: or torchvision:"
        )
    whole = _Whole(model.backbone.module, model.head).eval()
    try:
        return export(whole, model.backbone.size, output="logits")
    except torch.onnx.OnnxExporterError as error:
        raise ModelError(f"{model.backbone.name} cannot be exported to ONNX: {first_line(error)}") from error


class _Reader:
    """Calibration images, one batch at a time, as ONNX Runtime asks for them."""

    def __init__(self, pixels: Pixels, batch: int = 16) -> None:
        self._batches = iter(np.array_split(pixels, max(1, len(pixels) // batch)))

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        """The next batch by the name of the input, or ``None``."""
        found = next(self._batches, None)
        return None if found is None else {"images": found}


def quantised(network: bytes, pixels: Pixels) -> bytes:
    """The network with its convolutions and products in 8 bits.

    Static: weights symmetric with a scale for each channel, activations with a range that is measured on images.
    The head stays in full precision.

    Args:
        network: what :func:`whole_network` gave.
        pixels: prepared images, ``(n, size, size, 3)``, such as the network will meet.

    Raises:
        MissingExtraError: the onnx package is not installed.
        ModelError: ONNX Runtime cannot quantise this network.
    """
    try:
        import onnx
        from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
        from onnxruntime.quantization.shape_inference import quant_pre_process
    except ImportError as error:
        raise MissingExtraError("onnx", extra="train") from error
    with tempfile.TemporaryDirectory() as folder, quiet():
        given, shaped, out = (str(Path(folder) / name) for name in ("given.onnx", "shaped.onnx", "out.onnx"))
        Path(given).write_bytes(network)
        try:
            # shapes only: torch has put batch norms into convolutions, and folding would double the head's weights
            quant_pre_process(given, shaped, skip_symbolic_shape=True, skip_optimization=True)
            quantize_static(
                shaped,
                out,
                _Reader(pixels),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=CalibrationMethod.MinMax,
                op_types_to_quantize=["Conv", "MatMul", "Gemm", "Add", "Clip", "Relu"],
                reduce_range=True,  # 7-bit weights: sums of 8-bit ones overflow on processors without VNNI
            )
        except Exception as error:  # anything, out of any library's depths
            raise ModelError(f"the network cannot be brought to 8 bits: {first_line(error)}") from error
        model: Any = onnx.load_model(out)
    del model.metadata_props[:]
    return bytes(model.SerializeToString())
