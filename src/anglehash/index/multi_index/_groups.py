"""Equal codes as one: each distinct code once, with the rows that have it.

Learned codes repeat, so a search of the distinct codes does less than one of the rows, and is as exact.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anglehash.codes import Codes, as_words

MOST_ROWS = np.iinfo(np.int32).max


class Groups(NamedTuple):
    """Codes and their rows; ``n`` codes of ``w`` words.

    Attributes:
        codes: ``(w, n)`` 64-bit words, the first bit of a code the highest of its first word.
        starts: ``(n + 1,)`` where the rows of each code begin and end.
        rows: the rows of the first code, of the second, and so on; those of one code ascend.
    """

    codes: NDArray[np.uint64]
    starts: NDArray[np.int32]
    rows: NDArray[np.int32]

    @property
    def nbytes(self) -> int:
        """Memory in bytes."""
        return self.codes.nbytes + self.starts.nbytes + self.rows.nbytes


def words_of(codes: Codes) -> NDArray[np.uint64]:
    """Packed codes as words, ``(n, w)``, the first bit the highest.

    >>> words_of(np.array([[0x80, 0x01]], dtype=np.uint8))[0, 0] == 2**63 + 2**48
    np.True_
    """
    return as_words(codes).byteswap()


def one_each(codes: NDArray[np.uint64], rows: NDArray[np.int32]) -> Groups:
    """A group for each row, in their order; ``codes`` are ``(w, n)``."""
    return Groups(np.ascontiguousarray(codes), np.arange(len(rows) + 1, dtype=np.int32), rows)


def places(groups: Groups) -> NDArray[np.int32]:
    """Which code each entry of ``groups.rows`` has: 0 for the rows of the first code, and so on.

    >>> places(Groups(np.zeros((1, 2), np.uint64), np.array([0, 1, 3]), np.array([1, 0, 2]))).tolist()
    [0, 1, 1]
    """
    return np.repeat(np.arange(len(groups.starts) - 1, dtype=np.int32), np.diff(groups.starts))
