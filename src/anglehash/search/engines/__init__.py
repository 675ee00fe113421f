"""Engines: who finds the nearest codes. One file is one engine, and dropping a file in is enough.

Every engine file holds a class ``Index`` that keeps the contract of :class:`CodeIndex`; the tests run
over all of them. ``exact`` is the definition in numpy that the others are held against.

An index lives in memory and is built from codes. It is never a file: what is on disk are plain codes
(see :mod:`anglehash.search.gallery`), so no engine's own format is ever read.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from anglehash.codes import Codes
from anglehash.errors import ConfigError
from anglehash.registry import Folder

ENGINES = Folder("engine", "anglehash.search.engines")


class SearchResult(NamedTuple):
    """The nearest items of every query, nearest first.

    Both arrays are ``(q, k)`` with ``k = min(k asked for, len(index))``, so there is never a ``-1`` to
    filter. Equally distant items come in order of id, whatever the engine.

    Attributes:
        distances: ``(q, k)`` Hamming distances, in bits.
        ids: ``(q, k)`` row numbers, in the order of ``add``.
    """

    distances: NDArray[np.int32]
    ids: NDArray[np.int64]


class RadiusResult(NamedTuple):
    """Every item within a radius of every query, nearest first, equally distant ones in order of id.

    The answers lie one query after the other: those of query ``i`` are ``[lims[i]:lims[i + 1]]``.

    Attributes:
        lims: ``(q + 1,)`` where each query's answers begin and end.
        distances: ``(lims[-1],)`` Hamming distances, in bits.
        ids: ``(lims[-1],)`` row numbers, in the order of ``add``.
    """

    lims: NDArray[np.int64]
    distances: NDArray[np.int32]
    ids: NDArray[np.int64]


class CodeIndex(Protocol):
    """A growing set of ``bits``-wide codes that can be searched by Hamming distance, exactly."""

    def __init__(self, bits: int) -> None:
        """Start empty.

        Raises:
            ConfigError: ``bits`` is not a whole number in 4..1024.
        """
        ...

    def __len__(self) -> int:
        """Number of codes."""
        ...

    def add(self, codes: Codes) -> None:
        """Append ``(n, ceil(bits / 8))`` packed codes; their ids go on from ``len(index)``.

        Raises:
            CodeMismatchError: the codes are not ``bits`` long.
        """
        ...

    def search(self, queries: Codes, k: int) -> SearchResult:
        """The ``k`` nearest items of every query.

        Raises:
            ConfigError: ``k`` is not a positive whole number.
            CodeMismatchError: the queries are not ``bits`` long.
        """
        ...

    def search_radius(self, queries: Codes, radius: int) -> RadiusResult:
        """All items at most ``radius`` bits away from each query (so 0 finds equal codes).

        Raises:
            ConfigError: ``radius`` is not a whole number in 0..bits.
            CodeMismatchError: the queries are not ``bits`` long.
        """
        ...


def make_index(engine: str, codes: Codes, bits: int) -> CodeIndex:
    """An index of ``codes`` in the engine of that name.

    >>> index = make_index("exact", np.array([[0b0000], [0b0111], [0b1111]], dtype=np.uint8) << 4, bits=4)
    >>> distances, ids = index.search(np.array([[0b1111]], dtype=np.uint8) << 4, k=2)
    >>> distances.tolist(), ids.tolist()
    ([[0, 1]], [[2, 1]])
    """
    index: CodeIndex = ENGINES[engine].Index(bits)
    index.add(codes)
    return index


def check_k(k: int) -> int:
    """Return ``k`` if it is a number of neighbours.

    Raises:
        ConfigError: not a whole number of at least 1.
    """
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
        raise ConfigError(f"k is a number of neighbours, at least 1, got {k!r}")
    return int(k)


def check_radius(radius: int, bits: int) -> int:
    """Return ``radius`` if it is a distance that ``bits``-bit codes can have.

    Raises:
        ConfigError: not a whole number in 0..bits.
    """
    if isinstance(radius, bool) or not isinstance(radius, int | np.integer) or not 0 <= radius <= bits:
        raise ConfigError(f"a radius is a whole number of bits in 0..{bits}, got {radius!r}")
    return int(radius)
