"""Keys: an answer as one number, ``distance << 32 | row``. Their order is the (distance, id) order of answers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SHIFT = 32
ROW = (1 << SHIFT) - 1
Keys = NDArray[np.int64]


def least(keys: Keys, k: int | None) -> Keys:
    """The ``k`` least keys, in order; all of them where there are fewer, or without a ``k``.

    >>> least(np.array([7, 3, 5]), 2).tolist(), least(np.array([7, 3]), None).tolist()
    ([3, 5], [3, 7])
    """
    if k is not None and len(keys) > 4 * k:
        keys = np.partition(keys, k - 1)[:k]
    return np.sort(keys)[:k]
