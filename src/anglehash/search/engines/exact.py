"""The definition of search, in numpy: every distance, sorted. The oracle that other engines are held to."""

from __future__ import annotations

import numpy as np

from anglehash.codes import Codes, check_bits, check_codes, hamming, width
from anglehash.search.engines import RadiusResult, SearchResult, check_k, check_radius


class Index:
    """All distances of one query at a time: memory for one row of distances, whatever the batch."""

    def __init__(self, bits: int) -> None:
        self.bits = check_bits(bits)
        self._codes: Codes = np.empty((0, width(bits)), dtype=np.uint8)

    def __len__(self) -> int:
        return len(self._codes)

    def add(self, codes: Codes) -> None:
        """Append codes."""
        self._codes = np.concatenate([self._codes, check_codes(codes, self.bits)])

    def search(self, queries: Codes, k: int) -> SearchResult:
        """The ``k`` nearest items of every query, in (distance, id) order."""
        queries, k = check_codes(queries, self.bits), min(check_k(k), len(self))
        result = SearchResult(
            distances=np.empty((len(queries), k), dtype=np.int32),
            ids=np.empty((len(queries), k), dtype=np.int64),
        )
        for row, query in enumerate(queries):
            distances = hamming(query[None], self._codes)[0].astype(np.int16)  # sorts in linear time
            nearest = np.argsort(distances, kind="stable")[:k]  # stable: ties stay in order of id
            result.distances[row], result.ids[row] = distances[nearest], nearest
        return result

    def search_radius(self, queries: Codes, radius: int) -> RadiusResult:
        """All items within ``radius`` of every query, in (distance, id) order."""
        queries, radius = check_codes(queries, self.bits), check_radius(radius, self.bits)
        lims = np.zeros(len(queries) + 1, dtype=np.int64)
        found_distances, found_ids = [np.empty(0, dtype=np.int32)], [np.empty(0, dtype=np.int64)]
        for row, query in enumerate(queries):
            distances = hamming(query[None], self._codes)[0]
            inside = np.flatnonzero(distances <= radius)
            nearest = inside[np.argsort(distances[inside], kind="stable")]
            found_distances.append(distances[nearest])
            found_ids.append(nearest)
            lims[row + 1] = lims[row] + len(nearest)
        return RadiusResult(lims, np.concatenate(found_distances), np.concatenate(found_ids))
