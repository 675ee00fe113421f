"""Dual posterior codes: what is asked and what is kept have codes of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from anglehash.learn.checks import check_positive, check_whole
from anglehash.learn.shallow import SHALLOW
from anglehash.learn.shallow.checks import Features, Labels, check_inputs
from anglehash.learn.shallow.dual_head import DualHead, Line, descend, fit
from anglehash.learn.shallow.judges import Judges, Recipe, has_several
from anglehash.learn.shallow.nested import check_extras, keep_features, prefixes
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
    epochs: int | None = None,
    learning_rate: float | None = None,
    weight_decay: float | None = None,
    dropout: float | None = None,
    flatness: float | None = None,
    rounds: int = 3,
    starts: int = 8,
    nested: int = 0,
    kept: float = 0.0,
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
       distance is worth as much among the doubtful as among the sure. Nested codes minimise the sum of this
       over the prefixes, each with its own s and o.
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
        hidden: width of their hidden layer; this and the next four by default as it suits the labels
            (:meth:`~anglehash.learn.shallow.judges.Recipe.suiting`).
        epochs: passes of each over its images.
        learning_rate: peak of their one-cycle schedule.
        weight_decay: theirs, decoupled.
        dropout: share of their features and hidden units dropped while they learn.
        flatness: tau, the exponent of an item's posterior, > 0; by default that of :func:`flatness_for`.
        rounds: times that the codes of classes and of images are fitted to each other.
        starts: random class codes to begin with, of which those that fit best are taken.
        nested: learn a code of so many bits whose first 8, 16, 32, ... are codes of their own, and return the
            first ``bits``; 0 learns one length alone.
        kept: share of the bits, in [0, 1), that keep the features instead: the last round(kept K) are those of
            :func:`~anglehash.learn.shallow.itq.itq` on both sides, for classes that were not learned; 4 bits or
            more, and as many for the classes.

    Raises:
        ConfigError: an option or ``bits`` is out of range, ``nested`` is shorter than ``bits``, or it is
            asked for together with ``kept``.
        DataError: the features cannot be learned from, or a row has no label.

    Source:
        Our own. Codes by the descent of single bits: Shen et al., "Supervised Discrete Hashing", CVPR 2015. Codes for
        one side and a function for the other: Jiang and Li, "Asymmetric Deep Supervised Hashing", AAAI 2018.
    """
    check_inputs(features, labels, bits)
    check_whole("folds", folds, 2)
    given = {
        "hidden": hidden,
        "epochs": epochs,
        "learning_rate": learning_rate,
        "weight_decay": weight_decay,
        "dropout": dropout,
    }
    check_whole("rounds", rounds)
    check_whole("starts", starts)
    keeping = check_extras(nested, kept, bits)
    searched = nested or bits - keeping
    power = (
        flatness_for(labels.shape[1], searched) if flatness is None else check_positive("flatness", flatness)
    )
    if has_several(labels):
        return posterior(
            features,
            labels,
            bits,
            seed=seed,
            report=lambda stage, done, total, note: report("posterior-dual", done, total, note),
            folds=folds,
            nested=nested,
            kept=kept,
            **given,
        )
    recipe = Recipe.suiting(labels, **given)
    of_features = keep_features(features, labels, keeping, seed)
    folds = min(folds, len(features))

    def tell(done: int, note: str) -> None:
        report("posterior-dual", done, folds + 1, note)

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        with torch.enable_grad():
            judges = Judges.learn(features, labels, folds, recipe, tell)
        with torch.no_grad():
            wanted = torch.softmax(power * judges.log_odds, dim=1)
            share = torch.from_numpy(labels.mean(axis=0, dtype=np.float32))
            codes = learn_codes(wanted, share, prefixes(searched, nested=nested > 0), rounds, starts)
            query_weight = reading_of(codes.items, wanted)
            asked = torch.softmax(QUERY_POWER * judges.log_odds, dim=1) @ query_weight
            bias, push = fit(torch.zeros(1, len(share)), codes.classes, share, codes.lines)
            weight = fit(torch.eye(len(share)), codes.classes, share, codes.lines)[0] - bias
            size = descend(wanted[:TRIED] @ weight + bias, push).abs().mean()
        tell(folds + 1, "codes")
    head = DualHead(
        **judges.state(),
        **of_features(judges),
        pull_weight=weight / size,  # so that the mean size of a logit is 1 on both sides
        pull_bias=bias[0] / size,
        push=push / size,
        class_codes=codes.classes,
        query_weight=query_weight / asked.abs().mean(),
        item_power=torch.tensor(power * OF_THE_MEAN),
        query_power=torch.tensor(QUERY_POWER * OF_THE_MEAN),
    )
    return head.shortened(bits) if nested else head


