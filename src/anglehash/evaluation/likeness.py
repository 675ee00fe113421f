"""What a ranking is worth inside a class: measures of likeness, which a class mAP does not see.

A class mAP pays nothing for the order of right answers, so a table of classes can win it. These measures take
the ranking alone, given as *scores*, ``(rows, n)`` blocks of consecutive queries, higher is nearer: the negative
Hamming distances of codes (:func:`code_scores`) and the cosines of features serve alike. They are exact under
ties: each value is the expectation over all orders of equal scores, but for :func:`distinct_lists`, which
takes the items of a tie in database order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from anglehash.codes import Codes, as_words, pack
from anglehash.evaluation import kernels
from anglehash.evaluation.code_statistics import distinct
from anglehash.evaluation.scores import score_blocks
from anglehash.evaluation.ties import Floats

Labels = NDArray[np.bool_]
Rows = NDArray[np.int64]
Blocks = Iterable[NDArray[Any]]

FIRST = 10
"""The first answers, which a person looks at; all of a smaller database."""

NEIGHBOURS = 50
"""The nearest by the features inside the right class, among which :func:`agreement` looks for the first answers."""


class Top(NamedTuple):
    """The first ``k`` places of some rankings.

    Attributes:
        rows: ``(q, k)`` database rows in ascending order, those of a tie in database order.
        last: ``(q, 1)`` the score at the last place.
        places: ``(q,)`` how many of the ``k`` places are taken by items of that score.
        tied: ``(q,)`` how many items have that score.
    """

    rows: Rows
    last: NDArray[Any]
    places: NDArray[np.int64]
    tied: NDArray[np.int64]


def top_of(block: NDArray[Any], k: int = FIRST) -> Top:
    """The first ``k`` places of each ranking of a block, all where the database is smaller.

    >>> top = top_of(np.array([[5, 7, 5, 5]]), 2)
    >>> top.rows.tolist(), top.places.tolist(), top.tied.tolist()
    ([[0, 1]], [1], [3])
    """
    rows = np.zeros((len(block), min(k, block.shape[1])), dtype=np.int64)
    for scores, found in zip(np.ascontiguousarray(block), rows, strict=True):
        kernels.first(scores, found)
    scores = np.take_along_axis(block, rows, axis=1)
    last = scores[:, -1:]
    return Top(np.sort(rows, axis=1), last, (scores == last).sum(axis=1), (block == last).sum(axis=1))


def _expected_share(top: Top, scores: NDArray[Any], hit: Labels) -> Floats:
    """Expected share of the first places that are hits; ``scores`` and ``hit`` name the candidates of a row."""
    above = ((scores > top.last) & hit).sum(axis=1)
    level = ((scores == top.last) & hit).sum(axis=1)
    share: Floats = (above + level * top.places / top.tied) / top.rows.shape[1]
    return share


def precision(block: NDArray[Any], top: Top, query_labels: Labels, database_labels: Labels) -> Floats:
    """P@k per query, ``(q,)``: :func:`~anglehash.evaluation.metrics.precision_at` of scores."""
    return _expected_share(top, block, share_a_label(query_labels, database_labels))


def agreement(block: NDArray[Any], top: Top, neighbours: Rows) -> Floats:
    """Expected share of the first answers that are among given neighbours of their query, ``(q,)``.

    Args:
        block: ``(q, n)`` scores.
        top: the first places of ``block``.
        neighbours: ``(q, m)`` database rows; -1 fills up.

    One of two places is taken by row 1, the other by one of three items that tie, one of them a neighbour.

    >>> block = np.array([[5, 7, 5, 5]])
    >>> agreement(block, top_of(block, 2), np.array([[1, 2, -1]])).round(4).tolist()
    [0.6667]
    """
    return _expected_share(top, np.take_along_axis(block, neighbours, axis=1), neighbours >= 0)


def nearest_in_class(
    query: NDArray[Any],
    database: NDArray[Any],
    query_labels: Labels,
    database_labels: Labels,
    *,
    count: int = NEIGHBOURS,
) -> Rows:
    """The database rows nearest to each query by the cosine of features, of those that share a label with it.

    Returns:
        ``(q, count)``, nearest first, and -1 where a class has fewer items.
    """
    rows = np.full((len(query), count), -1, dtype=np.int64)
    done = 0
    for block in score_blocks(unit(query), unit(database), similarity=dot):
        here = slice(done, done + len(block))
        done += len(block)
        shared = share_a_label(query_labels[here], database_labels)
        scores = np.where(shared, block, -np.inf).astype(np.float32)
        found = rows[here, : min(count, len(database))]
        for values, own, right in zip(scores, found, shared.sum(axis=1), strict=True):
            kernels.first(values, own)
            own[right:] = -1
    return rows


def distinct_lists(lists: Rows) -> float:
    """Different sets of rows among the first answers, ``(q, k)`` in ascending order, divided by the queries.

    >>> distinct_lists(np.array([[0, 1], [0, 1], [0, 2]])).__round__(4)
    0.6667
    """
    return len(np.unique(lists, axis=0)) / len(lists)


def copy_recall(blocks: Blocks, originals: Rows, ks: Iterable[int] = (1, FIRST)) -> Floats:
    """R@k per copy, ``(c, len(ks))``: the probability that its original is among the first ``k``.

    An original that ties with t - 1 others behind b items is there with probability (k - b) / t, cut to [0, 1].

    Args:
        blocks: ``(rows, n)`` scores of the copies, in order.
        originals: ``(c,)`` the database row of which each copy was made.
        ks: the ranks.

    >>> copy_recall([np.array([[5, 7, 5, 5]])], np.array([0]), (1, 2, 4)).round(4).tolist()
    [[0.0, 0.3333, 1.0]]
    """
    found, done = [], 0
    for block in blocks:
        own = np.take_along_axis(block, originals[done : done + len(block), None], axis=1)
        done += len(block)
        before, tied = (block > own).sum(axis=1), (block == own).sum(axis=1)
        found.append(np.stack([np.clip((k - before) / tied, 0, 1) for k in ks], axis=1))
    return np.concatenate(found) if found else np.zeros((0, len(list(ks))))


def self_retrieval(member: Rows, labels: Labels | None = None) -> float:
    """Expected share of database items that come first for themselves: a tie of n counts 1/n.

    Args:
        member: ``(n,)`` which of the different codes, or features, each item has: nothing is nearer to an item
            than an equal one.
        labels: ``(n, classes)`` where only equal items that share a label tie, as in the rankings of an oracle;
            an item without a label ties with all equal ones.

    Two of three codes are equal: (1/2 + 1/2 + 1) / 3.

    >>> round(self_retrieval(np.array([0, 0, 1])), 4)
    0.6667
    """
    sizes = np.bincount(member)
    sizes = sizes[sizes > 0]
    if labels is None:
        return len(sizes) / len(member)
    order = np.argsort(member, kind="stable")
    groups = np.split(order, np.cumsum(sizes)[:-1])
    return sum(1.0 if len(rows) == 1 else _first_for_themselves(labels[rows]) for rows in groups) / len(
        member
    )


def _first_for_themselves(labels: Labels) -> float:
    """The expected number of items that come first for themselves, of items with one code."""
    first, set_of = distinct(pack(labels))
    count = np.bincount(set_of)
    shared = share_a_label(labels[first], labels[first])
    shared[~labels[first].any(axis=1)] = True
    return float((count / (shared @ count)).sum())


def equal_rows(features: NDArray[Any]) -> Rows:
    """Which of the different rows of features each one is, ``(n,)``, by a hash of its bytes."""
    seen: dict[bytes, int] = {}
    rows = np.ascontiguousarray(features)
    names = (hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in rows)
    return np.array([seen.setdefault(name, len(seen)) for name in names], dtype=np.int64)


def code_scores(query: Codes, database: Codes) -> Iterator[NDArray[np.int16]]:
    """Negative Hamming distances in blocks of queries, ``(rows, n)`` int16."""
    words = np.ascontiguousarray(as_words(database).T)
    return score_blocks(as_words(query), words.T, similarity=_minus_hamming)


def unit(features: NDArray[Any]) -> NDArray[np.float32]:
    """Rows of length 1, float32; a zero vector stays zero."""
    length = np.sqrt(np.einsum("nd,nd->n", features, features))[:, None]
    return np.asarray(features / np.where(length > 0, length, 1), dtype=np.float32)


def share_a_label(query: Labels, database: Labels) -> Labels:
    """``(q, n)``: which pairs have a label in common."""
    shared: Labels = query.astype(np.float32) @ database.T.astype(np.float32) > 0
    return shared


def dot(queries: NDArray[Any], database: NDArray[Any]) -> NDArray[Any]:
    """The cosine of rows of length 1, ``(q, n)``."""
    scores: NDArray[Any] = queries @ database.T
    return scores


def _minus_hamming(queries: NDArray[np.uint64], database: NDArray[np.uint64]) -> NDArray[np.int16]:
    distances = np.empty((len(queries), len(database)), dtype=np.uint16)
    kernels.distances(queries, database.T, distances)
    return -distances.astype(np.int16)
