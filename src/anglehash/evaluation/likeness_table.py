"""All measures of likeness of one split by name: of its codes, and of the references that tell what a value is worth.

The references are the cosine of the backbone's features, one bit for each of their
dimensions, and two oracles that know the class of every image, one of which orders a class by the cosine.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anglehash.codes import Codes, check_codes, pack
from anglehash.errors import DataError
from anglehash.evaluation.code_statistics import distinct
from anglehash.evaluation.likeness import (
    Blocks,
    Labels,
    Rows,
    agreement,
    code_scores,
    copy_recall,
    distinct_lists,
    dot,
    equal_rows,
    precision,
    self_retrieval,
    share_a_label,
    top_of,
    unit,
)
from anglehash.evaluation.ranking import average_precision_of_codes
from anglehash.evaluation.scores import CELLS, average_precision_of_blocks, score_blocks
from anglehash.evaluation.ties import Floats

Measures = dict[str, float | int | None]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Truth:
    """What the rankings of one split are held against.

    Attributes:
        query_labels: ``(q, classes)`` bool, multi-hot.
        database_labels: ``(n, classes)`` bool, multi-hot.
        query_finer: ``(q, finer)`` bool, the finer label of the queries; ``None`` where there is none. A query
            without one drops out of the finer measures.
        database_finer: ``(n, finer)`` bool, of the database.
        originals: ``(c,)`` the database row of which each copy was made.
        neighbours: ``(q, m)`` rows of :func:`nearest_in_class`; ``None`` without features.
        rank_cut: ranks that count for the finer mAP; ``None`` is all.
    """

    query_labels: Labels
    database_labels: Labels
    query_finer: Labels | None = None
    database_finer: Labels | None = None
    originals: Rows
    neighbours: Rows | None = None
    rank_cut: int | None = None

    def __post_init__(self) -> None:
        q, n = len(self.query_labels), len(self.database_labels)
        if (self.query_finer is None) != (self.database_finer is None):
            raise DataError("a finer label is needed for the queries and for the database, or for neither")
        for name, rows, wanted in (
            ("query_finer", self.query_finer, q),
            ("database_finer", self.database_finer, n),
            ("neighbours", self.neighbours, q),
        ):
            if rows is not None and (rows.ndim != 2 or len(rows) != wanted):
                raise DataError(f"{name} needs {wanted} rows, got the shape {rows.shape}")
        if len(self.originals) and not 0 <= self.originals.min() <= self.originals.max() < n:
            raise DataError(f"originals are rows of a database of {n} images, got others")

    @property
    def finer_queries(self) -> Labels:
        """``(q,)``: the queries that have a finer label."""
        if self.query_finer is None:
            return np.zeros(len(self.query_labels), dtype=np.bool_)
        return np.asarray(self.query_finer.any(axis=1))


def likeness_of_codes(query: Codes, database: Codes, copies: Codes, truth: Truth, *, bits: int) -> Measures:
    """All measures of likeness of the codes of one split, by name: see ``docs/metrics.md``.

    Args:
        query: ``(q, w)`` packed codes of the queries.
        database: ``(n, w)`` of the database.
        copies: ``(c, w)`` of the copies of ``truth.originals``.
        truth: what they are held against.
        bits: length of a code.

    Returns:
        A number for each measure; ``None`` for the finer ones without a finer label, for copies where there
        are none, and for ``feature_agreement`` without features.

    Raises:
        CodeMismatchError: codes are not ``bits`` long.
        DataError: codes and labels do not fit together.
    """
    for codes in (query, database, copies):
        check_codes(codes, bits)
    if len(copies) != len(truth.originals):
        raise DataError(f"{len(copies)} codes of copies need as many originals, got {len(truth.originals)}")
    if len(query) != len(truth.query_labels) or len(database) != len(truth.database_labels):
        raise DataError(
            f"{len(query)} and {len(database)} codes need as many rows of labels, got "
            f"{len(truth.query_labels)} and {len(truth.database_labels)}"
        )
    finer: Floats | None = None
    known = truth.finer_queries
    if truth.query_finer is not None and truth.database_finer is not None and known.any():
        finer = average_precision_of_codes(
            query[known],
            database,
            truth.query_finer[known],
            truth.database_finer,
            bits=bits,
            k=truth.rank_cut,
        )
    return _summed_up(
        code_scores(query, database),
        code_scores(copies, database),
        truth,
        finer=finer,
        first_for_themselves=self_retrieval(distinct(database)[1]),
    )


def _summed_up(
    queries: Blocks,
    copies: Blocks,
    truth: Truth,
    *,
    finer: Floats | None,
    first_for_themselves: float,
) -> Measures:
    """The measures of one ranking by name, its finer AP per query and its self-retrieval given."""
    known = truth.finer_queries
    lists, right, agreeing, done = [], [], [], 0
    for block in queries:
        here = slice(done, done + len(block))
        done += len(block)
        top = top_of(block)
        lists.append(top.rows)
        if truth.query_finer is not None and truth.database_finer is not None:
            right.append(precision(block, top, truth.query_finer[here], truth.database_finer))
        if truth.neighbours is not None:
            agreeing.append(agreement(block, top, truth.neighbours[here]))
    at_1, at_10 = (
        copy_recall(copies, truth.originals).mean(axis=0).tolist() if len(truth.originals) else (None, None)
    )
    return {
        "finer_map": _mean(finer),
        "finer_precision_at_10": _mean(np.concatenate(right)[known]) if right else None,
        "finer_queries": int(known.sum()) if truth.query_finer is not None else None,
        "distinct_lists": distinct_lists(np.concatenate(lists)),
        "self_retrieval": first_for_themselves,
        "copy_recall_at_1": at_1,
        "copy_recall_at_10": at_10,
        "feature_agreement": _mean(np.concatenate(agreeing)) if agreeing else None,
    }


def references(
    query: NDArray[Any], database: NDArray[Any], copies: NDArray[Any], truth: Truth
) -> dict[str, Measures]:
    """The same measures, and ``map``, of four rankings that need no training.

    ``float_cosine`` ranks by the cosine of the features, ``feature_signs`` by the signs of the features less
    their mean over the database, a bit a dimension; ``right_class_random`` puts all items that share a label
    with the query first, as one tie, ``right_class_cosine`` by the cosine.

    Args:
        query: ``(q, width)`` features of the backbone; of width 0 only ``right_class_random`` is left.
        database: ``(n, width)``.
        copies: ``(c, width)`` of the copies of ``truth.originals``.
        truth: what they are held against.
    """
    found = {"right_class_random": _of_oracle(None, truth)}
    if not query.shape[1]:
        return found
    units = unit(query), unit(database), unit(copies)
    center = database.mean(axis=0, dtype=np.float64).astype(np.float32)
    return {
        "float_cosine": _of_cosine(*units, truth),
        "feature_signs": _of_signs(
            pack(query - center), pack(database - center), pack(copies - center), truth
        ),
        **found,
        "right_class_cosine": _of_oracle(units, truth),
    }


def _of_cosine(query: NDArray[Any], database: NDArray[Any], copies: NDArray[Any], truth: Truth) -> Measures:
    def blocks(part: NDArray[Any]) -> Blocks:
        return score_blocks(part, database, similarity=dot)

    labels = truth.query_labels, truth.database_labels
    first = self_retrieval(equal_rows(database))
    found = _summed_up(
        blocks(query),
        blocks(copies),
        truth,
        finer=_finer_of_blocks(blocks(query[truth.finer_queries]), truth),
        first_for_themselves=first,
    )
    return {
        "map": float(average_precision_of_blocks(blocks(query), *labels, (truth.rank_cut,)).mean()),
        **found,
    }


def _of_signs(query: Codes, database: Codes, copies: Codes, truth: Truth) -> Measures:
    bits = 8 * query.shape[1]  # those past the width are 0 in all
    labels = truth.query_labels, truth.database_labels
    found = average_precision_of_codes(query, database, *labels, bits=bits, k=truth.rank_cut)
    return {
        "map": float(found.mean()),
        **likeness_of_codes(query, database, copies, truth, bits=bits),
    }


def _of_oracle(units: tuple[NDArray[Any], NDArray[Any], NDArray[Any]] | None, truth: Truth) -> Measures:
    """The right class first: in the order of the cosine, or without features as one tie."""
    query, database, copies = units or (None, None, None)
    labels, known = truth.query_labels, truth.finer_queries

    def blocks(part: NDArray[Any] | None, own: Labels) -> Blocks:
        return _right_class_first(part, database, own, truth.database_labels)

    member = np.zeros(len(truth.database_labels), np.int64) if database is None else equal_rows(database)
    finer = blocks(None if query is None else query[known], labels[known])
    return {
        "map": float((labels @ truth.database_labels.any(axis=0)).mean()),
        **_summed_up(
            blocks(query, labels),
            blocks(copies, truth.database_labels[truth.originals]),
            truth,
            finer=_finer_of_blocks(finer, truth),
            first_for_themselves=self_retrieval(member, truth.database_labels),
        ),
    }


def _right_class_first(
    query: NDArray[Any] | None, database: NDArray[Any] | None, own: Labels, others: Labels
) -> Iterator[NDArray[np.float32]]:
    step = max(1, CELLS // max(len(others), 1))
    for start in range(0, len(own), step):
        here = slice(start, start + step)
        right = share_a_label(own[here], others)
        if query is None or database is None:
            yield right.astype(np.float32)
        else:
            near = dot(query[here], database)
            yield np.where(right, near, near - 4)  # a cosine is never below -1


def _finer_of_blocks(blocks: Blocks, truth: Truth) -> Floats | None:
    known = truth.finer_queries
    if truth.query_finer is None or truth.database_finer is None or not known.any():
        return None
    cuts = (truth.rank_cut,)
    return average_precision_of_blocks(blocks, truth.query_finer[known], truth.database_finer, cuts)[:, 0]


def _mean(values: Floats | None) -> float | None:
    return None if values is None or not len(values) else float(values.mean())
