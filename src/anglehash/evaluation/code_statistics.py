"""What the codes themselves look like, before any ranking."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from anglehash.codes import Codes, as_words, hamming, pack, unpack
from anglehash.errors import DataError


def unique_codes(codes: Codes) -> int:
    """Number of different codes; as few as classes means that the codes only name the class.

    >>> unique_codes(np.array([[1], [2], [1]], dtype=np.uint8))
    2
    """
    return len(distinct(codes)[0])


def distinct(codes: Codes) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The different codes: the first row ``(d,)`` of each, and which of them each code is, ``(n,)``.

    Up to 64 bits are compared as one number, which is several times as fast as row by row.

    >>> rows, member = distinct(np.array([[5], [9], [5]], dtype=np.uint8))
    >>> rows.tolist(), member.tolist()
    ([0, 1], [0, 1, 0])
    """
    words = as_words(codes)
    keys = words[:, 0] if words.shape[1] == 1 else words
    _, first, member = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    return first, member.reshape(-1)


def bit_balance(codes: Codes, bits: int) -> NDArray[np.float64]:
    """Share of ones in each bit, ``(bits,)``: 0.5 is balanced, 0 and 1 carry nothing.

    Raises:
        CodeMismatchError: the codes are not ``bits`` long.
        DataError: no code.
    """
    if len(codes) == 0:
        raise DataError("the balance of bits needs at least one code")
    balance: NDArray[np.float64] = unpack(codes, bits).mean(axis=0)
    return balance


class ClassCodeDistances(NamedTuple):
    """Hamming distances between the codes of different classes, in bits.

    Attributes:
        mean: over all pairs of classes; at most bits * C / (2 (C - 1)).
        std: unbiased standard deviation; 0 where there is one pair.
        min: of the weakest pair.
    """

    mean: float
    std: float
    min: int


def class_code_distances(codes: Codes) -> ClassCodeDistances:
    """The true Hamming matrix of class codes, in three numbers.

    Args:
        codes: ``(classes, w)`` packed, one code per class.

    Raises:
        DataError: fewer than two classes.

    >>> class_code_distances(np.array([[0b1100], [0b1010], [0b1111]], dtype=np.uint8))
    ClassCodeDistances(mean=2.0, std=0.0, min=2)
    """
    if len(codes) < 2:
        raise DataError(f"distances between class codes need two classes or more, got {len(codes)}")
    pairs = hamming(codes, codes)[np.triu_indices(len(codes), k=1)]
    std = float(pairs.std(ddof=1)) if len(pairs) > 1 else 0.0
    return ClassCodeDistances(float(pairs.mean()), std, int(pairs.min()))


def class_id_codes(posterior: NDArray[Any]) -> Codes:
    """The trivial code: one bit per class, set for the most probable one (the first, if tied).

    Two of them have distance 0 (same answer) or 2. A learned code that ranks no better has learned to
    classify, and could be stored in ceil(log2 C) bits.

    Args:
        posterior: ``(n, classes)``.

    Returns:
        ``(n, ceil(classes / 8))`` packed codes of ``classes`` bits.
    """
    return pack(np.argmax(posterior, axis=1)[:, None] == np.arange(posterior.shape[1]))
