r"""Hash centres: one fixed code a class, far from the codes of the other classes.

Rows of a Hadamard matrix of order K, and their opposites, are 2K codes of K bits that are K/2 apart or more:
no 2K codes do better (Plotkin). Orthogonal rows serve best, more so with several labels an image: where
none of order K is known, a larger one is cut. For more classes, codes are sampled and the best kept.
"""

from __future__ import annotations

import math
from itertools import count

import numpy as np
from numpy.typing import NDArray

from anglehash.codes import check_bits
from anglehash.methods.checks import check_classes, check_whole, choose

Signs = NDArray[np.int8]  # entries -1 and 1

SIGNS = np.array([-1, 1], dtype=np.int8)
CENTERS = ("auto", "sampled")
DRAWS = 200  # of rows of a Hadamard matrix
CANDIDATES = 1024  # random codes to choose from


def hash_centers(classes: int, bits: int, seed: int = 0, *, kind: str = "auto") -> Signs:
    r"""One code a class, of -1 and 1, far apart.

    ``auto``, where C <= 2K: C rows of a Hadamard matrix (:func:`hadamard`) at random, each with a random sign,
    and beyond its order their opposites as well. If the order is K, all are K/2 apart, opposites K. If none
    of order K is known here, the next larger one is taken and as many columns are dropped at random: the rows
    are still all but orthogonal. Few rows can make bits equal (the first 10 rows of Sylvester's matrix of
    order 64 hold 16 different bits), so up to 200 draws are made (20 where columns are dropped) until all
    bits differ, also from each other's opposite, and none is the same for all classes; where that cannot
    be, the best draw is taken.

    ``auto`` where C > 2K, and ``sampled``: greedily out of random codes, the best of 20 searches.

    - C <= 2K: out of 1,024 codes (2C if more) with half their bits 1 (all codes where those are few), again
      and again the one whose nearest chosen centre is farthest.
    - C > 2K: a random linear code of ceil(log2 C) dimensions, doubled again and again by a word that is K/2
      bits or more from all words so far, or as far as the best of 1,024 random words is; C of its words,
      all of them shifted by one random word.

    The best draw or search is that with the greatest minimum distance, then the most different bits; above
    128 bits, 20 becomes less, down to 3. Minimum distances, seed 0 (in brackets: Hadamard rows):

    =======  =====  =====  =====  =====  =====  =====
    classes  12     16     24     32     48     64
    =======  =====  =====  =====  =====  =====  =====
    80       4      5      9      12     (24)   (32)
    200      3      5      8      12     19     26
    1000     2      3      7      10     16     23
    =======  =====  =====  =====  =====  =====  =====

    Args:
        classes: number of classes C, at least 2.
        bits: length K of a code, 4..1024.
        seed: of all random choices: the same seed gives the same centres.
        kind: ``auto`` or ``sampled``.

    Returns:
        ``(classes, bits)`` int8 of -1 and 1. No two are equal, unless there are more classes than codes of
        K bits: then every code is used equally often.

    Raises:
        ConfigError: a setting is out of range.

    >>> centers = hash_centers(classes=10, bits=64)
    >>> centers.shape, minimum_distance(centers), different_bits(centers)
    ((10, 64), 32, 64)
    """
    classes, bits = check_classes(classes), check_bits(bits)
    choose("kind of centers", kind, CENTERS)
    rng = np.random.default_rng(check_whole("seed", seed, 0))
    if classes > 2 * bits:
        return _linear(classes, bits, rng)
    return _drawn(classes, bits, rng) if kind == "auto" else _sampled(classes, bits, rng)


def minimum_distance(centers: Signs) -> int:
    """The Hamming distance of the two nearest centres, in bits.

    >>> minimum_distance(np.array([[1, 1, 1, 1], [1, -1, 1, -1], [1, -1, -1, -1]], dtype=np.int8))
    1
    """
    rows = centers.astype(np.float32)
    product = rows @ rows.T
    np.fill_diagonal(product, -np.inf)
    return int(centers.shape[1] - product.max()) // 2


