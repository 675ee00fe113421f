"""How the images of an epoch are shared out over batches."""

from __future__ import annotations


def steps_of_epoch(n: int, batch_size: int) -> int:
    """Batches of an epoch: equal ones, so that no image is left out and none is alone.

    Few images are taken in up to 8 batches of 8 or more, since 30 steps in all would teach little.

    >>> [steps_of_epoch(n, 128) for n in (1, 3, 20, 60, 300, 4500)]
    [1, 1, 2, 7, 8, 35]
    >>> steps_of_epoch(7, 2)
    3
    """
    return max(1, min(n // 2, max(round(n / batch_size), min(8, n // 8))))