def flatness_for(classes: int, bits: int) -> float:
    r"""The exponent of items' posteriors that suits: 1/2, and more where a bit has to serve more than four classes.

    .. math:: \tfrac{1}{2} \max\big(1, \tfrac{C}{4K}\big)^{1/4}

    Few bits have no room for doubt. Found on folds of Tiny-ImageNet (docs/posterior.md).

    >>> flatness_for(10, 16), flatness_for(1024, 16)
    (0.5, 1.0)
    """
    return 0.5 * float(max(1.0, classes / (4 * bits)) ** 0.25)


class DualCodes(NamedTuple):
    """Codes of -1 and 1 whose inner products say how likely a class is.

    Attributes:
        classes: ``(classes, bits)``.
        items: ``(n, bits)``.
        lines: what the inner products of each prefix say.
        error: mean squared error of that, a class weighing as often as it occurs; the sum over the prefixes.
    """

    classes: Tensor
    items: Tensor
    lines: list[Line]
    error: float


def learn_codes(wanted: Tensor, share: Tensor, lengths: Sequence[int], rounds: int, starts: int) -> DualCodes:
    """Codes of classes and of images, fitted to each other from the best of several random beginnings.

    The beginnings are tried on 2,048 images at most.

    Args:
        wanted: ``(n, classes)``, what the inner products are to say.
        share: ``(classes,)``, the weight of each class, not negative, with the sum 1.
        lengths: the prefixes that are to say it, ascending; the last is the whole code.
        rounds: times that both sides are fitted, at least 1.
        starts: beginnings, at least 1.
    """
    some = wanted[torch.randperm(len(wanted))[:TRIED]]
    tried = (
        alternate(_signs(torch.randn(wanted.shape[1], lengths[-1])), some, share, lengths, rounds)
        for _ in range(starts)
    )
    return alternate(min(tried, key=lambda codes: codes.error).classes, wanted, share, lengths, rounds)


def alternate(
    classes: Tensor, wanted: Tensor, share: Tensor, lengths: Sequence[int], rounds: int
) -> DualCodes:
    """Fit images' codes to the classes', and these to the images', in turn; each time the codes are found anew.

    Args:
        classes: ``(classes, bits)`` of -1 and 1, to begin with.
        wanted: ``(n, classes)``, as :func:`learn_codes` has it.
        share: ``(classes,)``, as :func:`learn_codes` has it.
        lengths: as :func:`learn_codes` has them.
        rounds: at least 1.
    """
    n = len(wanted)
    items = _signs((wanted - wanted.mean(dim=0)) @ classes)
    for _ in range(rounds):
        lines = lines_of(items, classes, wanted, share, lengths)
        classes = _signs(descend(*fit(wanted.T, items, torch.full((n,), 1 / n), lines)))
        lines = lines_of(items, classes, wanted, share, lengths)
        pull, push = fit(wanted, classes, share, lines)
        items = torch.cat([_signs(descend(part, push)) for part in torch.split(pull, BLOCK)])
    error = 0.0
    for length, slope, offset in lines:
        off = slope * items[:, :length] @ classes[:, :length].T + offset - wanted
        error += float((off.square() @ share).mean())
    return DualCodes(classes, items, lines, error)


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


def lines_of(
    items: Tensor, classes: Tensor, wanted: Tensor, share: Tensor, lengths: Sequence[int]
) -> list[Line]:
    """For each prefix the line from inner products to what is wanted, ``(n, classes)``, by least squares."""
    weight, lines = share / len(wanted), list[Line]()
    y = (wanted * weight).sum()
    for length in lengths:
        products = items[:, :length] @ classes[:, :length].T
        x = (products * weight).sum()
        along = ((products - x) * (wanted - y) * weight).sum()
        slope = along / ((products - x).square() * weight).sum().clamp_min(1e-9)
        lines.append(Line(length, slope, y - slope * x))
    return lines


def _signs(logits: Tensor) -> Tensor:
    return torch.where(logits > 0, 1.0, -1.0)
