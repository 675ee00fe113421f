"""Asymmetric distances: a query that is still real-valued, against items that are bits.

Only the gallery has to be small. What a query's own bits forget, how sure it is of each, is known when it is asked,
so a bit that differs counts as much as the query is sure of it. A gallery, its codes and its size stay as they are.

Weights are whole numbers, so distances are exact in whatever order they are added, and ties are ties.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from anglehash.codes import Codes, unpack, width
from anglehash.errors import CodeMismatchError, DataError

SURE = 255
"""The weight of a bit that a query is sure of: distances are counted in fractions of a bit of this size."""
STEEP = 1.5
"""At the mean size of a query's logits a bit has tanh(1.5) = .91 of the full weight."""

Weights = NDArray[np.int32]


def bit_weights(logits: NDArray[Any]) -> Weights:
    r"""How sure queries are of each of their bits.

    .. math:: w_k = \operatorname{round}\Big(255 \tanh \frac{1.5\, z_k}{\operatorname{mean}_j |z_j|}\Big)

    The sign is the bit's. A logit at 0 has no weight, one of the query's mean size .91 of the full one, and those
    that are greater count alike: beyond that a logit tells more of how it was trained than of how sure it is.

    Args:
        logits: ``(q, bits)`` real-valued codes, finite; their scale does not matter.

    Returns:
        ``(q, bits)`` in -255..255.

    Raises:
        DataError: not two-dimensional, without a bit, or not finite.

    Source:
        Gordo, Perronnin, Gong and Lazebnik, "Asymmetric Distances for Binary Embeddings", TPAMI 36, 2014, which
        asks with the real values themselves. Our own: tanh, and whole numbers.

    >>> bit_weights(np.array([[1.0, -1.0, 0.0, 2.0]])).tolist()
    [[231, -231, 0, 254]]
    """
    logits = np.asarray(logits)
    if logits.ndim != 2 or not logits.shape[1]:
        raise DataError(f"logits must have the shape (queries, bits), got {logits.shape}")
    lost = ~np.isfinite(logits).all(axis=1)
    if lost.any():
        raise DataError(f"{int(lost.sum())} of {len(logits)} rows of logits hold a NaN or an infinite value")
    greatest = np.abs(logits).max(axis=1, keepdims=True).astype(np.float64)
    values = np.divide(
        logits, greatest, out=np.zeros(logits.shape), where=greatest > 0
    )  # their sum stays finite
    size = np.abs(values).mean(axis=1, keepdims=True)
    steep = STEEP * np.divide(values, size, out=np.zeros_like(values), where=size > 0)
    weights: Weights = np.rint(SURE * np.tanh(steep)).astype(np.int32)
    return weights


def check_weights(weights: NDArray[Any], bits: int) -> Weights:
    """Return weights if they are those of ``bits``-bit codes.

    Raises:
        CodeMismatchError: another shape.
    """
    if weights.ndim != 2 or weights.shape[1] != bits:
        raise CodeMismatchError(f"{bits}-bit codes have logits of shape (n, {bits}), got {weights.shape}")
    return weights


def signs(codes: Codes, bits: int) -> NDArray[np.float32]:
    """The bits of packed codes as -1 and 1, ``(n, bits)``, for :func:`distances_to_signs`.

    Raises:
        CodeMismatchError: the codes have another length.
    """
    return 2 * unpack(codes, bits).astype(np.float32) - 1


def asymmetric_distances(weights: Weights, codes: Codes) -> NDArray[np.int32]:
    """The weight of the bits in which items differ from queries: the definition, for all pairs at once.

    Args:
        weights: ``(q, bits)`` of :func:`bit_weights`.
        codes: ``(n, ceil(bits / 8))`` packed.

    Returns:
        ``(q, n)``, in parts of :data:`SURE` of a bit.

    Raises:
        CodeMismatchError: the codes have another length.

    The second item differs where the query is less sure:

    >>> weights = bit_weights(np.array([[1.0, -1.0, 0.1, 2.0]]))
    >>> asymmetric_distances(weights, np.array([[0b10110000], [0b10010000], [0b11110000]], np.uint8)).tolist()
    [[0, 37, 229]]
    """
    return distances_to_signs(weights, signs(codes, weights.shape[1]))


def distances_to_signs(weights: Weights, items: NDArray[np.float32]) -> NDArray[np.int32]:
    """:func:`asymmetric_distances` to items of which the signs are there already."""
    agreement = (weights.astype(np.float32) @ items.T).astype(np.int32)  # whole numbers below 2^24: exact
    distances: NDArray[np.int32] = (
        np.abs(weights).sum(axis=1, keepdims=True, dtype=np.int32) - agreement
    ) // 2
    return distances


def lookups(weights: Weights) -> NDArray[np.int32]:
    """What each value of each byte of a code adds to one query's distance.

    Args:
        weights: ``(bits,)`` of one query.

    Returns:
        ``(ceil(bits / 8), 256)``.

    >>> table = lookups(np.array([231, -231, 37, 254]))
    >>> int(table[0, 0b11000000])  # 231 + 37 + 254 differ
    522
    """
    own = np.zeros((width(len(weights)), 8), dtype=np.int32)
    own.reshape(-1)[: len(weights)] = weights
    values = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).astype(np.int32)
    most = np.maximum(own, 0).sum(axis=1, dtype=np.int32)  # of a byte without a bit
    table: NDArray[np.int32] = most[:, None] - own @ values.T
    return table
