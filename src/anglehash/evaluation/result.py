"""The result of an evaluation: every number by name, with its definition."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The numbers of one evaluation, all JSON values; ``None`` where a number does not exist.

    Relevant: shares at least one label with the query. Ties: every number is the exact expectation over all
    orders of equally distant items, but for ``map_convention`` and ``wap``, which follow the papers with
    seeded shuffles. A query without a relevant item counts 0 everywhere, and is reported.

    Attributes:
        bits: length of a code.
        rank_cut: ranks that count for ``map``, ``map_convention``, ``map_logits``, ``map_asymmetric``,
            ``posterior_map``, ``class_id_map``, ``wap`` and ``per_class``; ``None`` is all.
        map: mAP of the codes, exact under ties, divided by all relevant items (``min(T, k)`` at a cut).
        map_convention: the papers': hits in the first k as denominator, seeded shuffle on ties.
        map_logits: mAP of the real-valued logits by cosine; the gap to ``map`` is the quantization error.
        map_asymmetric: mAP of the queries' real-valued codes against the database's codes, by
            :func:`~anglehash.asymmetric.asymmetric_distances`.
        posterior_map: mAP of the posterior agreement, of at least one shared label where images have several.
        class_id_map: mAP of the one-hot answer of the classifier, used as a code.
        map_at: ``map`` by rank cut, ``"all"`` or a number.
        precision_at: P@N by N, for each N up to the size of the database.
        recall_at: R@N by N.
        precision_recall: per radius 0..bits ``radius``, ``precision`` (empty balls count 0), ``recall`` and
            ``empty_balls``, the share of queries whose ball is empty; means over all queries.
        precision_radius_2: ``value`` and ``empty_balls`` of radius 2.
        map_within_radius_2: mAP inside the ball, divided by the relevant items inside it.
        acg: ACG@N by N, where images have several labels.
        ndcg: NDCG@N by N, gain 2^r - 1, likewise.
        wap: WAP, mean of ten seeded shuffles, likewise.
        per_class: mean AP of the queries that hold each class, by name; ``None`` for a class without a query.
        unique_codes: different codes in the database.
        bit_balance: ``min``, ``mean`` and ``max`` over the bits of their share of ones in the database.
        queries: their number.
        database: its size.
        queries_without_relevant: queries that count 0 because nothing in the database is relevant.
        seconds: that this evaluation took.
    """

    bits: int
    rank_cut: int | None
    map: float
    map_convention: float
    map_logits: float | None
    map_asymmetric: float | None
    posterior_map: float | None
    class_id_map: float | None
    map_at: dict[str, float]
    precision_at: dict[str, float]
    recall_at: dict[str, float]
    precision_recall: list[dict[str, float]]
    precision_radius_2: dict[str, float]
    map_within_radius_2: float
    acg: dict[str, float] | None
    ndcg: dict[str, float] | None
    wap: float | None
    per_class: dict[str, float | None]
    unique_codes: int
    bit_balance: dict[str, float]
    queries: int
    database: int
    queries_without_relevant: int
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON values."""
        return asdict(self)
