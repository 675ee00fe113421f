"""The untrained baselines: what a user would pick today instead of learning codes from labels.

A baseline is a function of three arrays of features (training images, queries, database) that gives scores,
higher is nearer, and the bytes that it stores for each database item. All of them see directions only:
features are L2-normalised first, so the float ranking is by cosine, and the others approximate the Euclidean
distance of unit vectors, which ranks as the cosine does. They learn from the features of the training
images, never from a label. A query is not compressed, except by ``bits``.

``float`` and ``bits`` have the size that they have; ``pq`` and ``rabitq`` fill the bytes that they are given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from anglehash.codes import as_words, pack
from anglehash.errors import ConfigError, DataError
from anglehash.evaluation.faiss_threads import one_thread
from anglehash.evaluation.scores import average_precision_of_blocks, score_blocks
from anglehash.evaluation.ties import Floats
from anglehash.registry import Registry

Features = NDArray[np.float32]

FACTOR_BYTES = 8  # RaBitQ keeps two float32 beside the bits of an item

LEAST_BYTES = {"pq": 1, "rabitq": FACTOR_BYTES + 1}
"""The baselines whose size can be chosen, and the least that they can do with."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Baseline:
    """A database that is ready to be ranked.

    Attributes:
        scores: gives the scores of all queries in blocks of consecutive queries, ``(rows, m)`` float32, higher
            is nearer; each call starts over.
        bytes_per_item: what one database item takes up. What all items share (means, codebooks, a rotation) is
            not counted.
        fit_seconds: wall time of learning from the training images, without encoding.
        note: the settings, for people.
    """

    scores: Callable[[], Iterator[Features]]
    bytes_per_item: int
    fit_seconds: float
    note: str


class MakeBaseline(Protocol):
    """Train ``(n, w)``, query ``(q, w)``, database ``(m, w)``, and the bytes if they can be chosen."""

    def __call__(
        self,
        train: Features,
        query: Features,
        database: Features,
        *,
        bytes_per_item: int | None = None,
        seed: int = 0,
    ) -> Baseline:
        """Compress the database."""
        ...


BASELINES: Registry[MakeBaseline] = Registry("baseline")


def baseline_average_precision(
    baseline: Baseline,
    query_labels: NDArray[np.bool_],
    database_labels: NDArray[np.bool_],
    ks: Sequence[int | None] = (None,),
) -> Floats:
    """AP per query and rank cut, ``(q, len(ks))``: the ranking of a baseline, held against labels.

    Raises:
        DataError: the labels are not those of the baseline's queries and database.
        ConfigError: a cut is not a positive integer.
    """
    return average_precision_of_blocks(baseline.scores(), query_labels, database_labels, ks)


@BASELINES.register("float")
def float_features(
    train: Features, query: Features, database: Features, *, bytes_per_item: int | None = None, seed: int = 0
) -> Baseline:
    """Cosine of the features as they are: float32, 4 w bytes.

    Args:
        train: ``(n, w)``, not used.
        query: ``(q, w)``.
        database: ``(m, w)``.
        bytes_per_item: ``None``, or 4 w.
        seed: not used.

    Raises:
        ConfigError: another number of bytes is asked for.
        DataError: the three parts do not fit together.

    >>> x = np.array([[3.0, 4.0], [0.0, 2.0]], dtype=np.float32)
    >>> next(BASELINES["float"](x, x, x).scores()).astype(float).round(2).tolist()
    [[1.0, 0.8], [0.8, 1.0]]
    """
    _, query, database = _unit_vectors(train, query, database)
    _check_fixed("float", bytes_per_item, 4 * database.shape[1])
    return Baseline(
        scores=lambda: score_blocks(query, database, similarity=_dot),
        bytes_per_item=4 * database.shape[1],
        fit_seconds=0.0,
        note="cosine of float32 features",
    )


