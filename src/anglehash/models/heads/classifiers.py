"""What the heads of posterior codes share: several classifiers of an image."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from anglehash.errors import ModelError
from anglehash.models.heads.buffers import buffer


class ClassifierEnsemble(nn.Module):
    r"""Several classifiers of one hidden layer, side by side.

    .. math:: l_m = A_m \max(0, H_m x' + h_m) + a_m

    with x' the centred and scaled features. Further bits of a code may keep the features themselves,
    :math:`z = F x' + f`.

    Args:
        mean: ``(width,)``, subtracted.
        scale: ``(width,)``, multiplied.
        hidden_weight: ``(classifiers, hidden, width)``, H.
        hidden_bias: ``(classifiers, hidden)``, h.
        class_weight: ``(classifiers, classes, hidden)``, A.
        class_bias: ``(classifiers, classes)``, a.
        kept_weight: ``(kept, width)``, F; ``None`` for no such bits.
        kept_bias: ``(kept,)``, f.

    Raises:
        ModelError: the tensors do not fit together.
    """

    def __init__(
        self,
        *,
        mean: Tensor,
        scale: Tensor,
        hidden_weight: Tensor,
        hidden_bias: Tensor,
        class_weight: Tensor,
        class_bias: Tensor,
        kept_weight: Tensor | None = None,
        kept_bias: Tensor | None = None,
    ) -> None:
        super().__init__()
        if class_weight.ndim != 3:
            raise ModelError(
                "class_weight of the head must have the shape (classifiers, classes, hidden), "
                f"got {tuple(class_weight.shape)}"
            )
        count, self.classes, hidden = class_weight.shape
        width = len(mean)
        self.mean = buffer(self, "mean", mean, width)
        self.scale = buffer(self, "scale", scale, width)
        self.hidden_weight = buffer(self, "hidden_weight", hidden_weight, count, hidden, width)
        self.hidden_bias = buffer(self, "hidden_bias", hidden_bias, count, hidden)
        self.class_weight = buffer(self, "class_weight", class_weight, count, self.classes, hidden)
        self.class_bias = buffer(self, "class_bias", class_bias, count, self.classes)
        if (kept_weight is None) != (kept_bias is None):
            raise ModelError("the head has one of kept_weight and kept_bias: it needs both or neither")
        self.kept = 0
        if kept_weight is not None and kept_bias is not None:
            self.kept = len(kept_bias)
            buffer(self, "kept_weight", kept_weight, self.kept, width)
            buffer(self, "kept_bias", kept_bias, self.kept)

    def log_odds(self, features: Tensor) -> Tensor:
        """What each classifier makes of a batch, ``(classifiers, batch, classes)``."""
        hidden = torch.relu(
            torch.baddbmm(
                self.hidden_bias[:, None],
                ((features - self.mean) * self.scale).expand(len(self.hidden_bias), -1, -1),
                self.hidden_weight.transpose(1, 2),
            )
        )
        return torch.baddbmm(self.class_bias[:, None], hidden, self.class_weight.transpose(1, 2))

    def keeping(self, features: Tensor) -> Tensor:
        """Logits of the bits that keep the features of a batch, ``(batch, kept)``; only of a head that has some."""
        x = (features - self.mean) * self.scale
        return x @ self.get_buffer("kept_weight").T + self.get_buffer("kept_bias")

    def own_state(self) -> dict[str, Tensor]:
        """The state without the bits that keep the features."""
        return {name: value for name, value in self.state_dict().items() if not name.startswith("kept_")}
