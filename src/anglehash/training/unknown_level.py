"""The level beyond which a picture is unknown to a model, from images whose nearest neighbours are right."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import nn

from anglehash.codes import Codes, hamming, pack
from anglehash.encode.unknown_level import TRAINING, VALIDATION, Level
from anglehash.models.heads.hash_head import logits_of
from anglehash.training.fit_head import Labelled

FEWEST = 20
"""Validation images that find what is right, at least; with fewer the training images give the level."""
MOST = 2_000
"""Images that are looked up, at most."""
REJECTED = 20
"""At most one right query in 20, 5 %, is farther away than the level."""

_AT_ONCE = 64


def calibrated(head: nn.Module, known: Labelled, held: Labelled) -> Level | None:
    """The level of a model.

    Args:
        head: features to logits.
        known: the training images.
        held: the validation images; may be none. With fewer than 20 right ones each training image is looked up among
            the others.

    Returns:
        The level; ``None`` where no image finds one of its own labels.
    """
    codes = pack(logits_of(head, known.features))
    places = evenly(len(held.labels))
    found = pack(logits_of(head, held.features[places]))
    distances = right_distances(found, held.labels[places], codes, known.labels)
    if len(distances) >= FEWEST:
        return level_of(distances, VALIDATION)
    own = evenly(len(codes))
    distances = right_distances(codes[own], known.labels[own], codes, known.labels, own=own)
    return level_of(distances, TRAINING)


def evenly(count: int) -> NDArray[np.int64]:
    """The places of at most 2,000 of ``count`` images, evenly spaced."""
    return np.linspace(0, max(count - 1, 0), min(count, MOST)).astype(np.int64)


def right_distances(
    queries: Codes,
    query_labels: NDArray[np.bool_],
    codes: Codes,
    labels: NDArray[np.bool_],
    *,
    own: NDArray[np.int64] | None = None,
) -> NDArray[np.int64]:
    """How far away the nearest item of each right query is, in bits.

    A query is right where one of its nearest items shares a label with it.

    Args:
        queries: ``(q, w)`` packed codes.
        query_labels: ``(q, classes)`` multi-hot.
        codes: ``(n, w)`` packed codes.
        labels: ``(n, classes)`` multi-hot.
        own: ``(q,)`` the item that each query is itself, which is left out.
    """
    found: list[int] = []
    for start in range(0, len(queries), _AT_ONCE):
        block = hamming(queries[start : start + _AT_ONCE], codes)
        for place, distances in enumerate(block, start):
            if own is not None:
                distances[own[place]] = np.iinfo(distances.dtype).max
            nearest = distances == distances.min()
            if (labels[nearest] & query_labels[place]).any():
                found.append(int(distances.min()))
    return np.array(found, np.int64)


def level_of(distances: NDArray[np.int64], source: str) -> Level | None:
    """The smallest level that at least 95 % of some distances stay within; ``None`` without any.

    Of 40 distances two may be farther away.

    >>> level_of(np.array([3] * 30 + [5] * 8 + [9, 11]), "validation")
    Level(bits=5, rejects=0.05, images=40, source='validation')
    """
    count = len(distances)
    if not count:
        return None
    bits = int(np.sort(distances)[count - count // REJECTED - 1])
    return Level(bits, round(float((distances > bits).mean()), 4), count, source)