@BASELINES.register("bits")
def sign_bits(
    train: Features, query: Features, database: Features, *, bytes_per_item: int | None = None, seed: int = 0
) -> Baseline:
    """One bit a dimension, Hamming distance: 1 where a feature is above its mean over the training images.

    Args:
        train: ``(n, w)``, for the means.
        query: ``(q, w)``.
        database: ``(m, w)``.
        bytes_per_item: ``None``, or ceil(w / 8).
        seed: not used.

    Raises:
        ConfigError: another number of bytes is asked for.
        DataError: the three parts do not fit together.
    """
    train, query, database = _unit_vectors(train, query, database)
    size = -(-database.shape[1] // 8)
    _check_fixed("bits", bytes_per_item, size)
    started = perf_counter()
    mean = train.mean(axis=0)
    seconds = perf_counter() - started
    queries = as_words(pack(query - mean))
    words = np.ascontiguousarray(as_words(pack(database - mean)).T)
    return Baseline(
        scores=lambda: score_blocks(queries, words.T, similarity=_minus_hamming),
        bytes_per_item=size,
        fit_seconds=seconds,
        note=f"{database.shape[1]} bits, Hamming distance",
    )


@BASELINES.register("pq")
def product_quantization(
    train: Features, query: Features, database: Features, *, bytes_per_item: int | None = None, seed: int = 0
) -> Baseline:
    """Product quantization: each stretch of a vector is replaced by the nearest of 256 centroids, one byte.

    The distance of a query to an item is the one to the item's centroids (asymmetric), hence
    |q - x|^2 with x decoded, of which 2 q.x - |x|^2 is the score.

    Args:
        train: ``(n, w)``; k-means takes all of them. Of fewer than 256 rows, 2^floor(log2 n) centroids are made.
        query: ``(q, w)``.
        database: ``(m, w)``.
        bytes_per_item: stretches, at most w. Where they do not divide w, PCA first takes the vectors to the
            next lower width that they divide.
        seed: of k-means.

    Raises:
        ConfigError: no bytes are given, or more than w.
        DataError: the three parts do not fit together.

    Source:
        Jégou et al., "Product Quantization for Nearest Neighbor Search", IEEE TPAMI 33(1), 2011, by faiss.
    """
    import faiss

    train, query, database = _unit_vectors(train, query, database)
    width = database.shape[1]
    stretches = _check_size("pq", bytes_per_item, LEAST_BYTES["pq"], width)
    started = perf_counter()
    reduced = width - width % stretches
    if reduced < width:
        mean, axes = principal_axes(train, reduced)
        train, query, database = (_project(x, mean, axes) for x in (train, query, database))
    bits = min(8, int(np.log2(len(train))))
    quantizer: Any = faiss.ProductQuantizer(reduced, stretches, bits)
    quantizer.cp.seed = seed
    quantizer.cp.min_points_per_centroid = 1  # or it warns, on stderr, of fewer than 39 for each
    with one_thread():
        quantizer.train(train)
        seconds = perf_counter() - started
        decoded = quantizer.decode(quantizer.compute_codes(database))
    offset = -np.einsum("nd,nd->n", decoded, decoded)
    return Baseline(
        scores=lambda: _linear_scores(query, decoded, offset),
        bytes_per_item=int(quantizer.code_size),
        fit_seconds=seconds,
        note=f"{stretches} x {bits} bits on {reduced} dimensions, asymmetric",
    )


@BASELINES.register("rabitq")
def rabitq(
    train: Features, query: Features, database: Features, *, bytes_per_item: int | None = None, seed: int = 0
) -> Baseline:
    """RaBitQ on principal components: one bit a component after a random rotation, and two factors.

    The factors make the estimate of the distance unbiased, and are counted: 8 + d/8 bytes for d components,
    so d is 8 (bytes - 8), at most w and at most the training images.

    For a given item the estimate falls short of |q|^2 by a linear function of the query, 2 q.x - e(0) with x
    decoded and e(0) the estimate for the query 0: all scores are one matrix product, and equal to
    those of faiss' own search up to rounding, save that faiss cuts an estimate below 0 to 0.

    Args:
        train: ``(n, w)``, for the components.
        query: ``(q, w)``; not quantized, where faiss would by default take 4 bits a component.
        database: ``(m, w)``.
        bytes_per_item: the most that an item may take up, 9 or more; the true number can be lower.
        seed: of the rotation.

    Raises:
        ConfigError: no bytes are given, or fewer than 9; or the installed faiss has no RaBitQ.
        DataError: the three parts do not fit together.

    Source:
        Gao and Long, "RaBitQ", SIGMOD 2024, arXiv:2405.12497, by faiss. Differs from it: principal components
        first, to come down to so few bytes.
    """
    import faiss

    if not hasattr(faiss, "IndexRaBitQ"):
        raise ConfigError("the installed faiss has no RaBitQ: it needs faiss-cpu 1.11 or newer")
    train, query, database = _unit_vectors(train, query, database)
    size = _check_size("rabitq", bytes_per_item, LEAST_BYTES["rabitq"], None)
    width = min(8 * (size - FACTOR_BYTES), database.shape[1], len(train))
    started = perf_counter()
    mean, axes = principal_axes(train, width)
    rotation, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(width, width)))
    axes = np.asarray(axes @ rotation, dtype=np.float32)
    index: Any = faiss.IndexRaBitQ(width, faiss.METRIC_L2)
    index.qb = 0
    with one_thread():
        index.train(_project(train, mean, axes))
        seconds = perf_counter() - started
        index.add(_project(database, mean, axes))
        decoded = index.reconstruct_n(0, len(database))
        estimates, ids = index.search(np.zeros((1, width), dtype=np.float32), len(database))
    offset = np.empty(len(database), dtype=np.float32)
    offset[ids[0]] = -estimates[0]
    queries = _project(query, mean, axes)
    return Baseline(
        scores=lambda: _linear_scores(queries, decoded, offset),
        bytes_per_item=int(index.code_size),
        fit_seconds=seconds,
        note=f"{width} principal components, asymmetric",
    )


