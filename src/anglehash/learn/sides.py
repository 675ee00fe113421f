"""From features to logits: those of items, and those of queries where these have codes of their own."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn


class Sides(NamedTuple):
    """Logits of the same images, as they are searched for and as they ask.

    Attributes:
        items: ``(n, bits)``.
        queries: ``(n, bits)``; ``items`` itself where one code serves both sides.
    """

    items: NDArray[np.float32]
    queries: NDArray[np.float32]

    @classmethod
    def joined(cls, blocks: Sequence[tuple[Tensor, Tensor]]) -> Sides:
        """Of all images by those of some; at least one block."""
        items, queries = (
            np.concatenate([part.float().numpy() for part in side]) for side in zip(*blocks, strict=True)
        )
        return cls(items, queries if blocks[0][0] is not blocks[0][1] else items)


def sides_of(head: nn.Module, features: NDArray[np.float32], *, block: int = 256) -> Sides:
    """Logits of cached features on both sides, with the head in evaluation mode.

    Computed in float64, so that an image's code does not depend on the images beside it; in small blocks,
    whose float64 copy stays in the processor's cache.
    """
    precise = copy.deepcopy(head).cpu().double().eval()
    blocks = torch.from_numpy(features).split(block)  # type: ignore[no-untyped-call]  # no image: one empty block
    with torch.inference_mode():
        return Sides.joined([into_sides(precise, part.double()) for part in blocks])


def logits_of(head: nn.Module, features: NDArray[np.float32], *, block: int = 256) -> NDArray[np.float32]:
    """The same as items alone, ``(n, bits)``."""
    return sides_of(head, features, block=block).items


def into_sides(head: nn.Module, features: Tensor) -> tuple[Tensor, Tensor]:
    """What a head makes of features, as items and as queries: one tensor where one code serves both sides."""
    own: Callable[[Tensor], tuple[Tensor, Tensor]] | None = getattr(head, "sides", None)
    if own:
        return own(features)
    logits: Tensor = head(features)
    return logits, logits


def is_dual(head: nn.Module) -> bool:
    """Whether queries have codes of their own."""
    return hasattr(head, "sides")
