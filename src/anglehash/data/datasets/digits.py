"""``digits``: 1,797 real scans of handwritten digits, 8x8 pixels, out of scikit-learn.

Nothing to download: the scans come with the ``train`` extra. It has no official split. The 17 grey levels
(0 to 16) are spread over 0 to 255.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from anglehash.data.dataset import Arrays, Dataset, numbered_ids, one_hot
from anglehash.errors import MissingExtraError


def load(root: Path | None = None, *, download: bool = False) -> Dataset:
    """The scans in scikit-learn's order; ``root`` and ``download`` change nothing.

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise MissingExtraError("scikit-learn", extra="train") from error
    scans = load_digits()
    grey = np.rint(scans.images * (255 / 16)).astype(np.uint8)
    parts = np.full(len(grey), "")
    return Dataset(
        name="digits",
        ids=numbered_ids("digits", parts.tolist()),
        images=Arrays(np.repeat(grey[..., None], 3, axis=3)),
        labels=one_hot(scans.target, 10),
        class_names=tuple("0123456789"),
        parts=parts,
    )