def principal_axes(features: Features, width: int) -> tuple[Features, Features]:
    """The mean ``(w,)`` and the ``width`` directions of largest variance, ``(w, width)``, orthonormal columns.

    >>> mean, axes = principal_axes(np.array([[0, 1], [4, 1], [8, 1]], dtype=np.float32), 1)
    >>> mean.tolist(), abs(axes).round(6).tolist()
    ([4.0, 1.0], [[1.0], [0.0]])
    """
    mean = features.mean(axis=0)
    centred = (features - mean).astype(np.float64)
    _, vectors = np.linalg.eigh(centred.T @ centred)  # eigenvalues ascend
    return mean, np.ascontiguousarray(vectors[:, ::-1][:, :width], dtype=np.float32)


def _unit_vectors(*parts: Features) -> tuple[Features, ...]:
    """Rows of length 1; a zero vector stays zero.

    Raises:
        DataError: a part is not a table, is empty, or has another width than the first.
    """
    if any(part.ndim != 2 or not part.size or part.shape[1] != parts[0].shape[1] for part in parts):
        raise DataError(
            "baselines need features of one width for training images, queries and database, and at least one of "
            f"each: got {', '.join(str(part.shape) for part in parts)}"
        )
    units = []
    for part in parts:
        length = np.linalg.norm(part, axis=1, keepdims=True)
        units.append(np.ascontiguousarray(part / np.where(length > 0, length, 1), dtype=np.float32))
    return tuple(units)


def _check_fixed(name: str, asked: int | None, true: int) -> None:
    if asked not in (None, true):
        raise ConfigError(f"{name} takes {true} bytes an item at this width, and cannot take {asked}")


def _check_size(name: str, asked: int | None, least: int, most: int | None) -> int:
    if asked is None or asked < least or (most is not None and asked > most):
        upper = f"to {most} at this width" if most is not None else "or more"
        raise ConfigError(f"{name} needs bytes_per_item, {least} {upper}: got {asked}")
    return asked


def _project(features: Features, mean: Features, axes: Features) -> Features:
    return np.asarray((features - mean) @ axes, dtype=np.float32)


def _dot(queries: Features, database: Features) -> Features:
    scores: Features = queries @ database.T
    return scores


def _minus_hamming(queries: NDArray[np.uint64], database: NDArray[np.uint64]) -> Features:
    from anglehash.evaluation import kernels  # numba: only when it is needed

    distances = np.empty((len(queries), len(database)), dtype=np.uint16)
    kernels.distances(queries, database.T, distances)
    return -distances.astype(np.float32)


def _linear_scores(queries: Features, decoded: Features, offset: Features) -> Iterator[Features]:
    """Blocks of 2 q.x + offset(x)."""
    return (block + offset for block in score_blocks(2 * queries, decoded, similarity=_dot))
