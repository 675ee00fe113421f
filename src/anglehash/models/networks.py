"""What is done with any torch network: run it on images, keep its weights, know them again."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from anglehash.errors import ModelError, first_line


class Normalised(nn.Module):
    """A network of another library, fed with raw images.

    Args:
        network: takes standardised RGB in ``(n, 3, h, w)``.
        mean: of each channel, on the scale 0 to 1.
        std: of each channel, on the scale 0 to 1.

    Shape:
        - images: ``(n, 3, h, w)`` RGB, 0 to 255.
        - output: the network's.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1) * 255)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1) * 255)

    def forward(self, images: Tensor) -> Tensor:
        """Standardise, then run."""
        features: Tensor = self.network((images - self.mean) / self.std)
        return features


def run_module(module: nn.Module, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Features by torch on the module's device, in evaluation mode whatever mode the module is in.

    A GPU computes them in full single precision: fewer digits would turn bits whose logits are near 0.

    Args:
        module: takes ``(n, 3, h, w)`` float, 0 to 255.
        images: ``(n, h, w, 3)``.
    """
    training = module.training
    weights = next(itertools.chain(module.parameters(), module.buffers()), None)
    device = torch.device("cpu") if weights is None else weights.device
    with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        features = module.eval()(torch.from_numpy(images).to(device).permute(0, 3, 1, 2).float())
    module.train(training)
    return np.asarray(features.cpu().numpy(), dtype=np.float32)


def save_weights(module: nn.Module, path: Path) -> None:
    """Write a module's weights as safetensors."""
    state = {key: value.clone().contiguous() for key, value in module.state_dict().items()}
    save_file(state, path)  # clones: safetensors refuses tensors that share memory


def load_weights(module: nn.Module, path: Path) -> None:
    """Read weights into a module.

    Raises:
        ModelError: the file is damaged, missing, or holds another network's weights.
    """
    try:
        module.load_state_dict(load_file(path))
    except (SafetensorError, RuntimeError, OSError) as error:
        raise ModelError(f"{path} does not hold the weights of this network: {first_line(error)}") from error


def weights_sha256(state: Mapping[str, Tensor]) -> str:
    """Hex sha256 over the names, types, shapes and values of weights."""
    digest = hashlib.sha256()
    for name, tensor in state.items():
        values = tensor.numpy()
        digest.update(f"{name} {values.dtype} {values.shape}\n".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()
