"""A backbone that learns together with its head."""

from __future__ import annotations

from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from anglehash.models.heads.hash_head import HashHead


class EndToEnd(nn.Module):
    """Images to logits through a backbone that learns too.

    Args:
        backbone: images to features.
        head: features to logits.
        keep_statistics: the backbone's batch norms continue with the means and variances that they have learned:
            a few epochs are too short to learn new ones, and those of batches are not what encoding will use.
    """

    def __init__(self, backbone: nn.Module, head: HashHead, *, keep_statistics: bool = False) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self._keep_statistics = keep_statistics

    def train(self, mode: bool = True) -> Self:
        """Training mode, or evaluation mode; kept batch norms are always in the latter."""
        super().train(mode)
        if self._keep_statistics:
            for module in self.backbone.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Logits of ``(batch, 3, size, size)`` images in 0..255."""
        logits: Tensor = self.head(self.backbone(images))
        return logits


def logits_of_images(network: EndToEnd, pixels: NDArray[np.uint8], *, block: int = 64) -> NDArray[np.float32]:
    """Logits of prepared images, without augmentation, in evaluation mode."""
    network.eval()
    parts, device = [], next(network.parameters()).device
    with torch.inference_mode():
        for images in torch.from_numpy(pixels).split(block):  # type: ignore[no-untyped-call]
            planes = images.permute(0, 3, 1, 2).float().contiguous(memory_format=torch.channels_last)
            parts.append(network(planes.to(device)).cpu().numpy())
    return np.concatenate(parts)
