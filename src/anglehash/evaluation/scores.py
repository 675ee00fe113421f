"""Rankings by a real-valued score: what the codes are held against.

The features before binarising (:func:`cosine`) tell how much quantization costs; the posterior of a
calibrated classifier (:func:`posterior_agreement`, :func:`shared_label_agreement`) is the reference, called
*ceiling* though it is not a proven bound. A similarity is a function of two arrays that gives ``(q, n)``
scores, higher is nearer; only their order counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anglehash.asymmetric import distances_to_signs
from anglehash.codes import pack
from anglehash.errors import DataError
from anglehash.evaluation.code_statistics import distinct
from anglehash.evaluation.ties import Floats, check_cut, harmonic_numbers

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


def asymmetric_nearness(weights: NDArray[Any], signs: NDArray[Any]) -> NDArray[Any]:
    """Ranks by :func:`~anglehash.asymmetric.asymmetric_distances`: weights of queries, signs of the database."""
    return -distances_to_signs(weights, signs)


def score_blocks(
    query: NDArray[Any], database: NDArray[Any], *, similarity: Similarity = cosine
) -> Iterator[NDArray[Any]]:
    """The scores of all queries, in blocks of consecutive queries: at most about 4 million at once.

    Yields:
        ``(rows, n)``, as the similarity gives them.
    """
    step = max(1, CELLS // max(len(database), 1))
    for start in range(0, len(query), step):
        yield similarity(query[start : start + step], database)


def average_precision_of_blocks(
    blocks: Iterable[NDArray[Any]],
    query_labels: NDArray[np.bool_],
    database_labels: NDArray[np.bool_],
    ks: Sequence[int | None] = (None,),
) -> Floats:
    """AP per query and rank cut, exact under ties, of rankings that are given as scores.

    The definition is :func:`anglehash.evaluation.metrics.average_precision_from_histograms`. A query's
    ranking is sorted once for all cuts, right answers and others apart. Scores are compared in their own
    type (integers wider than 16 bits as float64), and tie where they are equal.

    Args:
        blocks: ``(rows, n)`` each, higher is nearer: the scores of all queries, in order.
        query_labels: ``(q, classes)`` bool, multi-hot.
        database_labels: ``(n, classes)`` bool, multi-hot.
        ks: rank cuts; ``None`` ranks the whole database.

    Returns:
        ``(q, len(ks))`` in ``[0, 1]``; 0 where nothing is relevant.

    Raises:
        DataError: scores and labels do not fit together, a score is NaN, or there is nothing to rank.
        ConfigError: a cut is not a positive integer.

    The right answers are at the ranks 1 and 3: (1/1 + 2/3) / 2, and at a cut of 1 only the first counts.

    >>> labels = np.array([[True, False], [False, True], [True, False]])
    >>> blocks = [np.array([[0.9, 0.8, 0.7]])]
    >>> average_precision_of_blocks(blocks, labels[:1], labels, ks=(None, 1)).round(4).tolist()
    [[0.8333, 1.0]]
    """
    q, n = len(query_labels), len(database_labels)
    if q == 0 or n == 0 or query_labels.shape[1] != database_labels.shape[1]:
        raise DataError(
            f"a ranking needs a query, an item and the same classes on both sides: got labels "
            f"{query_labels.shape} and {database_labels.shape}"
        )
    cuts = np.array([check_cut(k, n) for k in ks], dtype=np.int64)
    first, set_of = distinct(pack(database_labels))
    label_sets = database_labels[first].T.astype(np.float32)
    precision, done = np.zeros((q, len(cuts))), 0
    for block in blocks:
        rows = slice(done, done + len(block))
        done += len(block)
        if block.ndim != 2 or block.shape[1] != n or done > q:
            raise DataError(
                f"scores must be {q} rows of {n}, got a block of the shape {block.shape} up to row {done}"
            )
        relevant = query_labels[rows].astype(np.float32) @ label_sets > 0
        _rank_block(block, relevant, set_of, cuts, precision[rows])
    if done != q:
        raise DataError(f"scores must be {q} rows of {n}, got {done} rows")
    return precision


def _rank_block(
    scores: NDArray[Any],
    relevant: NDArray[np.bool_],
    set_of: NDArray[np.integer[Any]],
    cuts: NDArray[np.int64],
    precision: Floats,
) -> None:
    from anglehash.evaluation import kernels  # numba: only when it is needed

    scores = scores.astype(np.result_type(scores.dtype, np.float32), copy=False)
    n = scores.shape[1]
    hits, misses = np.empty((2, n + 1), dtype=scores.dtype)
    harmonic = harmonic_numbers(n)
    for row, answers, out in zip(scores, relevant, precision, strict=True):
        found, nans = kernels.split(row, answers, set_of, hits, misses)
        if nans:
            raise DataError(f"{nans} scores are NaN: they have no place in a ranking")
        if found:
            hits[:found].sort()  # numpy sorts with vector instructions, which a compiled loop would not
            misses[: n - found].sort()
            kernels.average_precision(hits[:found], misses[: n - found], cuts, harmonic, out)


def average_precision_of_scores(
    query: NDArray[Any],
    database: NDArray[Any],
    query_labels: NDArray[np.bool_],
    database_labels: NDArray[np.bool_],
    *,
    similarity: Similarity = cosine,
    k: int | None = None,
) -> Floats:
    """AP per query of the ranking by a similarity, ``(q,)``: see :func:`mean_average_precision_of_scores`."""
    for name, values, labels in (("query", query, query_labels), ("database", database, database_labels)):
        if len(values) == 0 or len(values) != len(labels):
            raise DataError(
                f"the {name} part has {len(values)} rows of scores and {len(labels)} of labels: it needs as "
                "many of both, and at least one"
            )
    blocks = score_blocks(query, database, similarity=similarity)
    return average_precision_of_blocks(blocks, query_labels, database_labels, (k,))[:, 0]


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
    return float(
        average_precision_of_scores(
            query, database, query_labels, database_labels, similarity=similarity, k=k
        ).mean()
    )
