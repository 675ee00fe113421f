"""Cross-fitted classifiers that say how likely each class of an image is, held to what they did not learn."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anglehash.methods.batches import steps_of_epoch
from anglehash.methods.checks import check_positive, check_share, check_weight, check_whole
from anglehash.methods.classical.checks import Features, Labels
from anglehash.models.heads.hash_head import Dropout, mean_and_scale

BATCH = 128
SERIES = 16  # terms of the logarithm in :func:`agreement`
Progressed = Callable[[int, str], None]
MANY = 64
"""Classes of images with one label, beyond which a classifier learns as one of many."""


@dataclass(frozen=True, slots=True)
class ClassifierConfig:
    """How a classifier learns; all fields but ``shared`` are options of ``posterior``.

    Attributes:
        hidden: width of the hidden layer.
        epochs: passes over its images.
        learning_rate: peak of the one-cycle schedule.
        weight_decay: decoupled.
        dropout: share of features and hidden units dropped while it learns.
        shared: what is dropped is drawn once for a batch, and the products are of what is left.

    Raises:
        ConfigError: one is out of range.
    """

    hidden: int = 128
    epochs: int = 12
    learning_rate: float = 4e-3
    weight_decay: float = 5e-2
    dropout: float = 0.5
    shared: bool = False

    def __post_init__(self) -> None:
        check_whole("hidden", self.hidden)
        check_whole("epochs", self.epochs)
        check_positive("learning_rate", self.learning_rate)
        check_weight("weight_decay", self.weight_decay)
        check_share("dropout", self.dropout)

    @classmethod
    def suiting(cls, labels: Labels, **given: float | None) -> ClassifierConfig:
        """The recipe that suits some labels, but for what is given.

        Several labels an image ask for a wider layer and 16 passes, however many classes there are, and for what
        makes them cheap, ``shared``; more than 64 classes of images with one label ask for a wider layer, too
        (docs/posterior.md).

        Args:
            labels: ``(n, classes)`` multi-hot.
            given: fields; ``None`` leaves one as it suits.

        Raises:
            ConfigError: a field is out of range.

        >>> [ClassifierConfig.suiting(labels).hidden for labels in (np.eye(3, dtype=bool), np.ones((1, 3), dtype=bool))]
        [128, 512]
        >>> ClassifierConfig.suiting(np.eye(65, dtype=bool), epochs=3)
        ClassifierConfig(hidden=256, epochs=3, learning_rate=0.002, weight_decay=0.05, dropout=0.3, shared=False)
        """
        own: dict[str, Any] = {}
        if has_several(labels):
            own = {"hidden": 512, "epochs": 16, "shared": True}
        elif labels.shape[1] > MANY:
            own = {"hidden": 256, "learning_rate": 2e-3, "dropout": 0.3}
        return cls(**{**own, **{name: value for name, value in given.items() if value is not None}})


@dataclass(frozen=True, slots=True, eq=False)
class CrossFitted:
    """Classifiers and their calibrated judgement of images that they have not learned.

    Attributes:
        mean: ``(width,)`` of the features.
        scale: ``(width,)``, one over their deviation.
        nets: one classifier a fold.
        log_odds: ``(n, classes)`` out-of-fold logits over the temperature.
        temperature: found by log loss.
        several: images may have several labels.
    """

    mean: Tensor
    scale: Tensor
    nets: list[Classifier]
    log_odds: Tensor
    temperature: float
    several: bool

    @classmethod
    def learn(
        cls,
        features: Features,
        labels: Labels,
        folds: int,
        settings: ClassifierConfig,
        progressed: Progressed,
    ) -> CrossFitted:
        """Cross-fit: every image is judged by the one classifier that did not learn from it."""
        x, y = torch.from_numpy(np.asarray(features)), torch.from_numpy(labels.astype(np.float32))
        mean, scale = mean_and_scale(x)
        x = (x - mean) * scale
        several = has_several(labels)
        order = torch.randperm(len(x))
        logits, nets = torch.empty_like(y), []
        for fold in range(folds):
            out = torch.zeros(len(x), dtype=torch.bool)
            out[order[fold::folds]] = True
            known = ~out if len(x) > 1 else out
            net = learn_classifier(x[known], y[known], settings, several=several)
            with torch.no_grad():
                logits[out] = net(x[out])
            nets.append(net)
            progressed(fold + 1, f"classifier {fold + 1}/{folds}")
        temperature = best_temperature(logits, y, several=several)
        return cls(mean, scale, nets, logits / temperature, temperature, several)

    def state(self) -> dict[str, Tensor]:
        """The tensors of the classifiers, those of all folds stacked; the temperature is in the last."""
        first, last = [net.hidden for net in self.nets], [net.classes for net in self.nets]
        return {
            "mean": self.mean,
            "scale": self.scale,
            "hidden_weight": torch.stack([layer.weight.detach() for layer in first]),
            "hidden_bias": torch.stack([layer.bias.detach() for layer in first]),
            "class_weight": torch.stack([layer.weight.detach() for layer in last]) / self.temperature,
            "class_bias": torch.stack([layer.bias.detach() for layer in last]) / self.temperature,
        }


class Classifier(nn.Module):
    """One hidden layer, with dropout before each layer while it learns.

    Args:
        width: of the features.
        hidden: units.
        classes: outputs.
        dropout: share of features and units that is dropped, in [0, 1).
        shared: what is dropped is drawn once for a batch, not for each image: at one half a quarter of the first
            layer's work is left, and half of the second's.
    """

    def __init__(
        self, width: int, hidden: int, classes: int, dropout: float, *, shared: bool = False
    ) -> None:
        super().__init__()
        self.dropout = Dropout(dropout)
        self.shared = shared
        self.hidden = nn.Linear(width, hidden)
        self.classes = nn.Linear(hidden, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Log-odds of the classes, not calibrated."""
        if self.shared and self.training:
            return self._of_what_is_left(x)
        hidden = torch.relu(self.hidden(self.dropout(x)))
        logits: Tensor = self.classes(self.dropout(hidden))
        return logits

    def _of_what_is_left(self, x: Tensor) -> Tensor:
        features, units = (self._left(layer.in_features) for layer in (self.hidden, self.classes))
        weight = self.hidden.weight.index_select(0, units).index_select(1, features)
        x = x.index_select(1, features) * (self.hidden.in_features / len(features))
        hidden = torch.relu(F.linear(x, weight, self.hidden.bias.index_select(0, units)))
        hidden = hidden * (self.classes.in_features / len(units))
        return F.linear(hidden, self.classes.weight.index_select(1, units), self.classes.bias)

    def _left(self, n: int) -> Tensor:
        """Which of n are not dropped, one at least."""
        return torch.randperm(n)[: max(1, round(n * (1 - self.dropout.p)))]


