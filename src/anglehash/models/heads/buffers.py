"""What heads are made of: arrays as tensors, and tensors that a head owns once their shapes are found right."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from anglehash.errors import ModelError


def tensors(**arrays: NDArray[np.floating]) -> dict[str, Tensor]:
    """Arrays as the tensors that heads are made of."""
    return {name: torch.from_numpy(np.asarray(array, dtype=np.float32)) for name, array in arrays.items()}


def buffer(head: nn.Module, name: str, tensor: Tensor, *shape: int) -> Tensor:
    """Own a float32 copy, so that the state of a head shares no memory, and check its shape."""
    if tensor.shape != shape:
        raise ModelError(
            f"{name} of the head must have the shape {shape} to fit the rest of it, got {tuple(tensor.shape)}"
        )
    head.register_buffer(name, tensor.detach().to(torch.float32).clone().contiguous())
    return head.get_buffer(name)
