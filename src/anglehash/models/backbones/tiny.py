"""A network of 60,000 weights, trained from nothing: for small scans such as digits, and for tests."""

from __future__ import annotations

from torch import Tensor, nn

from anglehash.models.backbones import BACKBONES, Backbone, Request


class Tiny(nn.Module):
    """Three convolutions with batch norm; the features keep a 2 x 2 map of the image.

    Shape:
        - images: ``(n, 3, h, w)`` RGB, 0 to 255, sides of at least 8.
        - output: ``(n, 256)``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *_block(3, 32), nn.MaxPool2d(2), *_block(32, 64), nn.MaxPool2d(2), *_block(64, 64)
        )
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten())

    def forward(self, images: Tensor) -> Tensor:
        """Features of images."""
        features: Tensor = self.pool(self.layers(images / 127.5 - 1))
        return features


def _block(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]


@BACKBONES.register("tiny")
def make(request: Request) -> Backbone:
    """The tiny network; there are no pretrained weights, so torch's random generator gives them."""
    return Backbone(request, Tiny(), pretrained=request.folder is not None, export=False)
