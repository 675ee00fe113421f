"""faiss' flat binary index, with the order of ties made certain.

faiss finds the right *distances*, but its documentation promises nothing about *which* of several
equally distant items it keeps at the cut, nor about their order. Here that is settled as follows. Some
more neighbours than ``k`` are asked for and sorted by (distance, id). If an item farther away than the
``k``-th came along (or every item did), all items at that distance are known and the first ``k`` are
right. Otherwise the tie continues past what was asked for: it holds more than twice as many items as can
be wanted from it, and a scan from row 0 that stops at the last wanted one finds the smallest ids.
"""

from __future__ import annotations

from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from anglehash.codes import Codes, check_bits, check_codes, hamming, width
from anglehash.evaluation.faiss_threads import one_thread
from anglehash.index import (
    RadiusResult,
    Rows,
    SearchResult,
    check_k,
    check_radius,
    check_rows,
    cut,
)

_BLOCK = 1 << 16  # rows of one step of the scan


class Index:
    """``faiss.IndexBinaryFlat``: a scan of all codes in C++, on one thread."""

    def __init__(self, bits: int) -> None:
        self.bits = check_bits(bits)
        self._faiss = self._flat()
        self._ids = np.empty(0, dtype=np.int64)  # of what faiss holds, in order
        self._rows = 0

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def rows(self) -> int:
        """Number of codes ever added."""
        return self._rows

    @property
    def nbytes(self) -> int:
        """Memory in bytes."""
        return len(self) * width(self.bits) + self._ids.nbytes

    def add(self, codes: Codes) -> None:
        """Append codes."""
        codes = check_codes(codes, self.bits)
        self._faiss.add(codes)
        self._ids = np.concatenate([self._ids, np.arange(self._rows, self._rows + len(codes))])
        self._rows += len(codes)

    def remove(self, rows: Rows) -> None:
        """Take items out, by id. faiss would renumber the others, so what stays is added again."""
        stay = ~check_rows(rows, self._rows)[self._ids]
        self._faiss, self._ids = self._flat(self._codes()[stay]), self._ids[stay]

    def search(self, queries: Codes, k: int, *, within: Rows | None = None) -> SearchResult:
        """The ``k`` nearest items of every query, in (distance, id) order."""
        queries, k = check_codes(queries, self.bits), check_k(k)
        if within is not None:
            return self._part(within).search(queries, k)
        k = min(k, len(self))
        if k == 0:
            nothing = (len(queries), 0)
            return SearchResult(np.empty(nothing, dtype=np.int32), np.empty(nothing, dtype=np.int64))
        asked = min(2 * k + 64, len(self))
        with one_thread():
            distances, ids = self._faiss.search(queries, asked)
        order = np.lexsort((ids, distances), axis=1)
        distances = np.take_along_axis(distances, order, axis=1)
        ids = np.take_along_axis(ids, order, axis=1)
        result = SearchResult(distances[:, :k].copy(), self._ids[ids[:, :k]])
        if asked < len(self):
            for row in np.flatnonzero(distances[:, -1] == distances[:, k - 1]):
                last = distances[row, k - 1]
                nearer = np.searchsorted(distances[row], last)  # those ids are certain
                result.ids[row, nearer:] = self._first_at(last, queries[row], k - nearer)
        return result

    def search_radius(
        self, queries: Codes, radius: int, *, k: int | None = None, within: Rows | None = None
    ) -> RadiusResult:
        """All items within ``radius`` of every query, in (distance, id) order."""
        queries, radius = check_codes(queries, self.bits), check_radius(radius, self.bits)
        if within is not None:
            return self._part(within).search_radius(queries, radius, k=k)
        with one_thread():
            lims, distances, ids = self._faiss.range_search(queries, radius + 1)  # faiss' bound is strict
        lims, distances = lims.astype(np.int64), distances.astype(np.int32)
        query = np.repeat(np.arange(len(queries)), np.diff(lims))
        order = np.lexsort((ids, distances, query))
        return cut(RadiusResult(lims, distances[order], self._ids[ids[order]]), k)

    def _first_at(self, distance: int, query: Codes, count: int) -> NDArray[np.int64]:
        """The ``count`` smallest ids of items at exactly ``distance`` from the query; that many exist."""
        codes, found = self._codes(), np.empty(0, dtype=np.int64)
        for start in range(0, len(self), _BLOCK):
            distances = hamming(query[None], codes[start : start + _BLOCK])[0]
            found = np.concatenate([found, start + np.flatnonzero(distances == distance)])
            if len(found) >= count:
                break
        return self._ids[found[:count]]

    def _codes(self) -> Codes:
        """What faiss holds: a view."""
        if not len(self):
            return np.empty((0, width(self.bits)), dtype=np.uint8)  # faiss has no array to look at
        storage = self._faiss.xb
        codes: Codes = faiss.rev_swig_ptr(storage.data(), storage.size()).reshape(len(self), width(self.bits))
        return codes

    def _flat(self, codes: Codes | None = None) -> Any:
        # A multiple of 8, as faiss wants it: padding bits are 0 on both sides and add nothing.
        flat = faiss.IndexBinaryFlat(8 * width(self.bits))
        if codes is not None:
            flat.add(np.ascontiguousarray(codes))
        return flat

    def _part(self, within: Rows) -> Index:
        """An index of some items, under their own ids: faiss' binary index knows no filter."""
        chosen = check_rows(within, self._rows)[self._ids]
        part = Index(self.bits)
        part._faiss, part._ids, part._rows = self._flat(self._codes()[chosen]), self._ids[chosen], self._rows
        return part
