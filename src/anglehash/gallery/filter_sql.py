"""Which rows of the truth pass a filter: by SQL as far as that goes, the rest in Python, some rows at a time.

Searches go on meanwhile, in other threads, so little is done under the interpreter's lock. SQLite gives that lock
back for each row that it hands out, and takes it again, as for each call of a function of ours. Where other
threads compute, each of these is a wait. So rows are handed out by thousands, as one text.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Callable, Iterable
from fnmatch import translate
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from anglehash.errors import DataError
from anglehash.gallery.filters import Condition, Filter, nanoseconds
from anglehash.gallery.store.items import labels_text, name_bytes, name_text

Numbers = NDArray[np.int64]

_CHUNK, _TESTED_CHUNK = 131_072, 8_192  # rows at a time; fewer where Python looks at each
_MAGIC = re.compile(r"[*?\[]")
_SIMPLE = re.compile(r"[A-Za-z_][A-Za-z0-9_ -]*")
_HAS_ARROW = sqlite3.sqlite_version_info >= (3, 38)
_MOST_PARTS = 8  # of a pattern, that SQL looks for: it bounds how deep an expression is
_CACHED = 50_000  # values whose outcome is kept while one filter is worked out


class _Test(NamedTuple):
    """What Python has to see of a row.

    Attributes:
        sql: what it looks at: a text without line ends, and never NULL.
        passes: which of such texts pass.
    """

    sql: str
    passes: Callable[[list[str]], Iterable[bool]]


def matching(connection: sqlite3.Connection, where: Filter, after: int, until: int) -> Numbers:
    """The rows that pass, ascending, of whatever generation.

    Args:
        connection: of the truth, used by nobody else meanwhile.
        where: the filter.
        after: rows after this one.
        until: rows up to this one.
    """
    terms, values = _terms(where)
    tests = _tests(where)
    span = _TESTED_CHUNK if tests else _CHUNK
    found = []
    for start in range(after, until, span):
        given = (start, min(start + span, until), *values)
        if tests:
            found.append(_tested(connection, terms, given, tests))
        else:
            ((text,),) = connection.execute(_query("group_concat(row)", terms), given)
            found.append(_numbers(text))
    return np.sort(np.concatenate(found)) if found else np.empty(0, np.int64)


def _tested(
    connection: sqlite3.Connection, terms: list[str], given: tuple[Any, ...], tests: list[_Test]
) -> Numbers:
    """The same, of one span."""
    columns = [f"group_concat({test.sql}, char(10))" for test in tests]
    query = _query(", ".join(["group_concat(row)", *columns]), terms)
    ((numbers, *lines),) = connection.execute(query, given)
    if not numbers:
        return _numbers(None)
    rows = _numbers(numbers)
    passes = np.ones(len(rows), np.bool_)
    for test, line in zip(tests, lines, strict=True):
        passes &= np.fromiter(test.passes(line.split("\n")), np.bool_, len(rows))
    return rows[passes]


def _numbers(text: str | None) -> Numbers:
    return np.array(json.loads(f"[{text or ''}]"), np.int64)


def _query(what: str, terms: list[str]) -> str:
    return f"SELECT {what} FROM items WHERE {' AND '.join(['row > ? AND row <= ?', *terms])}"  # noqa: S608


def _terms(where: Filter) -> tuple[list[str], list[Any]]:
    """What rows that pass fulfil in SQL, and the values of its parameters."""
    terms, values = list[str](), list[Any]()
    if where.labels:
        terms.append("(" + " OR ".join("instr(labels, ?) > 0" for _ in where.labels) + ")")
        values += [labels_text((label,)) for label in where.labels]
    if where.path is not None:
        for term, own in _path_terms(where.path):
            terms.append(term)
            values += own
    if where.after or where.before:
        terms.append("date > 0 AND date >= ? AND date < ?")
        values += [nanoseconds(where.after, 0), nanoseconds(where.before, 2**63 - 1)]
    for column in dict.fromkeys(condition.column for condition in where.where):
        terms.append("instr(metadata, ?) > 0")  # the JSON is canonical: no space before the colon
        values.append(f"{json.dumps(column)}:")
    return terms, values


def _path_terms(pattern: str) -> list[tuple[str, tuple[Any, ...]]]:
    """What the bytes of every id are that a pattern matches.

    >>> _path_terms("d1/*.jpg")
    [('substr(id, 1, ?) = ?', (3, b'd1/')), ('substr(id, -4) = ?', (b'.jpg',)), ('length(id) >= ?', (7,))]
    """
    try:
        first, *middle = _literals(pattern)
    except DataError:  # half of a surrogate pair: no id has it
        return [("0", ())]
    if not _MAGIC.search(pattern):
        return [("id = ?", (first,))]
    last = middle.pop() if middle else b""
    terms: list[tuple[str, tuple[Any, ...]]] = []
    if first:
        terms.append(("substr(id, 1, ?) = ?", (len(first), first)))
    if last:
        terms.append((f"substr(id, -{len(last)}) = ?", (last,)))
    if first and last:
        terms.append(("length(id) >= ?", (len(first) + len(last),)))
    parts = [part for part in dict.fromkeys(middle) if part][:_MOST_PARTS]
    return terms + [("instr(id, ?) > 0", (part,)) for part in parts]


def _literals(pattern: str) -> list[bytes]:
    """What stands between the stars of a pattern; of one with other wildcards, what stands before the first."""
    if "?" in pattern or "[" in pattern:
        return [name_bytes(_MAGIC.split(pattern, maxsplit=1)[0]), b""]
    return [name_bytes(part) for part in pattern.split("*")]


def _is_said_by_terms(pattern: str) -> bool:
    """Whether the terms say all of it.

    They look at bytes. Text in UTF-8 is found in bytes only where it is; a byte that is not text may be a part of one.

    >>> [_is_said_by_terms(pattern) for pattern in ("d1/*.jpg", "*x*", "a*b*", "a?", chr(0xDCA9) + "*")]
    [True, True, False, False, False]
    """
    first, *middle = pattern.split("*")
    last = middle.pop() if middle else ""
    middle = [part for part in middle if part]
    simple = not middle or (len(middle) == 1 and not first and not last)
    return simple and not re.search(r"[?\[\ud800-\udfff]", pattern)


def _tests(where: Filter) -> list[_Test]:
    """What is left to be seen of each row."""
    tests = []
    if where.path is not None and not _is_said_by_terms(where.path):
        matches = re.compile(translate(where.path)).match
        tests.append(_Test("hex(id)", lambda names: (matches(name) is not None for name in _names(names))))
    by_column: dict[str, list[Condition]] = {}
    for condition in where.where:
        by_column.setdefault(condition.column, []).append(condition)
    return tests + [_column_test(column, conditions) for column, conditions in by_column.items()]


def _names(hexadecimal: list[str]) -> list[str]:
    """Ids out of their bytes in hexadecimal; all at once where none has a line end, which is quicker."""
    names = name_text(bytes.fromhex("0A".join(hexadecimal))).split("\n")
    return names if len(names) == len(hexadecimal) else [name_text(bytes.fromhex(one)) for one in hexadecimal]


def _column_test(column: str, conditions: list[Condition]) -> _Test:
    """Whether the metadata of a row fulfil conditions on one column."""
    if not (_HAS_ARROW and _SIMPLE.fullmatch(column)):  # other names are quoted in SQLite's own way
        return _Test("metadata", _each(lambda text: all(c.holds(json.loads(text)) for c in conditions)))
    holds = _each(lambda text: text != "" and all(c.holds({column: json.loads(text)}) for c in conditions))
    return _Test(f"""ifnull(metadata -> '$."{column}"', '')""", holds)


def _each(passes: Callable[[str], bool]) -> Callable[[list[str]], Iterable[bool]]:
    """Which of some texts pass; equal ones are looked at once."""
    known = lru_cache(_CACHED)(passes)

    def mask(texts: list[str]) -> Iterable[bool]:
        good = {text for text in set(texts) if known(text)}
        return map(good.__contains__, texts)

    return mask
