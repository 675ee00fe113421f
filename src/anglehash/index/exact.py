"""The definition of search, in numpy: every distance, sorted. The oracle that other engines are held to."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from anglehash.codes import Codes, check_bits, check_codes, hamming, width
from anglehash.index import (
    RadiusResult,
    Rows,
    SearchResult,
    check_k,
    check_radius,
    check_rows,
    cut,
)


class Index:
    """All distances of one query at a time: memory for one row of distances, whatever the batch."""

    def __init__(self, bits: int) -> None:
        self.bits = check_bits(bits)
        self._codes: Codes = np.empty((0, width(bits)), dtype=np.uint8)
        self._there = np.empty(0, dtype=np.bool_)

    def __len__(self) -> int:
        return int(self._there.sum())

    @property
    def rows(self) -> int:
        """Number of codes ever added."""
        return len(self._codes)

    @property
    def nbytes(self) -> int:
        """Memory in bytes: removed codes stay."""
        return self._codes.nbytes + self._there.nbytes

    def add(self, codes: Codes) -> None:
        """Append codes."""
        self._codes = np.concatenate([self._codes, check_codes(codes, self.bits)])
        self._there = np.concatenate([self._there, np.ones(len(codes), dtype=np.bool_)])

    def remove(self, rows: Rows) -> None:
        """Take items out, by id."""
        self._there = self._there & ~check_rows(rows, self.rows)

    def search(self, queries: Codes, k: int, *, within: Rows | None = None) -> SearchResult:
        """The ``k`` nearest items of every query, in (distance, id) order."""
        queries, ids = check_codes(queries, self.bits), self._candidates(within)
        k = min(check_k(k), len(ids))
        result = SearchResult(
            distances=np.empty((len(queries), k), dtype=np.int32),
            ids=np.empty((len(queries), k), dtype=np.int64),
        )
        codes = self._codes[ids]
        for row, query in enumerate(queries):
            distances = hamming(query[None], codes)[0].astype(np.int16)  # sorts in linear time
            nearest = np.argsort(distances, kind="stable")[:k]  # stable: ties stay in order of id
            result.distances[row], result.ids[row] = distances[nearest], ids[nearest]
        return result

    def search_radius(
        self, queries: Codes, radius: int, *, k: int | None = None, within: Rows | None = None
    ) -> RadiusResult:
        """All items within ``radius`` of every query, in (distance, id) order."""
        queries, radius = check_codes(queries, self.bits), check_radius(radius, self.bits)
        ids = self._candidates(within)
        codes = self._codes[ids]
        lims = np.zeros(len(queries) + 1, dtype=np.int64)
        found_distances, found_ids = [np.empty(0, dtype=np.int32)], [np.empty(0, dtype=np.int64)]
        for row, query in enumerate(queries):
            distances = hamming(query[None], codes)[0]
            inside = np.flatnonzero(distances <= radius)
            nearest = inside[np.argsort(distances[inside], kind="stable")]
            found_distances.append(distances[nearest])
            found_ids.append(ids[nearest])
            lims[row + 1] = lims[row] + len(nearest)
        return cut(RadiusResult(lims, np.concatenate(found_distances), np.concatenate(found_ids)), k)

    def _candidates(self, within: Rows | None) -> NDArray[np.int64]:
        """The ids that may come, in order."""
        there = self._there if within is None else self._there & check_rows(within, self.rows)
        return np.flatnonzero(there)
