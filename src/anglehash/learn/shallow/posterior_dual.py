"""Dual posterior codes: what is asked and what is kept have codes of their own."""

from __future__ import annotations

from dataclasses import asdict
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from anglehash.learn.checks import check_positive, check_whole
from anglehash.learn.shallow import SHALLOW
from anglehash.learn.shallow.checks import Features, Labels, check_inputs
from anglehash.learn.shallow.dual_head import DualHead, descend, fit
from anglehash.learn.shallow.judges import HIDDEN, Judges, Recipe, has_several
from anglehash.learn.shallow.posterior import posterior
from anglehash.progress import Report, silent

QUERY_POWER = 2.0
"""Exponent of a query's posterior: it asks for its likely classes, and little for the others."""

OF_THE_MEAN = 1.4
"""Factor on the mean log-odds of all classifiers, which is less sure than each of them."""

BLOCK = 4096
"""Images whose codes are found at once: they stay in the processor's cache."""

TRIED = 2048
"""Images on which a beginning is tried, at most."""


@SHALLOW.register("posterior-dual")
def posterior_dual(
    features: Features,
    labels: Labels,
    bits: int,
    *,
    seed: int = 0,
    report: Report = silent,
    folds: int = 5,
    hidden: int | None = None,
    epochs: int = 12,
    learning_rate: float = 4e-3,
    weight_decay: float = 5e-2,
    dropout: float = 0.5,
    flatness: float = 0.5,
    rounds: int = 3,
    starts: int = 8,
) -> nn.Module:
    r"""Codes of items that say how likely each class is, and codes of queries that ask for classes.

    To a query of class j an image x is a right answer with probability p_j(x), and no order of the answers has a
    higher expected precision than that by it. A code that serves both sides cannot give it: two images in
    doubt are nearest to each other, where each should stand behind those that are sure. With a code for each
    side it can be had almost whole:

    1. *What is known*: as in :func:`~anglehash.learn.shallow.posterior.posterior`, classifiers that judge the
       training images which they have not learned, calibrated.
    2. *The codes*. The class j has a code c_j, and the training image i, judged p_i, a code d_i:

       .. math:: \min_{c, d, s, o} \sum_i \sum_j \pi_j \big(s\, d_i \cdot c_j + o - t_{ij}\big)^2, \qquad
                 t_i = \mathrm{softmax}(\tau \log p_i)

       over codes of -1 and 1, each bit of c and d in turn (:func:`~anglehash.learn.shallow.dual_head.descend`), s
       and o in closed form, for ``rounds`` rounds; pi_j is how often a class occurs. With tau = 1/2 a step of
       distance is worth as much among the doubtful as among the sure.
    3. *A query* asks with :math:`\sum_j a_j m_j`, a its own posterior, squared and normalised, and m_j the real
       vector whose inner products with the d_i fit t_ij best (least squares); its code is the signs.
    4. *A new item* gets the code that fits its posterior, by the same descent: a small search, and not a
       product and a threshold.

    The codes of two items are not meant to be compared: an item that asks for more like it asks with the code
    of its class (:mod:`anglehash.encode.asking`). Where images have several labels
    a query is of many kinds, and the codes of :func:`~anglehash.learn.shallow.posterior.posterior` were better
    in every trial: then these are made.

    Args:
        features: ``(n, width)``.
        labels: ``(n, classes)`` multi-hot, at least one a row.
        bits: length of a code.
        seed: of folds, weights, order, and the first class codes.
        report: told of the progress.
        folds: classifiers.
        hidden: width of their hidden layer; by default 128, and 512 where images have several labels.
        epochs: passes of each over its images.
        learning_rate: peak of their one-cycle schedule.
        weight_decay: theirs, decoupled.
        dropout: share of their features and hidden units dropped while they learn.
        flatness: tau, the exponent of an item's posterior, > 0.
        rounds: times that the codes of classes and of images are fitted to each other.
        starts: random class codes to begin with, of which those that fit best are taken.

    Raises:
        ConfigError: an option or ``bits`` is out of range.
        DataError: the features cannot be learned from, or a row has no label.

    Source:
        Our own. Codes by the descent of single bits: Shen et al., "Supervised Discrete Hashing", CVPR 2015. Codes for
        one side and a function for the other: Jiang and Li, "Asymmetric Deep Supervised Hashing", AAAI 2018.
    """
    check_inputs(features, labels, bits)
    check_whole("folds", folds, 2)
    several = has_several(labels)
    hidden = HIDDEN[several] if hidden is None else hidden
    recipe = Recipe(hidden, epochs, learning_rate, weight_decay, dropout)
    check_whole("rounds", rounds)
    check_whole("starts", starts)
    check_positive("flatness", flatness)
    if several:
        return posterior(
            features,
            labels,
            bits,
            seed=seed,
            report=lambda stage, done, total, note: report("posterior-dual", done, total, note),
            folds=folds,
            **asdict(recipe),
        )
    folds = min(folds, len(features))

    def tell(done: int, note: str) -> None:
        report("posterior-dual", done, folds + 1, note)

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        with torch.enable_grad():
            judges = Judges.learn(features, labels, folds, recipe, tell)
        with torch.no_grad():
            wanted = torch.softmax(flatness * judges.log_odds, dim=1)
            share = torch.from_numpy(labels.mean(axis=0, dtype=np.float32))
            codes = learn_codes(wanted, share, bits, rounds, starts)
            query_weight = reading_of(codes.items, wanted)
        tell(folds + 1, "codes")
    return DualHead(
        **judges.state(),
        class_codes=codes.classes,
        class_share=share,
        slope=codes.slope,
        offset=codes.offset,
        query_weight=query_weight,
        item_power=torch.tensor(flatness * OF_THE_MEAN),
        query_power=torch.tensor(QUERY_POWER * OF_THE_MEAN),
    )


