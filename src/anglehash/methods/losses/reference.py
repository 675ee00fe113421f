"""The last logits of every training image, for losses that compare a batch with more than itself."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from anglehash.errors import DataError
from anglehash.methods.checks import check_whole
from anglehash.methods.losses.similarity import distinct_pairs, likelihood, similarity


class Reference(nn.Module):
    r"""Mean likelihood of pairs: a batch against the last logits of the training images.

    .. math:: \operatorname{mean}_{i,\,r \neq i} \log(1 + e^{\theta_{ir}}) - s_{ir} \theta_{ir},
              \quad \theta_{ir} = h_i \cdot u_r / 2

    h are the logits of the batch, u those kept here, the batch's own just put in. The gradient reaches h
    only. Images not visited yet are left out: there is nothing to compare with. Until ``remember`` and
    ``set_rows`` are called the batch is its own reference: its distinct pairs, and the gradient reaches both.

    Args:
        bits: length of a code.
        limit: most images that a step is compared with, drawn again at each step out of torch's global
            generator, without repetition; 0 is all. A step of 128 images costs some 6 ms of one core
            against 2,000, and some 200 ms against 50,000.

    Attributes:
        logits: ``(n, bits)``, 0 until an image is visited. Kept in the state, with ``seen``.
        seen: ``(n,)`` bool.
        labels: ``(n, classes)`` bool; not in the state, since ``remember`` gives them.
        rows: those of the batch that comes; taken by one call of ``forward``.

    Raises:
        ConfigError: ``limit`` is not a whole number >= 0.
    """

    logits: Tensor
    seen: Tensor
    labels: Tensor

    def __init__(self, bits: int, limit: int) -> None:
        super().__init__()
        self.bits, self.limit = bits, check_whole("reference", limit, 0, hint="0: all images")
        self.rows: Tensor | None = None

    def remember(self, labels: Tensor) -> None:
        """Make room for all training images, given their labels, ``(n, classes)`` bool."""
        n = len(labels)
        self.register_buffer("logits", torch.zeros(n, self.bits, device=labels.device))
        self.register_buffer("seen", torch.zeros(n, dtype=torch.bool, device=labels.device))
        self.register_buffer("labels", labels, persistent=False)

    def set_rows(self, rows: Tensor) -> None:
        """Say which training images the next batch holds.

        Raises:
            DataError: ``remember`` was not called before.
        """
        if "logits" not in self._buffers:
            raise DataError("set_rows needs the labels of all training images first: call remember(labels)")
        self.rows = rows

    def forward(self, logits: Tensor, positive: Tensor) -> Tensor:
        """The mean over pairs of the batch's logits and multi-hot labels; 0 without a pair."""
        rows, self.rows = self.rows, None
        if rows is None:
            i, j = distinct_pairs(len(logits), logits.device)
            each = likelihood((logits @ logits.T / 2)[i, j], similarity(positive)[i, j])
            return each.sum() / max(len(i), 1)
        self._keep(rows, logits)
        others = self._draw()
        theta = (logits / 2) @ self.logits.index_select(0, others).to(logits.dtype).T
        similar = similarity(positive, self.labels.index_select(0, others))
        itself = (rows[:, None] == others).nonzero(as_tuple=True)
        each = likelihood(theta, similar)
        pairs = each.numel() - len(itself[0])
        return (each.sum() - each[itself].sum()) / max(pairs, 1)

    def _keep(self, rows: Tensor, logits: Tensor) -> None:
        if len(rows) != len(logits):
            raise DataError(f"set_rows named {len(rows)} images, but the batch has {len(logits)}")
        self.logits[rows] = logits.detach().to(self.logits.dtype)
        self.seen[rows] = True

    def _draw(self) -> Tensor:
        rows = self.seen.nonzero()[:, 0]
        if not 0 < self.limit < len(rows):
            return rows
        return rows[torch.randperm(len(rows), device=rows.device)[: self.limit]]
