r"""Cross-entropy over a linear classifier, on the logits (``ce``) or on the codes themselves (``greedyhash``).

The simplest peers: a code is good if a linear classifier can tell the class from it.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anglehash.codes import check_bits
from anglehash.methods.checks import check_classes, check_weight
from anglehash.methods.losses import LOSSES
from anglehash.methods.losses.labels import labelled
from anglehash.methods.losses.similarity import sgn


def soft_cross_entropy(scores: Tensor, positive: Tensor) -> Tensor:
    r"""Cross-entropy towards equal shares of an image's labels; with one label the usual one.

    .. math:: \ell = -\frac{1}{|Y|} \sum_{j \in Y} \log\,\mathrm{softmax}(scores)_j

    Args:
        scores: ``(batch, classes)``.
        positive: ``(batch, classes)`` bool, no row empty: the labels Y.

    Returns:
        ``(batch,)``. Its least value is log of the number of labels, not 0.

    Three even scores, two of them labels: log 3.

    >>> round(soft_cross_entropy(torch.zeros(1, 3), torch.tensor([[True, True, False]])).item(), 4)
    1.0986
    """
    log_share = F.log_softmax(scores, dim=1) * positive
    return -log_share.sum(dim=1) / positive.sum(dim=1)


def straight_through(logits: Tensor) -> Tensor:
    """The code of the logits as -1 and 1, exactly; the gradient passes straight through, as if uncoded.

    A logit of 0 gives -1, as it gives bit 0 in every code.

    >>> straight_through(torch.tensor([0.3, 0.0, -1e4])).tolist()
    [1.0, -1.0, -1.0]
    """
    return sgn(logits) + (logits - logits.detach())  # the bracket is 0: only its gradient counts


@LOSSES.register("ce")
class ClassifierLoss(nn.Module):
    r"""Cross-entropy of a linear classifier over the logits; nothing asks for a code.

    .. math:: \ell = \mathrm{CE}(V h + b,\; y / |y|)

    Args:
        bits: length K of a code, 4..1024.
        classes: number of classes C, at least 2.

    Attributes:
        weight: ``(classes, bits)``, V, learned. It starts uniform in +-1/sqrt(K), as ``nn.Linear`` does.
        bias: ``(classes,)``, b, learned; it starts at 0.

    Shape:
        - logits: ``(batch, bits)`` float, any scale.
        - labels: ``(batch,)`` class numbers, or ``(batch, classes)`` multi-hot: soft cross-entropy.
        - output: ``()``, the mean over images.

    Raises:
        ConfigError: a setting is out of range.
        DataError: when called: a shape or dtype does not fit, or an image has no label.

    Source:
        The usual baseline of the field, "classification as hashing".

    A classifier that is even between two classes: log 2.

    >>> loss = ClassifierLoss(bits=4, classes=2)
    >>> round(loss(torch.zeros(1, 4), torch.tensor([1])).item(), 4)
    0.6931
    """

    def __init__(self, bits: int, classes: int) -> None:
        super().__init__()
        self.bits, self.classes = check_bits(bits), check_classes(classes)
        reach = 1 / math.sqrt(bits)
        self.weight = nn.Parameter(torch.empty(classes, bits).uniform_(-reach, reach))
        self.bias = nn.Parameter(torch.zeros(classes))

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The mean cross-entropy, a scalar."""
        z, positive = labelled(logits, labels, bits=self.bits, classes=self.classes)
        return self.classify(z, positive).mean()

    def classify(self, vectors: Tensor, positive: Tensor) -> Tensor:
        """Cross-entropy of each image, ``(batch,)``, from ``(batch, bits)`` logits or codes."""
        scores = F.linear(vectors, self.weight.to(vectors.dtype), self.bias.to(vectors.dtype))
        return soft_cross_entropy(scores, positive)


@LOSSES.register("greedyhash")
class GreedyHashLoss(ClassifierLoss):
    r"""GreedyHash: the classifier sees the code itself, and the gradient passes straight through the sign.

    .. math:: \ell = \mathrm{CE}(V\,\mathrm{sgn}(h) + b,\; y / |y|)
              + \alpha\,\frac1K \sum_k \big||h_k| - 1\big|^3

    Args:
        bits: length K of a code, 4..1024.
        classes: number of classes C, at least 2.
        alpha: weight of the pull of each logit to -1 or 1. The paper uses 0.1 on CIFAR-10, 1 on ImageNet.

    Attributes:
        weight: ``(classes, bits)``, V, learned.
        bias: ``(classes,)``, b, learned.

    Shape:
        - logits: ``(batch, bits)`` float. The pull is cubic: logits far from 1 dominate.
        - labels: ``(batch,)`` class numbers, or ``(batch, classes)`` multi-hot: soft cross-entropy.
        - output: ``()``, the mean over images.

    Raises:
        ConfigError: a setting is out of range.
        DataError: when called: a shape or dtype does not fit, or an image has no label.

    Source:
        Su et al., "Greedy Hash: Towards Fast Optimization for Accurate Hash Coding in CNN", NeurIPS 2018.
        Differs from it: sgn(0) is -1, as in every code here; the pull is a mean over bits, as in the
        authors' program; several labels share the target.

    Logits of 2: the pull is 1 each; the classifier is made even, so its part is log 2.

    >>> loss = GreedyHashLoss(bits=4, classes=2, alpha=0.1)
    >>> _ = loss.weight.data.zero_()
    >>> round(loss(torch.full((1, 4), 2.0), torch.tensor([1])).item(), 4)
    0.7931
    """

    def __init__(self, bits: int, classes: int, *, alpha: float = 0.1) -> None:
        super().__init__(bits, classes)
        self.alpha = check_weight("alpha", alpha)

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Classification of the codes and the pull towards them, a scalar."""
        z, positive = labelled(logits, labels, bits=self.bits, classes=self.classes)
        pull = (z.abs() - 1).abs().pow(3).mean(dim=1)
        return (self.classify(straight_through(z), positive) + self.alpha * pull).mean()
