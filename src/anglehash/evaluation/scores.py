"""Rankings by a real-valued score: what the codes are held against.

The features before binarising (:func:`cosine`) tell how much quantization costs; the posterior of a
calibrated classifier (:func:`posterior_agreement`, :func:`shared_label_agreement`) is the reference, called
*ceiling* though it is no proven bound. A similarity is a function of two arrays that gives ``(q, n)``
scores, higher is nearer; only their order counts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anglehash.errors import DataError
from anglehash.evaluation.metrics import average_precision

Similarity = Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]]

CELLS = 2**22  # scores that are in memory at once


def cosine(queries: NDArray[Any], database: NDArray[Any]) -> NDArray[Any]:
    """Cosine of the angle between features, times the query's length, which no ranking sees.

    A zero vector has cosine 0 with everything.
    """
    length = np.sqrt(np.einsum("nd,nd->n", database, database))
    scaled: NDArray[Any] = (queries @ database.T) / np.where(length > 0, length, 1)
    return scaled


def posterior_agreement(queries: NDArray[Any], database: NDArray[Any]) -> NDArray[Any]:
    """Probability that two images have the same class, sum of p(c|q) p(c|d): images with one label each."""
    agreement: NDArray[Any] = queries @ database.T
    return agreement


def shared_label_agreement(queries: NDArray[Any], database: NDArray[Any]) -> NDArray[Any]:
    """Ranks by the probability of at least one shared label, 1 - prod(1 - p(c|q) p(c|d)): several labels.

    Returned without the leading 1, which would round the best of them to ties.
    """
    miss = np.ones((len(queries), len(database)))
    by_class = np.ascontiguousarray(database.T)
    for row, probabilities in zip(miss, queries.astype(np.float64), strict=True):
        for q, d in zip(probabilities, by_class, strict=True):
            row *= 1 - q * d
    return -miss


def mean_average_precision_of_scores(
    query: NDArray[Any],
    database: NDArray[Any],
    query_labels: NDArray[np.bool_],
    database_labels: NDArray[np.bool_],
    *,
    similarity: Similarity = cosine,
    k: int | None = None,
) -> float:
    """The mAP of the ranking by a similarity, as :mod:`anglehash.evaluation.metrics` defines it.

    Works in blocks of queries. Scores tie where they are the same float, and then count their expectation
    too; but rounding may set the scores of equal features apart, so float ties are not promised.

    Args:
        query: ``(q, width)`` features or posteriors.
        database: ``(n, width)``.
        query_labels: ``(q, classes)`` bool, multi-hot.
        database_labels: ``(n, classes)`` bool, multi-hot.
        similarity: higher is nearer.
        k: count the first ``k`` ranks only; ``None`` ranks the whole database.

    Returns:
        In ``[0, 1]``. A query without a relevant item counts 0.

    Raises:
        DataError: features and labels do not fit together, a score is NaN, or there is nothing to rank.
        ConfigError: ``k`` is not a positive integer.

    >>> features = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    >>> labels = np.array([[True], [False], [True]])
    >>> mean_average_precision_of_scores(features[:1], features, labels[:1], labels)
    1.0
    """
    for name, values, labels in (("query", query, query_labels), ("database", database, database_labels)):
        if len(values) == 0 or len(values) != len(labels):
            raise DataError(
                f"the {name} part has {len(values)} rows of scores and {len(labels)} of labels: it needs as "
                "many of both, and at least one"
            )
    step = max(1, CELLS // len(database))
    any_label = database_labels.T.astype(np.float32)
    precision = []
    for start in range(0, len(query), step):
        block = slice(start, start + step)
        relevant = query_labels[block].astype(np.float32) @ any_label > 0
        precision.append(average_precision(-similarity(query[block], database), relevant, k=k))
    return float(np.concatenate(precision).mean())
