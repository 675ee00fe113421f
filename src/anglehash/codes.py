"""Binary codes: the one place that knows how a code looks in memory.

A batch of codes is a ``uint8`` array of shape ``(n, ceil(bits / 8))`` in ``numpy.packbits`` order (the
first bit is the highest of the first byte); unused low bits of the last byte are 0, and ``bits``
travels beside it. Distances are Hamming distances: integers, counted in bits, never normalised.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from anglehash.errors import CodeMismatchError, ConfigError, DataError

Codes = NDArray[np.uint8]

MIN_BITS = 4
MAX_BITS = 1024
SHORTEST_PREFIX = 8  # of nested codes


def check_bits(bits: int) -> int:
    """Return ``bits`` if it is a length that a code may have.

    Raises:
        ConfigError: not a whole number in 4..1024.
    """
    if isinstance(bits, bool) or not isinstance(bits, int | np.integer) or not MIN_BITS <= bits <= MAX_BITS:
        raise ConfigError(f"bits must be a whole number in {MIN_BITS}..{MAX_BITS}, got {bits!r}")
    return int(bits)


def width(bits: int) -> int:
    """Bytes of one code.

    >>> width(12)
    2
    """
    return (bits + 7) // 8


def pack(logits: NDArray[Any]) -> Codes:
    """Binarise and pack: a bit is 1 where its logit is > 0; exactly 0 gives bit 0.

    Args:
        logits: ``(n, bits)``, any number or bool dtype, without NaN.

    Returns:
        ``(n, ceil(bits / 8))`` ``uint8``.

    Raises:
        DataError: not two-dimensional, or a NaN.

    >>> pack(np.array([[1, -1, 1, 1, 0, 0, 0, 2.0]])).tolist()
    [[177]]
    """
    logits = np.asarray(logits)
    if logits.ndim != 2:
        raise DataError(f"logits must have the shape (n, bits), got {logits.shape}")
    if np.issubdtype(logits.dtype, np.floating) and np.isnan(logits).any():
        raise DataError(f"{int(np.isnan(logits).any(axis=1).sum())} rows of logits hold a NaN: no code")
    return np.packbits(logits > 0, axis=1)


def unpack(codes: Codes, bits: int) -> NDArray[np.uint8]:
    """The bits of packed codes, as 0 and 1.

    Args:
        codes: ``(n, ceil(bits / 8))`` ``uint8``.
        bits: length of a code.

    Returns:
        ``(n, bits)`` ``uint8``.

    Raises:
        CodeMismatchError: the codes are not ``bits`` long.

    >>> unpack(np.array([[177]], dtype=np.uint8), 4).tolist()
    Traceback (most recent call last):
    anglehash.errors.CodeMismatchError: codes have set bits past their 4 bits
    >>> unpack(np.array([[176]], dtype=np.uint8), 4).tolist()
    [[1, 0, 1, 1]]
    """
    return np.unpackbits(check_codes(codes, bits), axis=1, count=bits)


def check_codes(codes: NDArray[Any], bits: int) -> Codes:
    """Return ``codes`` contiguous, if they are packed codes of ``bits`` bits.

    Raises:
        CodeMismatchError: another shape or dtype, or a padding bit is set.
    """
    codes = np.asarray(codes)
    if codes.dtype != np.uint8 or codes.ndim != 2 or codes.shape[1] != width(bits):
        raise CodeMismatchError(
            f"{bits}-bit codes are uint8 of shape (n, {width(bits)}), got {codes.dtype} {codes.shape}"
        )
    spare = 8 * width(bits) - bits
    if spare and (codes[:, -1] & ((1 << spare) - 1)).any():
        raise CodeMismatchError(f"codes have set bits past their {bits} bits")
    return np.ascontiguousarray(codes)


def as_words(codes: Codes) -> NDArray[np.uint64]:
    """The codes as 64-bit words, zero-padded: ``(n, ceil(bytes / 8))`` ``uint64``, for XOR and popcount."""
    n, size = codes.shape
    words = np.zeros((n, 8 * ((size + 7) // 8)), dtype=np.uint8)
    words[:, :size] = codes
    return words.view(np.uint64)


def hamming(queries: Codes, database: Codes) -> NDArray[np.int32]:
    """Hamming distances, in bits, of every query to every database code.

    Args:
        queries: ``(q, w)`` packed codes.
        database: ``(n, w)`` packed codes of the same length.

    Returns:
        ``(q, n)`` ``int32``.

    Raises:
        CodeMismatchError: the widths differ.

    >>> hamming(pack(np.array([[1, 1, 0, 0]])), pack(np.array([[1, 0, 0, 1], [1, 1, 0, 0]]))).tolist()
    [[2, 0]]
    """
    queries, database = np.asarray(queries), np.asarray(database)
    if queries.ndim != 2 or database.ndim != 2 or queries.shape[1] != database.shape[1]:
        raise CodeMismatchError(
            f"queries have the shape {queries.shape} but the database has {database.shape}: "
            "encode both with the same Hasher"
        )
    out = np.zeros((len(queries), len(database)), dtype=np.int32)
    a, b = as_words(queries), as_words(database)
    for word in range(a.shape[1]):
        out += np.bitwise_count(a[:, word, None] ^ b[None, :, word])
    return out