def different_bits(centers: Signs, *, up_to_sign: bool = False) -> int:
    """How many bits are not a copy of another one, nor, ``up_to_sign``, its opposite.

    >>> two = np.array([[1, 1, 1, 1], [1, -1, 1, -1]], dtype=np.int8)
    >>> three = np.array([[1, 1, -1], [1, -1, 1]], dtype=np.int8)
    >>> different_bits(two), different_bits(three), different_bits(three, up_to_sign=True)
    (2, 3, 2)
    """
    columns = centers.T * (centers[0][:, None] if up_to_sign else 1)
    return len({column.tobytes() for column in np.packbits(columns > 0, axis=1)})


def hadamard(order: int) -> Signs | None:
    r"""A matrix H of -1 and 1 with :math:`H H^T = n I`, or ``None`` where this module knows none.

    Powers of 2 by Sylvester's doubling. Other n by Paley's first construction where n - 1 is a prime (then 3
    more than a multiple of 4): 12, 20, 24, 44, 48, 60 ...; or by doubling a smaller one: 40, 88, 96 ...

    Source:
        Paley, "On orthogonal matrices", Journal of Mathematics and Physics 12:311-320, 1933. Differs from
        it: prime fields only, so that 28, 36, 52 and others, which exist, are not built.

    >>> hadamard(4).tolist()
    [[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]]
    >>> [n for n in range(4, 65, 4) if hadamard(n) is None]
    [28, 36, 52, 56]
    """
    if order == 1:
        return np.ones((1, 1), dtype=np.int8)
    if order % 4 == 0 and order & (order - 1) and _is_prime(order - 1):
        return _paley(order - 1)
    half = hadamard(order // 2) if order % 2 == 0 else None
    return None if half is None else np.kron(np.array([[1, 1], [1, -1]], dtype=np.int8), half)


def _paley(prime: int) -> Signs:
    """Paley's first construction, of order ``prime + 1``; the prime is 3 more than a multiple of 4."""
    squares = np.arange(1, prime) ** 2 % prime
    character = np.full(prime, -1)
    character[squares] = 1
    character[0] = 0
    i = np.arange(prime)
    skew = np.zeros((prime + 1, prime + 1), dtype=np.int8)
    skew[0, 1:], skew[1:, 0] = 1, -1
    skew[1:, 1:] = character[(i[None, :] - i[:, None]) % prime]
    return skew + np.eye(prime + 1, dtype=np.int8)


def _is_prime(n: int) -> bool:
    return n > 1 and all(n % divisor for divisor in range(2, math.isqrt(n) + 1))


def _drawn(classes: int, bits: int, rng: np.random.Generator) -> Signs:
    """Rows of a Hadamard matrix and their opposites: the draw that is farthest, with the most different bits."""
    matrix = next(found for order in count(bits) if (found := hadamard(order)) is not None)
    order = len(matrix)
    perfect = (order // 2, min(bits, 2 ** (classes - 1)), min(bits, 2**classes), 0)
    best, best_score = matrix[:0], (0, 0, 0, -bits)
    for _ in range(DRAWS if order == bits else _searches(bits)):
        rows = matrix[rng.permutation(order)[:classes]][:, rng.permutation(order)[:bits]]
        rows = rows * rng.choice(SIGNS, (len(rows), 1))
        centers = rng.permutation(np.concatenate([rows, -rows])[:classes])
        constant = int((centers == centers[0]).all(axis=0).sum())
        different = different_bits(centers, up_to_sign=True), different_bits(centers)
        score = (minimum_distance(centers), *different, -constant)
        if score > best_score:
            best, best_score = centers, score
        if score == perfect:
            break
    return best


def _sampled(classes: int, bits: int, rng: np.random.Generator) -> Signs:
    """Centres chosen greedily out of candidates: the best of some beginnings."""
    candidates = _candidates(classes, bits, rng)
    rows = candidates.astype(np.float32)
    product = rows @ rows.T
    best, best_score = candidates[:classes], (-1, 0)
    for start in rng.choice(len(candidates), min(_searches(bits), len(candidates)), replace=False):
        chosen, nearest = _farthest(product, classes, int(start))
        score = ((bits - nearest) // 2, different_bits(candidates[chosen], up_to_sign=True))
        if score > best_score:
            best, best_score = candidates[chosen], score
    return best


def _candidates(classes: int, bits: int, rng: np.random.Generator) -> Signs:
    """All codes where they are few, otherwise random ones with half their bits 1; in random order."""
    size = max(CANDIDATES, 2 * classes)
    if 2**bits <= size:
        codes = np.arange(2**bits)[:, None] >> np.arange(bits) & 1
        return rng.permutation((2 * codes - 1).astype(np.int8))
    half = np.where(np.arange(bits) < bits // 2, 1, -1).astype(np.int8)
    rows = rng.permuted(np.tile(half, (size, 1)), axis=1)
    rows = rows * rng.choice(SIGNS, (size, 1))  # of odd K, either half is the longer one
    return rng.permutation(np.unique(rows, axis=0))


def _searches(bits: int) -> int:
    """How many searches are made: 20 up to 128 bits, fewer above, where chance matters less; all stay quick."""
    return max(3, min(20, 2560 // bits))


def _farthest(product: NDArray[np.float32], classes: int, start: int) -> tuple[list[int], int]:
    """Begin with ``start``; add the one whose nearest chosen one is farthest, until there are ``classes``.

    Returns:
        Their numbers, and the greatest inner product among two of them.
    """
    chosen, closest = [start], -math.inf
    nearest = product[start].copy()
    while len(chosen) < classes:
        best = int(nearest.argmin())
        closest = max(closest, float(nearest[best]))
        chosen.append(best)
        np.maximum(nearest, product[best], out=nearest)
    return chosen, int(closest)


def _linear(classes: int, bits: int, rng: np.random.Generator) -> Signs:
    """Words of a random linear code, shifted: the best of some codes.

    A word's products with the others are those of the code's words with 1, so only the distance to the
    words so far need be watched as the code is doubled.
    """
    dimension = (classes - 1).bit_length()
    if dimension > bits:  # more classes than codes: each equally often
        codes = np.arange(2**bits)[:, None] >> np.arange(bits) & 1
        return np.resize(rng.permutation((2 * codes - 1).astype(np.int8)), (classes, bits))
    best, best_score = np.ones((1, bits), dtype=np.int8), (-1, 0)
    for _ in range(_searches(bits)):
        words, distance = _doubled(dimension, bits, rng)
        score = (distance, different_bits(words, up_to_sign=True))
        if score > best_score:
            best, best_score = words, score
    shifted: Signs = rng.permutation(best)[:classes] * rng.choice(SIGNS, (1, bits))
    return shifted


def _doubled(dimension: int, bits: int, rng: np.random.Generator) -> tuple[Signs, int]:
    """A linear code that was doubled again and again by the first good word among random ones.

    A word is good if it is ``target`` bits or more from all words so far. The target is K/2, and where no
    candidate reaches it, what the best one does reach.

    Returns:
        The ``(2**dimension, bits)`` words, and their minimum distance.
    """
    words, target = np.ones((1, bits), dtype=np.float32), bits // 2
    for _ in range(dimension):
        candidates = rng.choice(SIGNS, (CANDIDATES, bits)).astype(np.float32)
        distance = (bits - (candidates @ words.T).max(axis=1)).astype(np.int64) // 2
        good = int(np.minimum(distance, target).argmax())
        target = min(target, int(distance[good]))
        words = np.concatenate([words, words * candidates[good]])
    return words.astype(np.int8), target
