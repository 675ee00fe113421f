"""A measured result, for people: the table of ``evaluate`` and ``demo``, and pictures of some answers."""

from __future__ import annotations

from typing import Any

import numpy as np

from anglehash.cli.console import table
from anglehash.data.images.decoding import Preprocessing
from anglehash.data.perceptual_hash import series_line
from anglehash.data.split import RetrievalSplit
from anglehash.evaluation.evaluate_model import Measured
from anglehash.evaluation.ranking import some_answers
from anglehash.report.likeness import MEASURES, known_measures, likeness_rows
from anglehash.report.pictures import Row, Tile

THUMBNAIL = Preprocessing(size=112)


def summary(result: dict[str, Any]) -> str:
    """The headline numbers as a table.

    >>> print(summary({"map": 0.5, "bits": 32, "method": "andsh", "protocol": "holdout", "queries": 9,
    ...                "database": 90, "posterior_map": None}).splitlines()[-3])
    posterior agreement (the reference)               -
    """
    head = (
        f"{result['method']}, {result['bits']} bits, protocol {result['protocol']}: "
        f"{result['queries']} queries in {result['database']} images"
    )
    names = {
        "map": "codes (Hamming, exact under ties)",
        "map_convention": "codes (the papers' convention)",
        "map_asymmetric": "real-valued queries, codes in the database",
        "map_logits": "real-valued codes (cosine)",
        "class_id_map": "class-id code (a classifier's answer)",
        "posterior_map": "posterior agreement (the reference)",
    }
    rows = [[text.ljust(44), _share(result[key])] for key, text in names.items() if key in result]
    unknown = result.get("posterior_map", 0) is None
    note = "\n\n-: there are classes that no training image of the split has" if unknown else ""
    return f"{head}\n\n{table([['', 'mAP'], *rows])}{note}{_likeness(result)}{_series(result)}"


def _likeness(result: dict[str, Any]) -> str:
    """The measures of likeness as a second table, with the references."""
    rows = likeness_rows("codes", result["map"], result.get("likeness"))
    known = known_measures(rows)
    if not rows:
        return ""
    body = [[name, *(_share(values.get(key)) for key in known)] for name, values in rows.items()]
    return "\n\n" + table([["", *(MEASURES[key] for key in known)], *body])


def _series(result: dict[str, Any]) -> str:
    """What is to be said where queries look like the images that were learned from."""
    near = result.get("near_copies")
    where = "the training part" if near and near["part"] == "train" else "the database"
    line = series_line(near, "queries", where)
    return f"\n\n{line}" if line else ""


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def picture_rows(
    measured: Measured, split: RetrievalSplit, *, queries: int = 8, answers: int = 8
) -> list[Row]:
    """Some queries, evenly spaced, with the images that their codes find."""
    some = some_answers(measured.query, measured.database, queries=queries, answers=answers)
    rows = []
    for place, nearest, distances in zip(*some, strict=True):
        query = int(split.query[place])
        found = zip(split.database[nearest].tolist(), distances.tolist(), strict=True)
        rows.append(Row(tile(split, query), [tile(split, row, query, bits) for row, bits in found]))
    return rows


def tile(split: RetrievalSplit, row: int, query: int | None = None, distance: int | None = None) -> Tile:
    """An image as a picture of answers shows it: the query itself, or an answer to ``query``."""
    dataset = split.dataset
    labels = tuple(dataset.class_names[c] for c in np.flatnonzero(dataset.labels[row]))
    correct = None if query is None else bool((dataset.labels[row] & dataset.labels[query]).any())
    image = dataset.images.read(row)
    pixels = THUMBNAIL(image) if isinstance(image, bytes) else image  # small scans are drawn as they are
    return Tile(pixels=pixels, labels=labels, id=dataset.ids[row], distance=distance, correct=correct)
