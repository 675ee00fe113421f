"""Posterior codes: bits whose Hamming distance tells how likely two images share a label."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anglehash.errors import ConfigError
from anglehash.learn.checks import check_positive, check_weight, check_whole, is_number
from anglehash.learn.head import Dropout, mean_and_scale
from anglehash.learn.shallow import SHALLOW
from anglehash.learn.shallow.checks import Features, Labels, check_inputs
from anglehash.learn.shallow.heads import PosteriorHead, centred
from anglehash.progress import Report, silent

BATCH = 128  # of the classifiers
PAIRS = 512  # images whose pairs make one step of the code
Tell = Callable[[int, str], None]
MOST_STEPS = 2400  # of the code: it reads posteriors, not images, and has learned them by then
HARDEST = 10.0  # slope of tanh at the end, where it is a step all but exactly
SERIES = 16  # terms of the logarithm in :func:`agreement`


@SHALLOW.register("posterior")
def posterior(
    features: Features,
    labels: Labels,
    bits: int,
    *,
    seed: int = 0,
    report: Report = silent,
    folds: int = 5,
    hidden: int = 128,
    epochs: int = 12,
    learning_rate: float = 4e-3,
    weight_decay: float = 5e-2,
    dropout: float = 0.5,
    sharpness: float = 1.6,
    code_hidden: int = 512,
    code_epochs: int = 60,
) -> nn.Module:
    r"""Codes that keep the class posterior, where a loss on labels keeps the likeliest class alone.

    Two images with posteriors p and p' share a label with probability S (:func:`agreement`), and no order of
    the answers has a higher expected precision than that by S. So the code is asked for that order:

    1. *What is known.* ``folds`` classifiers (one hidden layer) each learn without one fold of the training
       images and then judge that fold. These out-of-fold judgements are as good as those of images to
       come; those of images that were learned are far too sure. One temperature, which minimises their
       log loss, calibrates them.
    2. *The code.* A net g of one hidden layer turns the log-odds of an image into K logits. It learns

       .. math:: \min \; \mathrm{BCE}\Big(S_{ij},\;
                 \sigma\big(\tfrac{s}{K} \tanh(\beta z_i)^T \tanh(\beta z_j) + o\big)\Big)

       over all pairs of a batch, S out of the out-of-fold posteriors, raised to ``sharpness``; s and o are
       learned, and beta grows from 1 to 10, until the bits are all but bits.
    3. *A new image* is judged by all classifiers; its logits are the mean of g over their judgements.

    Args:
        features: ``(n, width)``.
        labels: ``(n, classes)`` multi-hot, at least one a row. Where every row has exactly one, the posterior
            is a softmax; else a sigmoid for each class.
        bits: length of a code.
        seed: of folds, weights and order.
        report: told of the progress.
        folds: classifiers.
        hidden: width of their hidden layer.
        epochs: passes of each over its images.
        learning_rate: peak of their one-cycle schedule.
        weight_decay: theirs, decoupled.
        dropout: share of their features and hidden units dropped while they learn.
        sharpness: exponent of the calibrated posteriors, > 0. Above 1 the code spends itself on what is likely.
        code_hidden: width of g's hidden layer.
        code_epochs: passes of g over the training images, 2,400 steps at most.

    Raises:
        ConfigError: an option or ``bits`` is out of range.
        DataError: the features cannot be learned from, or a row has no label.

    Source:
        Our own. Calibration by a temperature: Guo et al., "On Calibration of Modern Neural Networks", ICML
        2017. Out-of-fold judgements: Wolpert, "Stacked Generalization", Neural Networks 5, 1992. Growing
        slope: Cao et al., HashNet, ICCV 2017.
    """
    check_inputs(features, labels, bits)
    check_whole("folds", folds, 2)
    for name, count in (
        ("hidden", hidden),
        ("epochs", epochs),
        ("code_hidden", code_hidden),
        ("code_epochs", code_epochs),
    ):
        check_whole(name, count)
    for name, value in (("learning_rate", learning_rate), ("sharpness", sharpness)):
        check_positive(name, value)
    check_weight("weight_decay", weight_decay)
    if not is_number(dropout) or not 0 <= dropout < 1:
        raise ConfigError(f"dropout must be a number in [0, 1), got {dropout!r}")
    folds, per_epoch = min(folds, len(features)), max(1, round(len(features) / PAIRS))
    code_epochs = min(code_epochs, math.ceil(MOST_STEPS / per_epoch))

    def tell(done: int, note: str) -> None:
        report("posterior", done, folds + code_epochs, note)

    recipe = Recipe(hidden, epochs, learning_rate, weight_decay, dropout)
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(seed)
        judges = Judges.learn(features, labels, folds, recipe, tell)
        code = learn_code(judges, bits, sharpness, code_hidden, code_epochs, tell)
    return PosteriorHead(**judges.state(), **code)


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a classifier learns; the fields are options of :func:`posterior`."""

    hidden: int
    epochs: int
    learning_rate: float
    weight_decay: float
    dropout: float


