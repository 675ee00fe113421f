"""Posterior codes: bits whose Hamming distance tells how likely two images share a label."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anglehash.methods.checks import check_positive, check_whole
from anglehash.methods.classical import CLASSICAL
from anglehash.methods.classical.checks import Features, Labels, check_inputs
from anglehash.methods.classical.cross_fitted import (
    ClassifierConfig,
    CrossFitted,
    Progressed,
    agreement,
    has_several,
    turns,
)
from anglehash.methods.classical.nested import check_extras, keep_features, prefixes
from anglehash.models.heads.posterior import PosteriorHead, reading
from anglehash.progress import Progress, silent

PAIRS = {False: 512, True: 256}
"""Images whose pairs make one step of the code: where each has one label, where it may have several."""

AT_ONCE = 8192
"""Images up to which the agreement of all pairs is worked out once, for some 300 MB, and not step by step."""

MOST_STEPS = 2400  # of the code: it reads posteriors, not images, and has learned them by then
HARDEST = 10.0  # slope of tanh at the end, where it is a step all but exactly


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeConfig:
    """How the code learns; the fields are options of ``posterior``.

    Attributes:
        sharpness: exponent of the calibrated posteriors.
        hidden: width of its network's hidden layer.
        epochs: passes over the training images.
        lengths: the prefixes that are to be good codes, ascending; the last is the whole.
    """

    sharpness: float
    hidden: int
    epochs: int
    lengths: tuple[int, ...]

    @property
    def bits(self) -> int:
        """Length of the code."""
        return self.lengths[-1]


@CLASSICAL.register("posterior")
def posterior(
    features: Features,
    labels: Labels,
    bits: int,
    *,
    seed: int = 0,
    progress: Progress = silent,
    folds: int = 5,
    hidden: int | None = None,
    epochs: int | None = None,
    learning_rate: float | None = None,
    weight_decay: float | None = None,
    dropout: float | None = None,
    sharpness: float = 1.6,
    code_hidden: int = 512,
    code_epochs: int = 60,
    nested: int = 0,
    kept: float = 0.0,
) -> nn.Module:
    r"""Codes that keep the class posterior, where a loss on labels keeps the likeliest class alone.

    Two images with posteriors p and p' share a label with probability S (:func:`agreement`), and no order of
    the answers has a higher expected precision than that by S. So the code is asked for that order:

    1. *What is known.* ``folds`` classifiers (one hidden layer) each learn without one fold of the training
       images and then classify that fold. These out-of-fold judgements are as good as those of images to
       come; those of images that were learned are far too sure. One temperature, which minimises their
       log loss, calibrates them.
    2. *The code.* A net g of one hidden layer turns the log-odds of an image into K logits. It learns

       .. math:: \min \; \mathrm{BCE}\Big(S_{ij},\;
                 \sigma\big(\tfrac{s}{K} \tanh(\beta z_i)^T \tanh(\beta z_j) + o\big)\Big)

       over all pairs of a batch, S out of the out-of-fold posteriors, raised to ``sharpness``; s and o are
       learned, and beta grows from 1 to 10, until the bits are all but bits. Where images have several
       labels g reads the roots of the posteriors, its objective is :func:`rank_loss`, which ranks in place
       of fitting, and what it wants is the mean of S and of the labels' own agreement.
    3. *A new image* is judged by all classifiers; its logits are the mean of g over their judgements.

    Args:
        features: ``(n, width)``.
        labels: ``(n, classes)`` multi-hot, at least one a row. Where every row has exactly one, the posterior
            is a softmax; else a sigmoid for each class.
        bits: length of a code.
        seed: of folds, weights and order.
        progress: callback.
        folds: classifiers.
        hidden: width of their hidden layer; this and the next four by default as it suits the labels
            (:meth:`~anglehash.methods.classical.cross_fitted.ClassifierConfig.suiting`).
        epochs: passes of each over its images.
        learning_rate: peak of their one-cycle schedule.
        weight_decay: theirs, decoupled.
        dropout: share of their features and hidden units dropped while they learn.
        sharpness: exponent of the calibrated posteriors, > 0. Above 1 the code spends itself on what is likely.
        code_hidden: width of g's hidden layer.
        code_epochs: passes of g over the training images, 2,400 steps at most.
        nested: learn a code of this length whose first 8, 16, 32, ... are codes of their own (the objective
            is the mean over these lengths), and return the first ``bits``; 0 learns one length alone.
        kept: share of the bits, in [0, 1), that keep the features instead: the last round(kept K) are those of
            :func:`~anglehash.methods.classical.itq.itq`, for classes that were not learned; 4 bits or more, and as many
            for the classes.

    Raises:
        ConfigError: an option or ``bits`` is out of range, ``nested`` is shorter than ``bits``, or it is
            asked for together with ``kept``.
        DataError: the features cannot be learned from, or a row has no label.

    Source:
        Our own. Calibration by a temperature: Guo et al., "On Calibration of Modern Neural Networks", ICML
        2017. Out-of-fold judgements: Wolpert, "Stacked Generalization", Neural Networks 5, 1992. Growing
        slope: Cao et al., HashNet, ICCV 2017.
    """
    check_inputs(features, labels, bits)
    check_whole("folds", folds, 2)
    settings = ClassifierConfig.suiting(
        labels,
        hidden=hidden,
        epochs=epochs,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        dropout=dropout,
    )
    check_whole("code_hidden", code_hidden)
    check_whole("code_epochs", code_epochs)
    check_positive("sharpness", sharpness)
    keeping = check_extras(nested, kept, bits)
    of_features = keep_features(features, labels, keeping, seed)
    folds, per_epoch = min(folds, len(features)), steps_of_code(len(features), several=has_several(labels))
    code_epochs = min(code_epochs, math.ceil(MOST_STEPS / per_epoch))

    def progressed(done: int, note: str) -> None:
        progress("posterior", done, folds + code_epochs, note)

    lengths = prefixes(nested or bits - keeping, nested=nested > 0)
    wanted = CodeConfig(sharpness=sharpness, hidden=code_hidden, epochs=code_epochs, lengths=lengths)
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(seed)
        classifiers = CrossFitted.learn(features, labels, folds, settings, progressed)
        code = learn_code(classifiers, torch.from_numpy(labels.astype(np.float32)), wanted, progressed)
    if nested:
        code |= {name: code[name][:bits] for name in ("weight", "bias")}
    return PosteriorHead(**classifiers.state(), **code, **of_features(classifiers))


def steps_of_code(n: int, *, several: bool) -> int:
    """Steps that the code takes over ``n`` images."""
    return max(1, round(n / PAIRS[several]))


def learn_code(
    classifiers: CrossFitted, labels: Tensor, settings: CodeConfig, progressed: Progressed
) -> dict[str, Tensor]:
    """The tensors of g: what the classifiers say to the logits of the code; ``labels`` are ``(n, classes)`` 0 and 1."""
    x = reading(classifiers.log_odds, roots=classifiers.several)
    sharp = classifiers.log_odds * settings.sharpness
    first, last, norm = (
        nn.Linear(x.shape[1], settings.hidden),
        nn.Linear(settings.hidden, settings.bits),
        nn.BatchNorm1d(settings.bits, affine=False),
    )
    code = nn.Sequential(first, nn.ReLU(), last, norm)
    lengths, epochs = settings.lengths, settings.epochs
    slope, offset = (nn.Parameter(torch.full((len(lengths),), start)) for start in (8.0, -3.0))
    steps = steps_of_code(len(x), several=classifiers.several)
    groups = [
        {"params": code.parameters(), "weight_decay": 1e-4},
        {"params": [slope, offset], "weight_decay": 0.0},
    ]

    def wanted_of(rows: Tensor, others: Tensor) -> Tensor:
        found = agreement(sharp[rows], sharp[others], several=classifiers.several)
        return (found + (labels[rows] @ labels[others].T > 0)) / 2 if classifiers.several else found

    at_once = classifiers.several and len(x) <= AT_ONCE  # with one label a step's agreement is one product
    whole = all_pairs(len(x), wanted_of) if at_once else None
    for turn in turns(groups, 1e-2, len(x), steps, epochs):
        hardness = 1 + (HARDEST - 1) * turn.progress
        soft = torch.tanh(hardness * code(x[turn.rows]))
        if whole is None:
            wanted = wanted_of(turn.rows, turn.rows)
        else:
            wanted = whole.index_select(0, turn.rows).index_select(1, turn.rows)
        loss = torch.zeros(())
        for i, length in enumerate(lengths):
            prefix = soft[:, :length]
            likeness = slope[i] * (prefix @ prefix.T) / length + offset[i]
            loss = loss + (rank_loss if classifiers.several else pair_loss)(likeness, wanted)
        turn.step(loss / len(lengths))
        if turn.done % steps == 0:
            progressed(
                len(classifiers.nets) + turn.done // steps, f"code, epoch {turn.done // steps}/{epochs}"
            )
    code.eval()
    mean, variance = norm.get_buffer("running_mean"), norm.get_buffer("running_var")
    gain = torch.rsqrt(variance + norm.eps)  # the batch norm goes into the last layer
    return {
        "roots": torch.tensor(float(classifiers.several)),
        "code_weight": first.weight.detach(),
        "code_bias": first.bias.detach(),
        "weight": last.weight.detach() * gain[:, None],
        "bias": (last.bias.detach() - mean) * gain,
    }


def all_pairs(n: int, of: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """``of(rows, columns)``, which is symmetric, for all pairs of n rows; each pair is worked out once."""
    whole = torch.empty(n, n)
    for rows in torch.split(torch.arange(n), PAIRS[True]):
        first, end = int(rows[0]), int(rows[-1]) + 1
        whole[first:end, first:] = of(rows, torch.arange(first, n))
        whole[end:, first:end] = whole[first:end, end:].T
    return whole


def pair_loss(likeness: Tensor, wanted: Tensor) -> Tensor:
    """The mean binary cross entropy of all pairs of two images.

    Shape:
        - likeness: ``(n, n)`` logits.
        - wanted: ``(n, n)`` in 0..1.

    Likeness 0 is a half: ln 2, whatever is wanted.

    >>> round(pair_loss(torch.zeros(2, 2), torch.eye(2)).item(), 4)
    0.6931
    """
    others = ~torch.eye(len(wanted), dtype=torch.bool)
    return F.binary_cross_entropy_with_logits(likeness[others], wanted[others])


def rank_loss(likeness: Tensor, wanted: Tensor) -> Tensor:
    r"""How far each image's likely answers stand behind its unlikely ones.

    .. math:: L = -\operatorname{mean}_i \sum_{j \ne i} \frac{S_{ij}}{\sum_{k \ne i} S_{ik}}
              \log \frac{e^{t_{ij}}}{e^{t_{ij}} + \sum_{k \ne i} (1 - S_{ik})\, e^{t_{ik}}}

    Every image weighs the same, be its classes common or rare: with several labels a fit of all pairs is a fit of
    the common ones.

    Shape:
        - likeness: ``(n, n)``, t.
        - wanted: ``(n, n)``, S in 0..1; the diagonal is not read.

    Source:
        Our own; with S of 0 and 1 it is the supervised contrastive loss (Khosla et al., NeurIPS 2020) with
        the other positives left out of the denominator.

    Three images at the same likeness; 0 and 1 belong together and 2 to nobody, so it has no term. The other two
    have one answer beside one that is none: ln 2 each.

    >>> wanted = torch.tensor([[0.0, 1, 0], [1, 0, 0], [0, 0, 0]])
    >>> round(rank_loss(torch.zeros(3, 3), wanted).item(), 4)  # 2/3 ln 2
    0.4621
    """
    alone = torch.eye(len(wanted), dtype=torch.bool)
    share = wanted.masked_fill(alone, 0)
    share = share / share.sum(dim=1, keepdim=True).clamp_min(1e-6)
    unlikely = (1 - wanted).clamp_min(1e-4).log().masked_fill(alone, -torch.inf)
    behind = torch.logsumexp(likeness + unlikely, dim=1, keepdim=True)
    return (share * (torch.logaddexp(likeness, behind) - likeness)).sum(dim=1).mean()
