"""The hash head: features in, logits out."""

from __future__ import annotations

import copy

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from anglehash.errors import ConfigError

_CHANCES = 1 << 16  # of one 16-bit draw


class Dropout(nn.Module):
    r"""Sets each number to 0 with probability p while training, as ``torch.nn.Dropout`` does, in less time.

    .. math:: y_i = \frac{x_i\,[u_i \ge t]}{1 - t / 2^{16}}, \qquad t = \mathrm{round}(2^{16} p)

    with 16 random bits u_i for each number: four of them come from one draw of torch's generator, whose
    seed decides them. The expectation of y_i is x_i exactly. In evaluation mode, and for p = 0, y = x.

    Args:
        p: share that is dropped, in [0, 1); taken to the nearest 1/65,536.

    Shape:
        - values: any, float.
        - output: the same.

    Raises:
        ConfigError: ``p`` is outside [0, 1), or so near to 1 that nothing would be left.

    Source:
        Srivastava et al., "Dropout", JMLR 15:1929-1958, 2014, scaled while training. Differs from
        ``torch.nn.Dropout``, which draws a double for every number: other numbers are dropped for the same
        seed, and on one core it takes a ninth of the time.

    What is kept of p = 0.75 counts four times.

    >>> Dropout(0.75)(torch.ones(1000)).unique().tolist()
    [0.0, 4.0]
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        if not 0 <= p < 1 or round(p * _CHANCES) == _CHANCES:
            raise ConfigError(f"dropout is a share in [0, 1), got {p}")
        self.p = p
        self._threshold = round(p * _CHANCES)

    def forward(self, values: Tensor) -> Tensor:
        """Drop some and scale the others, or return ``values`` themselves."""
        if not self.training or self._threshold == 0:
            return values
        return values * self._mask(values)

    @torch.no_grad()
    def _mask(self, values: Tensor) -> Tensor:
        words = torch.empty(values.numel() // 4 + 1, dtype=torch.int64, device=values.device)
        draws = words.random_(-(1 << 63), None).view(torch.int16)[: values.numel()].view(values.shape)
        kept = torch.empty_like(values)  # written as numbers at once: a bool mask is slower to multiply by
        torch.ge(draws, self._threshold - _CHANCES // 2, out=kept)
        return kept.mul_(_CHANCES / (_CHANCES - self._threshold))


def unit(vectors: Tensor) -> Tensor:
    """Rows at unit length; one that is shorter than 1e-6 is not stretched to it.

    >>> unit(torch.tensor([[3.0, 4.0], [0.0, 0.0]])).tolist()[1]
    [0.0, 0.0]
    """
    return nn.functional.normalize(vectors, dim=1, eps=1e-6)


def mean_and_scale(features: Tensor) -> tuple[Tensor, Tensor]:
    """The mean of each feature and one over its deviation, which standardise ``(n, width)`` features.

    Values 1 and 5: mean 3, deviation 2.

    >>> mean_and_scale(torch.tensor([[1.0], [5.0]]))
    (tensor([3.]), tensor([0.5000]))
    """
    return features.mean(dim=0), 1 / features.std(dim=0, correction=0).clamp_min(1e-6)


class HashHead(nn.Module):
    """Standardise, drop, (hidden layer,) project to the bits, (batch norm).

    The logits are linear in the last layer: no tanh is applied, in training or after it.

    Args:
        width: features of one image.
        bits: length of a code.
        hidden: width of a hidden layer (ReLU), 0 for none.
        batch_norm: normalise each bit's logits over the batch, without scale and shift: every bit is then
            near balance, since its logits are centred.
        dropout: share of features (and of hidden units) dropped while training.

    Shape:
        - features: ``(batch, width)`` float.
        - output: ``(batch, bits)`` float, the logits; a bit is 1 where its logit is > 0.
    """

    mean: Tensor
    scale: Tensor

    def __init__(
        self, width: int, bits: int, *, hidden: int = 0, batch_norm: bool = False, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))
        layers: list[nn.Module] = [Dropout(dropout)]
        if hidden:
            layers += [nn.Linear(width, hidden), nn.ReLU(), Dropout(dropout)]
        layers += [nn.Linear(hidden or width, bits)]
        if batch_norm:
            layers += [nn.BatchNorm1d(bits, affine=False)]
        self.layers = nn.Sequential(*layers)

    def standardise(self, features: Tensor) -> None:
        """Take mean and deviation of each feature from the training images, ``(n, width)``."""
        mean, scale = mean_and_scale(features)
        self.mean.copy_(mean)
        self.scale.copy_(scale)

    def forward(self, features: Tensor) -> Tensor:
        """Logits of a batch of features."""
        logits: Tensor = self.layers((features - self.mean) * self.scale)
        return logits


def logits_of(head: nn.Module, features: NDArray[np.float32], *, block: int = 256) -> NDArray[np.float32]:
    """Logits of cached features, ``(n, bits)``, with the head in evaluation mode.

    Computed in float64, so that an image's code does not depend on the images beside it; in small blocks,
    whose float64 copy stays in the processor's cache.
    """
    precise = copy.deepcopy(head).cpu().double().eval()
    blocks = torch.from_numpy(features).split(block)  # type: ignore[no-untyped-call]  # no image: one empty block
    with torch.inference_mode():
        return np.concatenate([precise(part.double()).float().numpy() for part in blocks])
