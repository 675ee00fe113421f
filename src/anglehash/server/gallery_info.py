"""Facts about a whole gallery: counts of labels, problems, unique codes, and what each bit leans to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anglehash.codes import Codes
from anglehash.evaluation.code_statistics import unique_codes
from anglehash.gallery.folder import FolderGallery
from anglehash.gallery.store.items import Seen
from anglehash.gallery.store.summary import Summary, codes_by_labels, summarise
from anglehash.server.gallery_api import Searchable

MOST_LABELS, MOST_LEANING, MOST_PROBLEMS = 1000, 200, 100
_CHUNK = 65_536  # codes unpacked at a time: 4 MB at 64 bits


def summary_of(gallery: Searchable) -> Summary:
    """The counts of a gallery, by SQL where it is a local one.

    Raises:
        ModelError: it is damaged.
    """
    if isinstance(gallery, FolderGallery):
        return summarise(gallery.path, problems=MOST_PROBLEMS)
    labels, columns = Counter[str](), set[str]()
    for stored in gallery:
        labels.update(stored.item.labels)
        columns.update(stored.item.metadata)
    problems = [Seen(*problem) for problem in gallery.problems]
    reasons = Counter(seen.reason for seen in problems)
    return Summary(labels, sorted(columns), reasons, problems[:MOST_PROBLEMS])


def health(gallery: Searchable, summary: Summary) -> dict[str, Any]:
    """Counts, unique codes, and the share of ones of each bit, as JSON values."""
    codes = gallery.codes
    reasons = [{"reason": reason, "count": count} for reason, count in summary.reasons.most_common()]
    return {
        "items": len(codes),
        "unique_codes": unique_codes(codes),
        "bits": _shares(ones(codes, gallery.bits), len(codes)),
        "problems": {
            "count": summary.reasons.total(),
            "reasons": reasons,
            "files": [{"path": seen.id, "reason": seen.reason} for seen in summary.problems],
        },
    }


def lean(gallery: Searchable, summary: Summary) -> dict[str, Any]:
    """The share of ones of each bit among the items of each of the most frequent labels, as JSON values.

    Raises:
        ModelError: the gallery is damaged.
    """
    labels = [label for label, _ in summary.labels.most_common(MOST_LEANING)]
    place = {label: row for row, label in enumerate(labels)}
    sums = np.zeros((len(labels), gallery.bits), np.int64)
    counts = np.zeros(len(labels), np.int64)
    for own, codes in _grouped(gallery):
        rows = [place[label] for label in own if label in place]
        if rows:
            packed = np.frombuffer(b"".join(codes), np.uint8).reshape(len(codes), -1)
            sums[rows] += ones(packed, gallery.bits)
            counts[rows] += len(codes)
    return {
        "labels": labels,
        "lean": [_shares(row, int(count)) for row, count in zip(sums, counts, strict=True)],
    }


def ones(codes: Codes, bits: int) -> NDArray[np.int64]:
    """How many codes have a 1 at each bit.

    >>> ones(np.array([[0b10100000], [0b10000000]], np.uint8), 3).tolist()
    [2, 0, 1]
    """
    total = np.zeros(bits, np.int64)
    for start in range(0, len(codes), _CHUNK):
        total += np.unpackbits(codes[start : start + _CHUNK], axis=1, count=bits).sum(axis=0, dtype=np.int64)
    return total


def _shares(counts: NDArray[np.int64], total: int) -> list[float]:
    return [round(count / max(total, 1), 4) for count in counts.tolist()]


def _grouped(gallery: Searchable) -> Iterator[tuple[tuple[str, ...], list[bytes]]]:
    if isinstance(gallery, FolderGallery):
        return codes_by_labels(gallery.path)
    return _by_iteration(iter(gallery))


def _by_iteration(items: Iterable[Any]) -> Iterator[tuple[tuple[str, ...], list[bytes]]]:
    for stored in items:
        yield stored.item.labels, [stored.item.code]
