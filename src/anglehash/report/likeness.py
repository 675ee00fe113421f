"""Measures of likeness as people read them: one list for the terminal, the pages and the documents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anglehash.report.components import row, scrolled, table
from anglehash.report.html import Markup, join, tag
from anglehash.report.values import count, figure, mapping, number

MEASURES = {
    "map": "class mAP",
    "finer_map": "finer mAP",
    "finer_precision_at_10": "finer P@10",
    "distinct_lists": "distinct lists",
    "copy_recall_at_1": "copies R@1",
    "copy_recall_at_10": "copies R@10",
    "self_retrieval": "self-retrieval",
    "feature_agreement": "feature agreement",
}
"""The measures in the order of the tables, ``map`` first, which a result holds at its top level."""

NOTE = (
    "Class mAP does not see the order inside a class. Finer: by a second label that training never saw. Distinct "
    "lists: different sets of the first ten answers, divided by the queries. Copies: crops of database images find "
    "their originals. Self-retrieval: a database image comes first for itself. Feature agreement: the first ten are "
    "among the 50 nearest of the right class by the features."
)


def reference_name(key: str, width: object = None) -> str:
    """A reference as the tables name it.

    >>> reference_name("float_cosine"), reference_name("feature_signs", 1280)
    ('float cosine', '1,280 signs')
    """
    size = number(width)
    names = {
        "feature_signs": f"{size:,.0f} signs" if size else "signs of the features",
        "right_class_random": "right class, random inside",
        "right_class_cosine": "right class, cosine inside",
    }
    return names.get(key, key.replace("_", " "))


def likeness_rows(name: str, score: object, likeness: object) -> dict[str, Mapping[str, Any]]:
    """The measures of some codes and of the references under them, by name; nothing where none were taken.

    Args:
        name: of the codes.
        score: their class mAP.
        likeness: what a result holds under ``likeness``.
    """
    own = mapping(likeness)
    if not own:
        return {}
    return {name: {**own, "map": score}, **reference_rows(own)}


def reference_rows(likeness: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The measures of the references, by name, of a table that holds them under ``references``."""
    width = likeness.get("feature_width")
    return {
        reference_name(str(key), width): mapping(values)
        for key, values in mapping(likeness.get("references")).items()
    }


def known_measures(rows: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The measures that a row has."""
    return [key for key in MEASURES if any(number(values.get(key)) is not None for values in rows.values())]


def likeness_table(title: str, rows: Mapping[str, Mapping[str, Any]]) -> Markup:
    """A row for each ranking, a column for each measure that any of them has; nothing without a measure."""
    known = known_measures(rows)
    if not set(known) - {"map"}:
        return join()
    head = ("", *(MEASURES[key] for key in known))
    body = (row((name, *(figure(values.get(key)) for key in known))) for name, values in rows.items())
    return scrolled(table(title, head, body))


def likeness_note(likeness: Mapping[str, Any]) -> Markup:
    """What the measures mean, and how many copies and queries they were taken with."""
    counted = {"copies": "copies", "finer_queries": "queries with a finer label"}
    counts = [f"{count(likeness[key])} {what}" for key, what in counted.items() if number(likeness.get(key))]
    return tag("p", f"{NOTE} {', '.join(counts)}." if counts else NOTE, class_="note")
