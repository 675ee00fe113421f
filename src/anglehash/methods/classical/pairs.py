r"""The similarity of training rows, S = +1 where two share a label and -1 elsewhere, never as a matrix.

S depends on the label sets of the rows alone, so it is :math:`Z T Z^T`: Z says which of the u distinct sets a
row has, and T is the similarity of the sets. With one label a row this is :math:`S = 2 Y Y^T - 1`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anglehash.codes import pack
from anglehash.errors import ConfigError
from anglehash.evaluation.code_statistics import distinct
from anglehash.methods.classical.checks import Labels
from anglehash.methods.classical.scaling import Matrix

MAX_SETS = 15_000  # distinct label sets: 900 MB of similarities between them


class Similarity(NamedTuple):
    """S of some rows."""

    set_of: NDArray[np.int64]  # (n,) the label set of each row: Z
    between: NDArray[np.float32]  # (u, u) the similarity of the sets: T

    def times(self, vector: NDArray[np.floating]) -> Matrix:
        """S v, ``(n,)``, in O(n + u^2)."""
        sums = np.bincount(self.set_of, weights=vector, minlength=len(self.between))
        return np.asarray(self.between @ sums, dtype=np.float64)[self.set_of]

    def inside(self, values: NDArray[np.floating]) -> Matrix:
        """X^T S X of ``values`` X, ``(n, m)``."""
        sums = np.zeros((len(self.between), values.shape[1]))
        np.add.at(sums, self.set_of, values)
        return sums.T @ (self.between @ sums)


def similarity_of(labels: Labels) -> Similarity:
    """The similarity of rows by their labels.

    Args:
        labels: ``(n, classes)`` multi-hot.

    Raises:
        ConfigError: there are more distinct label sets than memory should hold pairs of.

    >>> s = similarity_of(np.array([[1, 0], [1, 1], [0, 1]], dtype=bool))
    >>> [s.times(row).tolist() for row in np.eye(3)]
    [[1.0, 1.0, -1.0], [1.0, 1.0, 1.0], [-1.0, 1.0, 1.0]]
    """
    first, set_of = distinct(pack(labels))
    if len(first) > MAX_SETS:
        raise ConfigError(
            f"{len(labels)} rows have {len(first)} distinct label sets, more than {MAX_SETS}: learn from fewer rows"
        )
    return Similarity(set_of, similarity_between(labels[first], labels[first]))


def similarity_between(labels: Labels, others: Labels) -> NDArray[np.float32]:
    """+1 where a row and another share a label, -1 elsewhere, ``(n, len(others))`` float32."""
    shared = labels.astype(np.float32) @ others.T.astype(np.float32)
    return np.where(shared > 0, np.float32(1), np.float32(-1))
