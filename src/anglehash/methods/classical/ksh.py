"""Kernel-based supervised hashing: bits learned one after the other to fit the similarity."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import nn

from anglehash.methods.checks import check_positive, check_whole
from anglehash.methods.classical import CLASSICAL
from anglehash.methods.classical.checks import Features, Labels, check_inputs
from anglehash.methods.classical.kernel import kernel_to_anchors
from anglehash.methods.classical.pairs import Similarity, similarity_of
from anglehash.methods.classical.scaling import Matrix, scaling_of, signs
from anglehash.progress import Progress, silent

NOTHING = 1e-6  # a direction of the kernel with less than this share of the first one's energy is rounding


@CLASSICAL.register("ksh")
def ksh(
    features: Features,
    labels: Labels,
    bits: int,
    *,
    seed: int = 0,
    progress: Progress = silent,
    anchors: int = 300,
    rows: int = 5000,
    iterations: int = 50,
    spread: float = 1.0,
    standardise: bool = False,
) -> nn.Module:
    r"""KSH: codes whose inner products are the similarity, from kernel functions.

    .. math:: \min_A \Big|\tfrac1K H H^T - S\Big|_F^2, \quad H = \mathrm{sgn}(\bar K A)

    with :math:`\bar K` the centred kernel between rows and anchors and S = +1 where two rows share a label, -1
    elsewhere. Bit after bit: the best answer to what the bits before left over,

    .. math:: \max_a\ h^T R_{k-1} h,\quad h = \mathrm{sgn}(\bar K a),\quad R_0 = K S,\quad R_k = R_{k-1} - h h^T

    by spectral relaxation (h = Ka of fixed length: an eigenvector), then by gradient ascent on the smooth
    tanh(Ka / 2) for h; the better of both, by the sign, is kept (:func:`next_bit`).

    Args:
        features: ``(n, width)``.
        labels: ``(n, classes)`` multi-hot, at least one a row.
        bits: length of a code.
        seed: of anchors and rows.
        progress: callback, bit by bit.
        anchors: training rows that the kernel is taken to.
        rows: maximum number of training rows, drawn at random; the paper uses 1,000 to 5,000 too.
        iterations: of the gradient ascent, for each bit; 0 leaves the spectral answer.
        spread: width of the kernel over the mean distance between rows and anchors.
        standardise: divide each feature by its deviation first.

    Raises:
        ConfigError: an option or ``bits`` is out of range.
        DataError: the features cannot be learned from, or a row has no label.

    Source:
        Liu, Wang, Ji, Jiang and Chang, "Supervised Hashing with Kernels", CVPR 2012. Differs from it: L-BFGS
        in place of Nesterov's method; directions of the kernel without energy are left out; S is used through
        the label sets of the rows, which is exact with several labels a row too.
    """
    check_inputs(features, labels, bits)
    check_whole("anchors", anchors)
    check_whole("rows", rows)
    check_whole("iterations", iterations, least=0)
    check_positive("spread", spread)
    rng = np.random.default_rng(seed)
    scaling = scaling_of(features, standardise=standardise)
    kernel = kernel_to_anchors(features, scaling, anchors, spread=spread, rng=rng)
    drawn = np.sort(rng.choice(len(features), min(rows, len(features)), replace=False))
    values = kernel.values(features[drawn])
    centre = values.mean(axis=0, dtype=np.float64)
    basis, back = whitened(values - centre)
    residue = Residue(similarity_of(labels[drawn]), basis, bits)
    weight = []
    for done in range(bits):
        weight.append(back @ next_bit(residue, basis, iterations))
        progress("ksh", done + 1, bits, "")
    return kernel.head(np.array(weight), centre)


class Residue:
    r"""What is left of the similarity: :math:`R = K S - \sum_t h_t h_t^T`, applied without forming it.

    Args:
        similarity: S of the rows.
        basis: ``(n, m)``, the space in which answers are sought.
        bits: K.
    """

    def __init__(self, similarity: Similarity, basis: Features, bits: int) -> None:
        self._similarity = similarity
        self._basis = basis
        self._bits = bits
        self._codes = np.zeros((len(basis), bits), dtype=np.float32, order="F")  # one column a bit taken
        self._taken = 0
        self.inside = bits * similarity.inside(basis)
        """basis^T R basis, ``(m, m)``."""

    def times(self, vector: NDArray[np.floating]) -> Matrix:
        """R v."""
        codes = self._codes[:, : self._taken]
        explained = codes @ (codes.T @ vector.astype(np.float32))
        return self._bits * self._similarity.times(vector) - explained

    def take(self, code: NDArray[np.floating]) -> None:
        """Subtract the outer product of one more bit."""
        self._codes[:, self._taken] = code
        self._taken += 1
        along = (self._basis.T @ code.astype(np.float32)).astype(np.float64)
        self.inside -= np.outer(along, along)


def whitened(values: Matrix) -> tuple[Features, Matrix]:
    """An orthonormal basis of the columns.

    Args:
        values: ``(n, m)``, centred.

    Returns:
        ``basis``, ``(n, r)`` float32 with orthonormal columns, and ``back``, ``(m, r)``, with
        ``basis = values @ back``. r is the rank; 0 where all is constant.
    """
    energy, vectors = np.linalg.eigh(values.T @ values)
    real = energy > NOTHING * max(energy[-1], NOTHING)
    back = vectors[:, real] / np.sqrt(energy[real])
    return (values @ back).astype(np.float32), back


def next_bit(residue: Residue, basis: Features, iterations: int) -> Matrix:
    """The next bit's weights over the basis, ``(r,)``; its code is subtracted from the residue.

    Args:
        residue: what the bits before left over.
        basis: ``(n, r)``, orthonormal columns.
        iterations: of the gradient ascent.
    """
    rows, rank = basis.shape
    if not rank:
        return np.zeros(0)
    best = np.linalg.eigh(residue.inside)[1][:, -1] * math.sqrt(rows)  # answers of mean square 1
    if iterations:
        found = minimize(
            _loss, best, args=(residue, basis), jac=True, method="L-BFGS-B", options={"maxiter": iterations}
        )
        best = max(best, found.x, key=lambda weight: _fit(residue, signs(basis @ weight.astype(np.float32))))
    residue.take(signs(basis @ best.astype(np.float32)))
    return best


def _fit(residue: Residue, code: NDArray[np.floating]) -> float:
    """h^T R h: how much of the residue a bit explains."""
    return float(code @ residue.times(code))


def _loss(weight: Matrix, residue: Residue, basis: Features) -> tuple[float, Matrix]:
    """-h^T R h of the smooth answer h = tanh(Ka / 2), over n^2, and its gradient."""
    smooth: Matrix = np.tanh(basis @ weight.astype(np.float32) / 2).astype(np.float64)
    along = residue.times(smooth)
    scale = len(basis) ** 2
    gradient = basis.T @ (along * (1 - smooth**2) / scale).astype(np.float32)
    return -float(smooth @ along) / scale, -gradient.astype(np.float64)
