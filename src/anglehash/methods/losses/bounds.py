r"""How far apart codes can be: bounds of coding theory on A(K, d), the most codes of K bits that are d apart."""

from __future__ import annotations

from math import comb

from anglehash.errors import ConfigError


def most_codes(bits: int, distance: int) -> int:
    r"""An upper bound on A(K, d), exact where 2d >= K.

    For even d (an odd one equals the next even one with a bit more, as a parity bit shows):

    - 2d > K: Plotkin's bound 2 floor(d / (2d - K)), and 4d where 2d = K. Levenshtein's codes, built of rows of
      Hadamard matrices, reach both where those matrices exist: all orders below 668.
    - 2d < K: the smaller of :math:`2^{K - 2d}\,4d`, since fixing one bit keeps half of the codes, and
      Hamming's :math:`2^{K-1} / \sum_{i \le t} \binom{K-1}{i}`, t = d/2 - 1: balls of radius t are disjoint.

    Args:
        bits: K, at least 1.
        distance: d, 1..K.

    Source:
        MacWilliams and Sloane, "The Theory of Error-Correcting Codes", 1977, chapters 1.5 and 2.3.

    The Hadamard code of 16 words, 8 bits and distance 4; the Golay code of 4,096 words:

    >>> most_codes(8, 4), most_codes(24, 8)
    (16, 4096)
    """
    if not 1 <= distance <= bits:
        raise ConfigError(f"a distance of {bits}-bit codes is in 1..{bits}, got {distance}")
    n, d = (bits + 1, distance + 1) if distance % 2 else (bits, distance)
    if 2 * d > n:
        return 2 * (d // (2 * d - n))
    plotkin: int = 2 ** (n - 2 * d) * 4 * d
    if 2 * d == n:
        return plotkin
    ball: int = sum(comb(n - 1, i) for i in range(d // 2))
    spheres: int = 2 ** (n - 1) // ball
    return min(plotkin, spheres)


def largest_distance(classes: int, bits: int) -> int:
    """The largest d for which :func:`most_codes` leaves room for a code a class.

    So C codes of K bits are never farther apart than that. Where 2d >= K some are so far, so for all C <= 2K
    if K is a multiple of 4; beyond, it may be a few bits too many.

    Args:
        classes: C, at least 2.
        bits: K.

    Returns:
        d in 0..K; 0 where there are more classes than codes.

    Two classes may be opposite; a third halves what is left:

    >>> [largest_distance(classes, 12) for classes in (2, 3, 4, 5, 24, 25)]
    [12, 8, 8, 6, 6, 5]
    """
    return next((d for d in range(bits, 0, -1) if most_codes(bits, d) >= classes), 0)
