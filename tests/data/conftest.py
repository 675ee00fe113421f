"""Data sets made of nothing, for tests of what is done with labels, parts and keys."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from anglehash.data.dataset import Arrays, Dataset, one_hot


def _synthetic(
    labels: Sequence[int] | NDArray[np.bool_],
    *,
    parts: Sequence[str] | None = None,
    images: Sequence[int] | None = None,
    class_names: Sequence[str] | None = None,
) -> Dataset:
    """Images of 8 x 8 pixels that spell a number: their row's, or the one given in ``images``.

    ``labels`` are class numbers (-1: none) or a multi-hot matrix.
    """
    hot = np.asarray(labels)
    if hot.dtype != np.bool_:
        hot = one_hot(hot, int(hot.max(initial=0)) + 1)
    n, classes = hot.shape
    numbers = np.arange(n) if images is None else np.asarray(images)
    pixels = np.zeros((n, 8, 8, 3), dtype=np.uint8)
    pixels.reshape(n, -1)[:, :8] = numbers.astype("<i8").view(np.uint8).reshape(n, 8)
    return Dataset(
        name="synthetic",
        ids=tuple(f"{row:06d}.png" for row in range(n)),
        images=Arrays(pixels),
        labels=hot,
        class_names=tuple(class_names or (f"c{c}" for c in range(classes))),
        parts=np.full(n, "") if parts is None else np.array(parts),
    )


@pytest.fixture(scope="session")
def synthetic() -> Callable[..., Dataset]:
    """The maker of synthetic data sets; see :func:`_synthetic`."""
    return _synthetic