class DualCodes(NamedTuple):
    """Codes of -1 and 1 whose inner products say how likely a class is.

    Attributes:
        classes: ``(classes, bits)``.
        items: ``(n, bits)``.
        slope: ``()``, of the inner products.
        offset: ``()``.
        error: mean squared error of what they say, a class weighing as often as it occurs.
    """

    classes: Tensor
    items: Tensor
    slope: Tensor
    offset: Tensor
    error: float


def learn_codes(wanted: Tensor, share: Tensor, bits: int, rounds: int, starts: int) -> DualCodes:
    """Codes of classes and of images, fitted to each other from the best of several random beginnings.

    The beginnings are tried on 2,048 images at most.

    Args:
        wanted: ``(n, classes)``, what the inner products are to say.
        share: ``(classes,)``, the weight of each class, not negative, with the sum 1.
        bits: length of a code.
        rounds: times that both sides are fitted, at least 1.
        starts: beginnings, at least 1.
    """
    some = wanted[torch.randperm(len(wanted))[:TRIED]]
    tried = (
        alternate(_signs(torch.randn(wanted.shape[1], bits)), some, share, rounds) for _ in range(starts)
    )
    return alternate(min(tried, key=lambda codes: codes.error).classes, wanted, share, rounds)


def alternate(classes: Tensor, wanted: Tensor, share: Tensor, rounds: int) -> DualCodes:
    """Fit images' codes to the classes', and these to the images', in turn; each time the codes are found anew.

    Args:
        classes: ``(classes, bits)`` of -1 and 1, to begin with.
        wanted: ``(n, classes)``, as :func:`learn_codes` has it.
        share: ``(classes,)``, as :func:`learn_codes` has it.
        rounds: at least 1.
    """
    n = len(wanted)
    items = _signs((wanted - wanted.mean(dim=0)) @ classes)
    for _ in range(rounds):
        slope, offset = _line(items @ classes.T, wanted, share)
        classes = _signs(descend(*fit(wanted.T, items, torch.full((n,), 1 / n), slope, offset)))
        slope, offset = _line(items @ classes.T, wanted, share)
        pull, push = fit(wanted, classes, share, slope, offset)
        items = torch.cat([_signs(descend(part, push)) for part in torch.split(pull, BLOCK)])
    off = slope * items @ classes.T + offset - wanted
    return DualCodes(classes, items, slope, offset, float((off.square() @ share).mean()))


def reading_of(items: Tensor, wanted: Tensor) -> Tensor:
    """The vectors whose inner products with items' codes fit what is wanted best, ``(classes, bits)``.

    Least squares with an offset for each class, and a ridge of 1e-4 of the mean variance of a bit: some bits are
    copies of each other, or equal in all items.

    Two bits, the first of which says it all and the second nothing.

    >>> items = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]])
    >>> [round(m, 3) for m in reading_of(items, torch.tensor([[1.0], [1], [0], [0]]))[0].tolist()]
    [0.5, 0.0]
    """
    x, t = (items - items.mean(dim=0)).double(), (wanted - wanted.mean(dim=0)).double()
    spread = x.T @ x / len(x)
    ridge = 1e-4 * spread.diagonal().mean() + 1e-9
    found = torch.linalg.solve(spread + ridge * torch.eye(len(spread), dtype=x.dtype), x.T @ t / len(x))
    weights: Tensor = found.T.to(items.dtype)
    return weights


def _line(products: Tensor, wanted: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
    """Slope and offset of the line from inner products to what is wanted, ``(n, classes)`` both, by least squares."""
    weight = share / len(products)
    x, y = (products * weight).sum(), (wanted * weight).sum()
    along = ((products - x) * (wanted - y) * weight).sum()
    slope = along / ((products - x).square() * weight).sum().clamp_min(1e-9)
    return slope, y - slope * x


def _signs(logits: Tensor) -> Tensor:
    return torch.where(logits > 0, 1.0, -1.0)
