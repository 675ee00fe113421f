"""Column-sampling discrete supervised hashing: codes that fit a few columns of the similarity at a time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import nn

from anglehash.methods.checks import check_positive, check_whole
from anglehash.methods.classical import CLASSICAL
from anglehash.methods.classical.checks import Features, Labels, check_inputs
from anglehash.methods.classical.pairs import similarity_between
from anglehash.methods.classical.scaling import Matrix, cross, ridge, scaling_of, signs, squares
from anglehash.models.heads.buffers import tensors
from anglehash.models.heads.classical import LinearHead
from anglehash.progress import Progress, silent


@CLASSICAL.register("cosdish")
def cosdish(
    features: Features,
    labels: Labels,
    bits: int,
    *,
    seed: int = 0,
    progress: Progress = silent,
    columns: int | None = None,
    rounds: int = 10,
    alternations: int = 3,
    balance: bool = True,
    strength: float = 1.0,
    standardise: bool = True,
) -> nn.Module:
    r"""COSDISH: codes whose inner products are the similarity, a sample of its columns at a time.

    .. math:: \min_B |K S - B B^T|_F^2, \quad B \in \{-1, 1\}^{n \times K}

    with S = +1 where two rows share a label, -1 elsewhere. Each round draws rows Omega, and alternates between
    the codes of Omega, bit by bit with the others fixed (:func:`sampled_codes`), and those of the rest,
    :math:`B_\Gamma = \mathrm{sgn}(S_{\Gamma\Omega} B_\Omega)`, the best for the sum of absolute errors (where S is not
    balanced). The codes of new images come from a linear ridge regression of the codes on the features.

    Args:
        features: ``(n, width)``.
        labels: ``(n, classes)`` multi-hot, at least one a row.
        bits: length of a code.
        seed: of the first codes and of the columns.
        progress: callback.
        columns: how many rows a round draws; as many as bits by default.
        rounds: how often columns are drawn.
        alternations: updates of both parts in a round.
        balance: weigh dissimilar pairs so that the drawn columns sum to 0: with ten classes nine pairs of ten
            are dissimilar, and no codes are opposite for all of them.
        strength: of the ridge, absolute: the second moments of the features are sums over rows.
        standardise: divide each feature by its deviation first.

    Raises:
        ConfigError: an option or ``bits`` is out of range.
        DataError: the features cannot be learned from, or a row has no label.

    Source:
        Kang, Li and Zhou, "Column Sampling Based Discrete Supervised Hashing", AAAI 2016. Differs from it: a
        bit of the drawn rows, a binary quadratic problem, is improved by flips from where it is, in place of
        a 2-approximation by clustering; the regression has an intercept; balancing is ours.
    """
    check_inputs(features, labels, bits)
    columns = bits if columns is None else check_whole("columns", columns)
    check_whole("rounds", rounds)
    check_whole("alternations", alternations)
    check_positive("strength", strength)
    rng = np.random.default_rng(seed)
    codes: Matrix = signs(rng.standard_normal((len(features), bits))).astype(np.float64)
    for done in range(rounds):
        drawn = rng.choice(len(features), min(columns, len(features)), replace=False)
        similarity = similarity_between(labels, labels[drawn]).astype(np.float64)
        if balance:
            similarity = balanced(similarity)
        for _ in range(alternations):
            codes = alternate(codes, similarity, drawn)
        progress("cosdish", done + 1, rounds, "")
    scaling = scaling_of(features, standardise=standardise)
    bias = codes.mean(axis=0)
    aims = cross(scaling.precise(features), codes - bias)
    weight = ridge(squares(scaling.precise(features)), aims, strength).T
    return LinearHead(**tensors(mean=scaling.mean, scale=scaling.scale, weight=weight, bias=bias))


def balanced(similarity: Matrix) -> Matrix:
    """Dissimilar pairs weighed so that all sums to 0; left alone where all pairs are alike.

    >>> balanced(np.array([[1.0, -1.0, -1.0, -1.0, -1.0]])).tolist()
    [[1.0, -0.25, -0.25, -0.25, -0.25]]
    """
    similar = int((similarity > 0).sum())
    rest = similarity.size - similar
    return np.where(similarity > 0, 1.0, -similar / rest) if similar and rest else similarity


def alternate(codes: Matrix, similarity: Matrix, drawn: NDArray[np.int64]) -> Matrix:
    """Update the codes of the drawn rows, then those of the rest.

    Args:
        codes: ``(n, bits)`` of +1 and -1.
        similarity: ``(n, columns)``, of every row to the drawn ones.
        drawn: ``(columns,)`` which rows they are.

    Returns:
        The new codes; a bit of the rest that does not matter stays.
    """
    rest = np.ones(len(codes), dtype=bool)
    rest[drawn] = False
    sample = sampled_codes(codes[drawn], codes[rest], similarity[drawn], similarity[rest])
    codes = signs(similarity @ sample, otherwise=codes).astype(np.float64)
    codes[drawn] = sample
    return codes


def sampled_codes(sample: Matrix, rest: Matrix, inside: Matrix, outside: Matrix) -> Matrix:
    r"""Better codes of the drawn rows, bit by bit.

    With K bits, all but one of them fixed, the objective
    :math:`|K S_\Omega - B_\Omega B_\Omega^T|_F^2 + |K S_\Gamma - B_\Gamma B_\Omega^T|_F^2` is, but for a constant,
    :math:`-2 (b^T R b + c^T b)` in the codes b of that bit. It never grows.

    Args:
        sample: B of the drawn rows, ``(m, bits)``.
        rest: B of the other rows, ``(n, bits)``.
        inside: S between the drawn rows, ``(m, m)``.
        outside: S between the others and them, ``(n, m)``.
    """
    sample, bits = sample.copy(), sample.shape[1]
    pull, gram = bits * outside.T @ rest, rest.T @ rest
    for bit in range(bits):
        own = sample[:, bit].copy()
        sample[:, bit] = 0  # what the other bits leave over
        quadratic = bits * inside - sample @ sample.T
        linear = pull[:, bit] - sample @ gram[:, bit]
        sample[:, bit] = flip_up(own, quadratic, linear)
    return sample


def flip_up(start: Matrix, quadratic: Matrix, linear: Matrix) -> Matrix:
    r"""Maximise :math:`b^T R b + c^T b` over signs by flipping the one that gains most until none gains.

    Args:
        start: ``(m,)`` of +1 and -1.
        quadratic: R, ``(m, m)``, symmetric; its diagonal does not matter.
        linear: c, ``(m,)``.

    From (1, -1): R joins the two, and c prefers -1, so both turn to -1.

    >>> flip_up(np.array([1.0, -1.0]), np.array([[0.0, 1.0], [1.0, 0.0]]), np.array([-1.0, 0.0])).tolist()
    [-1.0, -1.0]
    """
    code = start.copy()
    others = quadratic - np.diag(np.diag(quadratic))
    field = 2 * others @ code + linear
    least = 1e-9 * (
        np.abs(others).sum() + np.abs(linear).sum()
    )  # rounding is not a gain: it would flip forever
    while True:
        gains = -2 * code * field
        best = int(gains.argmax())
        if gains[best] <= least:
            return code
        field -= 4 * code[best] * others[:, best]
        code[best] = -code[best]
