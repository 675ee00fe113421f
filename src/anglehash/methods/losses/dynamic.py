r"""Dynamic softmax: five ways to train a classifier with images that have several labels.

With one label they are all the plain softmax against the other classes, except ``append``, which is meant for data
where some images have several (on other data the loss leaves it out). With several, the
question is what the image should come near to: the mean of its classes (``merge``, ``append``), each of them
(``partial``, ``smooth``), or one of them at a time (``sample``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True, slots=True)
class AngularBatch:
    """Images of one batch among the class vectors; every image has a label.

    Attributes:
        cosine: ``(batch, classes)``, between each image and each class vector.
        merged: ``(batch, 1)``, between each image and the mean of the unit vectors of its own classes.
        positive: ``(batch, classes)`` bool, the labels.
        scale: a number, or ``(batch, 1)``.
        margin: the margin in front of the scale, g(c) / s.
        generator: of the random choice in ``sample``; ``None`` is torch's global one.
    """

    cosine: Tensor
    merged: Tensor
    positive: Tensor
    scale: float | Tensor
    margin: Callable[[Tensor], Tensor]
    generator: torch.Generator | None = None

    def logits(self) -> Tensor:
        """Logits without a margin, s c."""
        return self.scale * self.cosine

    def target(self, cosine: Tensor) -> Tensor:
        """Logits of what the image should come near to, g(c)."""
        return self.scale * self.margin(cosine)


def against(target: Tensor, others: Tensor, mask: Tensor) -> Tensor:
    """Cross-entropy of one target logit and of others where ``mask`` is True; 0 where there is none.

    Args:
        target: ``(n, 1)``.
        others: ``(n, classes)``.
        mask: ``(n, classes)`` bool.

    Returns:
        ``(n,)``.

    A target that is even with its one rival: log 2.

    >>> one, two = torch.tensor([[1.0]]), torch.tensor([[1.0, 9.0]])
    >>> [round(x, 4) for x in against(one, two, torch.tensor([[True, False]])).tolist()]
    [0.6931]
    """
    others = others.masked_fill(~mask, -torch.inf)
    return torch.logsumexp(torch.cat([target, others], dim=1), dim=1) - target[:, 0]


def merge(batch: AngularBatch) -> Tensor:
    """The mean of the image's classes, against the classes that it does not have."""
    return against(batch.target(batch.merged), batch.logits(), ~batch.positive)


def append(batch: AngularBatch) -> Tensor:
    """The mean of the image's classes, against all classes.

    Its own classes are among the others, even a single one: that is the form.
    """
    return against(batch.target(batch.merged), batch.logits(), torch.ones_like(batch.positive))


def partial(batch: AngularBatch) -> Tensor:
    """Each of the image's classes, against those that it does not have; the mean over its classes."""
    image, label = batch.positive.nonzero(as_tuple=True)
    target = batch.target(batch.cosine)[image, label, None]
    each = against(target, batch.logits()[image], ~batch.positive[image])
    share = each / batch.positive.sum(dim=1)[image]
    return share.new_zeros(len(batch.positive)).index_add(0, image, share)


def smooth(batch: AngularBatch) -> Tensor:
    """One softmax over all classes towards equal shares of the image's own, the margin on each of those."""
    logits = torch.where(batch.positive, batch.target(batch.cosine), batch.logits())
    log_share = F.log_softmax(logits, dim=1) * batch.positive
    return -log_share.sum(dim=1) / batch.positive.sum(dim=1)


def sample(batch: AngularBatch) -> Tensor:
    """One of the image's classes, drawn again at each visit, against those that it does not have."""
    label = torch.multinomial(batch.positive.float(), 1, generator=batch.generator)
    target = batch.target(batch.cosine.gather(1, label))
    return against(target, batch.logits(), ~batch.positive)


MULTILABEL = {"merge": merge, "append": append, "partial": partial, "smooth": smooth, "sample": sample}
