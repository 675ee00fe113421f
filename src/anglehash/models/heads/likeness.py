"""The head of codes with likeness: a method's logits and the features, weighted."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from anglehash.models.heads.buffers import buffer
from anglehash.models.heads.hash_head import unit


class LikenessHead(nn.Module):
    r"""The head of a method, and the features beside it: :math:`W_z\,z/|z| + W_f\,(x - \mu)/|x - \mu|`.

    Args:
        base: features to the logits z of the method, ``(batch, bits)``.
        mean: ``(width,)``, mu.
        feature_weight: ``(bits, width)``, W_f.
        logit_weight: ``(bits, bits)``, W_z.

    Shape:
        - features: ``(batch, width)`` float.
        - output: ``(batch, bits)`` logits.

    Raises:
        ModelError: the tensors do not fit together.
    """

    kind: ClassVar[str] = "likeness"

    def __init__(
        self, base: nn.Module, *, mean: Tensor, feature_weight: Tensor, logit_weight: Tensor
    ) -> None:
        super().__init__()
        self.base = base
        bits, width = len(logit_weight), len(mean)
        self.mean = buffer(self, "mean", mean, width)
        self.feature_weight = buffer(self, "feature_weight", feature_weight, bits, width)
        self.logit_weight = buffer(self, "logit_weight", logit_weight, bits, bits)
        self.eval()

    def forward(self, features: Tensor) -> Tensor:
        """Logits of a batch of features."""
        return self.of_logits(self.base(features)) + unit(features - self.mean) @ self.feature_weight.T

    def of_logits(self, logits: Tensor) -> Tensor:
        """The share of the method's own logits: the code of a class, where they are its vector."""
        return unit(logits) @ self.logit_weight.T
