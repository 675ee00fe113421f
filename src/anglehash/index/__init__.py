"""Engines: who finds the nearest codes. One file is one engine, and dropping a file in is enough.

Every engine file holds a class ``Index`` that keeps the contract of :class:`CodeIndex`; the tests run
over all of them. ``exact`` is the definition in numpy that the others are held against.

An index lives in memory and is built from codes. It is never a file: what is on disk are plain codes
(see :mod:`anglehash.gallery.gallery`), so no engine's own format is ever read.

An item's id is its row: 0 for the first code ever added, and so on. A removed row's id is not given again.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from anglehash.codes import Codes
from anglehash.errors import ConfigError, DataError
from anglehash.registry import Folder

ENGINES = Folder("engine", "anglehash.index")
DEFAULT = "multi-index"
"""It answers at once, with nothing built or compiled, and builds when enough is asked for that to pay."""

Rows = NDArray[np.bool_] | NDArray[np.integer[Any]]
"""Some rows of an index: a mask over all rows ever added, or their numbers in any order."""


class SearchResult(NamedTuple):
    """The nearest items of every query, nearest first.

    Both arrays are ``(q, k)`` with ``k`` the number asked for, or that of the items that may come if it is
    smaller, so there is never a ``-1`` to filter. Equally distant items come in order of id, whatever the
    engine.

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
    """A growing set of ``bits``-wide codes that can be searched by Hamming distance, exactly.

    One thread changes an index at a time; searches of others meanwhile see it before or after the change.
    """

    def __init__(self, bits: int) -> None:
        """Start empty.

        Raises:
            ConfigError: ``bits`` is not a whole number in 4..1024.
        """
        ...

    def __len__(self) -> int:
        """Number of codes that can be found: added and not removed."""
        ...

    @property
    def rows(self) -> int:
        """Number of codes ever added: the id of the next one."""
        ...

    @property
    def nbytes(self) -> int:
        """Memory that the codes and the structure over them take, in bytes."""
        ...

    def add(self, codes: Codes) -> None:
        """Append ``(n, ceil(bits / 8))`` packed codes; their ids go on from ``index.rows``.

        Raises:
            CodeMismatchError: the codes are not ``bits`` long.
        """
        ...

    def remove(self, rows: Rows) -> None:
        """Take items out, by id. The others keep their ids; an item that is already out stays out.

        Raises:
            DataError: the index never had such a row; nothing is removed then.
        """
        ...

    def search(self, queries: Codes, k: int, *, within: Rows | None = None) -> SearchResult:
        """The ``k`` nearest items of every query.

        Args:
            queries: ``(q, ceil(bits / 8))`` packed codes.
            k: how many.
            within: these items only; so a filter comes before the ``k`` nearest are taken.

        Raises:
            ConfigError: ``k`` is not a positive whole number.
            CodeMismatchError: the queries are not ``bits`` long.
            DataError: ``within`` names a row that the index never had.
        """
        ...

    def search_radius(
        self, queries: Codes, radius: int, *, k: int | None = None, within: Rows | None = None
    ) -> RadiusResult:
        """All items at most ``radius`` bits away from each query (so 0 finds equal codes).

        Args:
            queries: ``(q, ceil(bits / 8))`` packed codes.
            radius: in bits.
            k: the nearest ``k`` of them only.
            within: these items only.

        Raises:
            ConfigError: ``radius`` is not a whole number in 0..bits, or ``k`` not a positive one.
            CodeMismatchError: the queries are not ``bits`` long.
            DataError: ``within`` names a row that the index never had.
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


def check_rows(rows: Rows, count: int) -> NDArray[np.bool_]:
    """Some of ``count`` rows as a mask, ``(count,)``.

    Raises:
        DataError: neither a mask of that length nor row numbers in ``0..count - 1``.

    >>> check_rows(np.array([2, 0, 2]), 4).tolist()
    [True, False, True, False]
    """
    given: NDArray[Any] = np.asarray(rows)
    if given.dtype == np.bool_ and given.shape == (count,):
        return given
    if given.ndim != 1 or (given.size and not np.issubdtype(given.dtype, np.integer)):
        raise DataError(f"rows are a mask of {count} or row numbers, got {given.dtype} {given.shape}")
    if given.size and not 0 <= given.min() <= given.max() < count:
        raise DataError(f"{count} rows were ever added, got row numbers in {given.min()}..{given.max()}")
    mask = np.zeros(count, dtype=np.bool_)
    mask[given.astype(np.int64)] = True
    return mask


def cut(found: RadiusResult, k: int | None) -> RadiusResult:
    """The first ``k`` answers of each query; all of them without a ``k``.

    >>> found = RadiusResult(np.array([0, 3, 4]), np.array([0, 1, 1], np.int32), np.array([7, 2, 5, 4]))
    >>> lims, _, ids = cut(found._replace(distances=np.zeros(4, np.int32)), k=2)
    >>> lims.tolist(), ids.tolist()
    ([0, 2, 3], [7, 2, 4])
    """
    if k is None:
        return found
    sizes = np.diff(found.lims)
    rank = np.arange(len(found.ids)) - np.repeat(found.lims[:-1], sizes)
    kept = rank < check_k(k)
    lims = np.concatenate([found.lims[:1], np.cumsum(np.minimum(sizes, k))])
    return RadiusResult(lims, found.distances[kept], found.ids[kept])