@dataclass(frozen=True, slots=True, eq=False)
class Judges:
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
    def learn(cls, features: Features, labels: Labels, folds: int, recipe: Recipe, tell: Tell) -> Judges:
        """Cross-fit: every image is judged by the one classifier that did not learn from it."""
        x, y = torch.from_numpy(np.asarray(features)), torch.from_numpy(labels.astype(np.float32))
        mean, scale = mean_and_scale(x)
        x = (x - mean) * scale
        several = bool((labels.sum(axis=1) != 1).any())
        order = torch.randperm(len(x))
        logits, nets = torch.empty_like(y), []
        for fold in range(folds):
            out = torch.zeros(len(x), dtype=torch.bool)
            out[order[fold::folds]] = True
            known = ~out if len(x) > 1 else out
            net = learn_classifier(x[known], y[known], recipe, several=several)
            with torch.no_grad():
                logits[out] = net(x[out])
            nets.append(net)
            tell(fold + 1, f"classifier {fold + 1}/{folds}")
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
    """One hidden layer, with dropout before each layer while it learns."""

    def __init__(self, width: int, hidden: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.dropout = Dropout(dropout)
        self.hidden = nn.Linear(width, hidden)
        self.classes = nn.Linear(hidden, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Log-odds of the classes, not calibrated."""
        hidden = torch.relu(self.hidden(self.dropout(x)))
        logits: Tensor = self.classes(self.dropout(hidden))
        return logits


def learn_classifier(x: Tensor, y: Tensor, recipe: Recipe, *, several: bool) -> Classifier:
    """A classifier by AdamW on the log loss, in evaluation mode."""
    net = Classifier(x.shape[1], recipe.hidden, y.shape[1], recipe.dropout)
    groups = [{"params": net.parameters(), "weight_decay": recipe.weight_decay}]
    steps = max(1, round(len(x) / BATCH))
    for turn in _turns(groups, recipe.learning_rate, len(x), steps, recipe.epochs):
        turn.step(_log_loss(net(x.index_select(0, turn.rows)), y[turn.rows], several=several))
    return net.eval()


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


def agreement(log_odds: Tensor, *, several: bool) -> Tensor:
    r"""The probability that two images share a label, ``(n, n)``, out of their classes' log-odds.

    .. math:: S = \sum_c p_c p'_c \quad\text{or, with several labels,}\quad 1 - \prod_c (1 - p_c p'_c)

    The product over classes is taken as exp of a sum of logarithms, each by the first 16 terms of its series,
    so that matrix products do the work; S is at most .04 too small, where it is near 1.

    Shape:
        - log_odds: ``(n, classes)``; the posterior is their softmax, with ``several`` their sigmoid.

    Two images, each sure to a half of both classes: 1 - (1 - 1/4)^2 = 7/16 with several labels.

    >>> [round(float(agreement(torch.zeros(2, 2), several=s)[0, 1]), 4) for s in (False, True)]
    [0.5, 0.4375]
    """
    if not several:
        p = torch.softmax(log_odds, dim=1)
        return p @ p.T
    p = torch.sigmoid(log_odds)
    total = torch.zeros(len(p), len(p))
    for k in range(1, SERIES + 1):
        total += p**k @ (p**k).T / k
    return 1 - torch.exp(-total)


def learn_code(
    judges: Judges, bits: int, sharpness: float, hidden: int, epochs: int, tell: Tell
) -> dict[str, Tensor]:
    """The tensors of g: log-odds to the logits of the code."""
    x = centred(judges.log_odds, several=judges.several)
    sharp = judges.log_odds * sharpness
    first, last, norm = (
        nn.Linear(x.shape[1], hidden),
        nn.Linear(hidden, bits),
        nn.BatchNorm1d(bits, affine=False),
    )
    code = nn.Sequential(first, nn.ReLU(), last, norm)
    slope, offset = nn.Parameter(torch.tensor(8.0)), nn.Parameter(torch.tensor(-3.0))
    steps = max(1, round(len(x) / PAIRS))
    groups = [
        {"params": code.parameters(), "weight_decay": 1e-4},
        {"params": [slope, offset], "weight_decay": 0.0},
    ]
    for turn in _turns(groups, 1e-2, len(x), steps, epochs):
        hardness = 1 + (HARDEST - 1) * turn.progress
        soft = torch.tanh(hardness * code(x[turn.rows]))
        likeness = slope * (soft @ soft.T) / bits + offset
        wanted = agreement(sharp[turn.rows], several=judges.several)
        others = ~torch.eye(len(turn.rows), dtype=torch.bool)
        turn.step(F.binary_cross_entropy_with_logits(likeness[others], wanted[others]))
        if turn.done % steps == 0:
            tell(len(judges.nets) + turn.done // steps, f"code, epoch {turn.done // steps}/{epochs}")
    code.eval()
    mean, variance = norm.get_buffer("running_mean"), norm.get_buffer("running_var")
    gain = torch.rsqrt(variance + norm.eps)  # the batch norm goes into the last layer
    return {
        "several": torch.tensor(float(judges.several)),
        "code_weight": first.weight.detach(),
        "code_bias": first.bias.detach(),
        "weight": last.weight.detach() * gain[:, None],
        "bias": (last.bias.detach() - mean) * gain,
    }


@dataclass(frozen=True, slots=True, eq=False)
class _Turn:
    """One step of an optimiser: which rows it sees, and how far the run is."""

    rows: Tensor
    done: int
    total: int
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler

    @property
    def progress(self) -> float:
        return (self.done - 1) / self.total

    def step(self, loss: Tensor) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.schedule.step()


def _turns(groups: list[dict[str, Any]], rate: float, n: int, steps: int, epochs: int) -> Iterator[_Turn]:
    """AdamW on a one-cycle schedule, over equal batches in an order that is new in each epoch."""
    optimizer = torch.optim.AdamW(groups, lr=rate, fused=True)
    total = epochs * steps
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=total)
    for epoch in range(epochs):
        for step, rows in enumerate(torch.randperm(n).tensor_split(steps)):
            yield _Turn(rows, epoch * steps + step + 1, total, optimizer, schedule)
