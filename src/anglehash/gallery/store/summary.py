"""Counts over all items of a store, by SQL: labels, columns of the metadata, files that gave no code."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from anglehash.gallery.store.database import connect
from anglehash.gallery.store.items import Seen, labels_of, seen_of
from anglehash.gallery.store.layout import Store, read_steadily
from anglehash.gallery.store.sqlite import sqlite_errors, transaction


class Summary(NamedTuple):
    """What a gallery holds, as of now.

    Attributes:
        labels: how many items have each label.
        columns: the names of the columns of the metadata, sorted.
        reasons: how many files gave no code, by reason.
        problems: the first of them, by id.
    """

    labels: Counter[str]
    columns: list[str]
    reasons: Counter[str]
    problems: list[Seen]


def _connected(path: Path) -> tuple[Store, sqlite3.Connection]:
    return read_steadily(path, lambda store, _: (store, connect(store.database)))


def summarise(path: Path, *, problems: int = 100) -> Summary:
    """Count over all items of the gallery at ``path``; its first problems are named.

    Raises:
        ModelError: no gallery, or a row that is named is damaged.
    """
    store, connection = _connected(path)
    try:
        with transaction(connection, store.database):
            labels = Counter[str]()
            rows = "SELECT labels, count(*) FROM items WHERE died = 0 GROUP BY labels"
            for text, count in connection.execute(rows):
                for label in labels_of(text):
                    labels[label] += count
            keys = """SELECT DISTINCT key FROM items, json_each(items.metadata)
                      WHERE died = 0 AND metadata != '{}'"""
            columns = sorted(key for (key,) in connection.execute(keys))
            reasons = Counter[str]()
            refused = "SELECT reason, count(*) FROM files WHERE reason != '\"\"' GROUP BY reason"
            for text, count in connection.execute(refused):
                reasons[json.loads(text)] += count
            named = "SELECT * FROM files WHERE reason != '\"\"' ORDER BY id LIMIT ?"
            found = [seen_of(row, store.database) for row in connection.execute(named, (problems,))]
        return Summary(labels, columns, reasons, found)
    finally:
        with sqlite_errors(store.database):
            connection.close()


def codes_by_labels(path: Path) -> Iterator[tuple[tuple[str, ...], list[bytes]]]:
    """The codes of all items, those with equal labels together; a few thousand at a time.

    Raises:
        ModelError: no gallery.
    """
    store, connection = _connected(path)
    try:
        with sqlite_errors(store.database):
            rows = connection.execute("SELECT labels, code FROM items WHERE died = 0")
            while chunk := rows.fetchmany(4096):
                groups: dict[str, list[bytes]] = {}
                for text, code in chunk:
                    groups.setdefault(text, []).append(code)
                for text, codes in groups.items():
                    yield labels_of(text), codes
    finally:
        with sqlite_errors(store.database):
            connection.close()