def learn_classifier(x: Tensor, y: Tensor, settings: ClassifierConfig, *, several: bool) -> Classifier:
    """A classifier by AdamW on the log loss, in evaluation mode."""
    net = Classifier(x.shape[1], settings.hidden, y.shape[1], settings.dropout, shared=settings.shared)
    groups = [{"params": net.parameters(), "weight_decay": settings.weight_decay}]
    steps = steps_of_epoch(len(x), BATCH)
    for turn in turns(groups, settings.learning_rate, len(x), steps, settings.epochs):
        turn.step(_log_loss(net(x.index_select(0, turn.rows)), y[turn.rows], several=several))
    return net.eval()


def has_several(labels: Labels) -> bool:
    """Whether ``(n, classes)`` multi-hot labels are other than one a row, so that each class has a sigmoid.

    >>> has_several(np.eye(3, dtype=bool)), has_several(np.ones((1, 2), dtype=bool))
    (False, True)
    """
    return bool((labels.sum(axis=1) != 1).any())


class LogLoss(nn.Module):
    """What a backbone learns before its features are judged: the classes, by their log loss.

    Args:
        several: each class has a sigmoid of its own; else they share a softmax.

    Shape:
        - logits: ``(n, classes)``.
        - labels: ``(n, classes)`` multi-hot.

    Two classes at even odds: ln 2.

    >>> round(LogLoss(several=False)(torch.zeros(1, 2), torch.tensor([[True, False]])).item(), 4)
    0.6931
    """

    def __init__(self, *, several: bool) -> None:
        super().__init__()
        self.several = several

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The mean over images, and over classes where each has a sigmoid of its own."""
        return _log_loss(logits, labels.to(logits.dtype), several=self.several)


def _log_loss(logits: Tensor, y: Tensor, *, several: bool) -> Tensor:
    """The mean over images, and over classes where each has a sigmoid of its own."""
    return F.binary_cross_entropy_with_logits(logits, y) if several else F.cross_entropy(logits, y)


def best_temperature(logits: Tensor, y: Tensor, *, several: bool) -> float:
    """The temperature out of .3 to 5 with the least log loss, on a grid of 5 % steps.

    Sure and right half of the time: logits of (4, 0) should be (0, 0), and 5 is the nearest.

    >>> wrong_half = torch.tensor([[4.0, 0.0], [4.0, 0.0]]), torch.eye(2)
    >>> round(best_temperature(*wrong_half, several=False), 1)
    4.8
    """
    grid = [0.3 * 1.05**i for i in range(58)]
    return min(grid, key=lambda t: float(_log_loss(logits / t, y, several=several)))


def agreement(log_odds: Tensor, others: Tensor | None = None, *, several: bool) -> Tensor:
    r"""The probability that two images share a label, ``(n, m)``, out of their classes' log-odds.

    .. math:: S = \sum_c p_c p'_c \quad\text{or, with several labels,}\quad 1 - \prod_c (1 - p_c p'_c)

    The product over classes is taken as exp of a sum of logarithms, each by the first 16 terms of its series,
    so that matrix products do the work; S is at most .04 too small, where it is near 1.

    Shape:
        - log_odds: ``(n, classes)``; the posterior is their softmax, with ``several`` their sigmoid.
        - others: ``(m, classes)``; the same images by default.

    Two images, each sure to a half of both classes: 1 - (1 - 1/4)^2 = 7/16 with several labels.

    >>> [round(float(agreement(torch.zeros(2, 2), several=s)[0, 1]), 4) for s in (False, True)]
    [0.5, 0.4375]
    """
    others = log_odds if others is None else others
    if not several:
        return torch.softmax(log_odds, dim=1) @ torch.softmax(others, dim=1).T
    p, q = torch.sigmoid(log_odds), torch.sigmoid(others)
    total = torch.zeros(len(p), len(q))
    ours, theirs = p, q  # their k-th powers
    for k in range(1, SERIES + 1):
        total.addmm_(ours, theirs.T, alpha=1 / k)
        ours, theirs = ours * p, theirs * q
    return 1 - torch.exp(-total)


@dataclass(frozen=True, slots=True, eq=False)
class Turn:
    """One step of an optimiser: which rows it sees, and how far the run is."""

    rows: Tensor
    done: int
    total: int
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler

    @property
    def progress(self) -> float:
        """Share of the run that is over, in [0, 1)."""
        return (self.done - 1) / self.total

    def step(self, loss: Tensor) -> None:
        """One step downhill."""
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.schedule.step()


def turns(groups: list[dict[str, Any]], rate: float, n: int, steps: int, epochs: int) -> Iterator[Turn]:
    """AdamW on a one-cycle schedule, over equal batches in an order that is new in each epoch."""
    optimizer = torch.optim.AdamW(groups, lr=rate, fused=True)
    total = epochs * steps
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=total)
    for epoch in range(epochs):
        for step, rows in enumerate(torch.randperm(n).tensor_split(steps)):
            yield Turn(rows, epoch * steps + step + 1, total, optimizer, schedule)
