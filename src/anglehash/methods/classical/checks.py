"""Checks of what shallow methods are given; a message is one line."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from anglehash.codes import check_bits
from anglehash.errors import DataError

Features = NDArray[np.float32]  # (n, width)
Labels = NDArray[np.bool_]  # (n, classes), multi-hot


def check_inputs(features: Features, labels: Labels | None, bits: int) -> None:
    """Refuse what nothing can be learned from.

    Args:
        features: of the training rows.
        labels: of the training rows where the method needs them, or ``None``.
        bits: length of a code.

    Raises:
        ConfigError: the length of a code is out of range.
        DataError: no row, a number that is not finite, equal rows only, or a row without a label.
    """
    check_bits(bits)
    if features.ndim != 2 or not features.size or not np.isfinite(features).all():
        raise DataError(
            f"features must be (rows, width), finite and not empty, got {features.dtype} {features.shape}"
        )
    if not (features != features[0]).any():
        raise DataError(f"all {len(features)} training rows have the same features: nothing to tell apart")
    if labels is None:
        return
    if labels.dtype != np.bool_ or labels.ndim != 2 or len(labels) != len(features):
        raise DataError(
            f"labels must be bool ({len(features)}, classes) multi-hot, got {labels.dtype} {labels.shape}"
        )
    if bare := int((~labels.any(axis=1)).sum()):
        raise DataError(
            f"{bare} of {len(labels)} training rows have no label, but a supervised method needs one on each: "
            "leave them out, or take an unsupervised method"
        )
