"""PostgreSQL: a table for each gallery, codes as ``bit(n)``, distances by ``bit_count(code # query)``.

Exact searches read the whole table, in parallel where the server does so. Where the pgvector extension is installed,
a table of up to 64,000 bits also gets its HNSW index, which ``engine="hnsw"`` asks; it is approximate.

A connection that was lost is reopened by the next call.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from threading import RLock
from typing import Any

import numpy as np

from anglehash.errors import ConfigError, MissingExtraError, RemoteError, first_line
from anglehash.gallery.target import Target
from anglehash.remote.backend import Near
from anglehash.remote.pushdown import Pushdown
from anglehash.remote.rows import Row

try:
    import psycopg
    from psycopg.sql import SQL, Composed, Identifier, Literal
except ImportError as error:
    raise MissingExtraError("psycopg", extra="postgres") from error

OLDEST = 140_000
"""The server's version: 14 brought ``bit_count``."""

CONNECT_SECONDS = 10

_CATALOGUE, _FILES = "anglehash_galleries", "anglehash_files"
_PAGE = 8192
_COLUMNS = SQL("row, key, code::text, date, tags, doc, crc")
_MADE = (
    f"CREATE TABLE IF NOT EXISTS {_CATALOGUE} (name text PRIMARY KEY, facts text NOT NULL)",
    f"""CREATE TABLE IF NOT EXISTS {_FILES} (owner text NOT NULL, name text NOT NULL, data bytea NOT NULL,
        PRIMARY KEY (owner, name))""",
)


def connect(target: Target) -> Postgres:
    """The database of a target.

    Raises:
        RemoteError: it is down, or refuses.
        ConfigError: it is too old, or does not keep UTF-8.
    """
    return Postgres(target)


class Postgres:
    """See :class:`~anglehash.remote.backend.Backend`."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._lock = RLock()  # one transaction at a time on a connection
        self._connection: psycopg.Connection[tuple[Any, ...]] | None = None
        with self._cursor() as cursor:
            version, encoding = cursor.connection.info.server_version, cursor.connection.info.encoding
            cursor.execute("SHOW server_encoding")
            (kept,) = cursor.fetchone() or (encoding,)
        if version < OLDEST or kept != "UTF8":
            self.close()
            raise ConfigError(
                f"{target} is PostgreSQL {version // 10_000} with the encoding {kept}: 14 or newer and UTF8 are needed"
            )

    def entry(self, name: str) -> str | None:
        """The catalogue's text of a gallery."""
        with self._cursor() as cursor:
            if not self._there(cursor, _CATALOGUE):
                return None
            found = cursor.execute(
                f"SELECT facts FROM {_CATALOGUE} WHERE name = %s",  # noqa: S608
                (name,),
            ).fetchone()
            return None if found is None else str(found[0])

    def set_entry(self, name: str, text: str | None) -> None:
        """Replace the catalogue's text of a gallery."""
        with self._cursor() as cursor:
            self._prepare(cursor)
            cursor.execute(f"DELETE FROM {_CATALOGUE} WHERE name = %s", (name,))  # noqa: S608
            if text is not None:
                cursor.execute(f"INSERT INTO {_CATALOGUE} VALUES (%s, %s)", (name, text))  # noqa: S608

    @contextmanager
    def exclusive(self, name: str) -> Iterator[None]:
        """One transaction; other writers of this gallery wait."""
        with self._cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"anglehash {name}",))
            yield

    def collections(self) -> list[str]:
        """The names of all tables."""
        with self._cursor() as cursor:
            query = "SELECT relname FROM pg_class WHERE relkind = 'r' AND pg_table_is_visible(oid)"
            return [str(name) for (name,) in cursor.execute(query).fetchall()]

    def make(self, collection: str, bits: int) -> None:
        """A table, if it is not there."""
        statement = SQL(
            'CREATE TABLE IF NOT EXISTS {table} (row bigint PRIMARY KEY, key text COLLATE "C" NOT NULL UNIQUE,'
            " code bit({bits}) NOT NULL, date bigint NOT NULL, tags text[] NOT NULL, doc text NOT NULL,"
            " crc bigint NOT NULL)"
        )
        with self._cursor() as cursor:
            self._prepare(cursor)
            cursor.execute(statement.format(table=Identifier(collection), bits=Literal(bits)))

    def drop(self, collection: str) -> None:
        """Remove a table."""
        with self._cursor() as cursor:
            cursor.execute(SQL("DROP TABLE IF EXISTS {}").format(Identifier(collection)))

    def put(self, collection: str, rows: Sequence[Row]) -> None:
        """Replace and add rows, in one transaction."""
        table = Identifier(collection)
        with self._cursor() as cursor:
            bits = self._bits(cursor, collection)
            cursor.execute(
                SQL("DELETE FROM {} WHERE key = ANY(%s)").format(table), ([row.key for row in rows],)
            )
            copy = SQL("COPY {} (row, key, code, date, tags, doc, crc) FROM STDIN").format(table)
            with cursor.copy(copy) as stream:
                for row in rows:
                    stream.write_row(
                        (row.row, row.key, _text(row.code, bits), row.date, list(row.tags), row.doc, row.crc)
                    )

    def remove(self, collection: str, keys: Sequence[str]) -> None:
        """Remove rows by key."""
        statement = SQL("DELETE FROM {} WHERE key = ANY(%s)").format(Identifier(collection))
        with self._cursor() as cursor:
            cursor.execute(statement, (list(keys),))

    def finish(self, collection: str) -> None:
        """Indexes that are built faster over all rows than with each; HNSW where the extension is installed."""
        with self._cursor() as cursor:
            self._index(cursor, collection, "tags", SQL("gin (tags)"))
            if self._vectors(cursor):
                self._index(cursor, collection, "hnsw", SQL("hnsw (code bit_hamming_ops)"))
            cursor.execute(SQL("ANALYZE {}").format(Identifier(collection)))

    def count(self, collection: str) -> int:
        """Number of rows."""
        with self._cursor() as cursor:
            found = cursor.execute(SQL("SELECT count(*) FROM {}").format(Identifier(collection))).fetchone()
            return int(found[0]) if found else 0

    def named(self, collection: str, keys: Sequence[str]) -> list[Row]:
        """The rows of these keys."""
        return self._rows(collection, SQL("key = ANY(%s)"), [list(keys)])

    def numbered(self, collection: str, numbers: Sequence[int]) -> list[Row]:
        """The rows of these numbers."""
        return self._rows(collection, SQL("row = ANY(%s)"), [list(numbers)])

    def read(self, collection: str, want: Pushdown, *, after: int, last: int) -> Iterator[list[Row]]:
        """Rows in order, a page at a time."""
        condition, values = _where(want)
        clause = SQL("row > %s AND row <= %s AND {} ORDER BY row LIMIT %s").format(condition)
        while page := self._rows(collection, clause, [after, last, *values, _PAGE]):
            yield page
            after = page[-1].row

    def nearest(self, collection: str, code: bytes, k: int, want: Pushdown) -> list[Near]:
        """The nearest rows, by reading all that have what is wanted."""
        condition, values = _where(want)
        query = SQL(
            "SELECT bit_count(code # {code}) AS distance, {columns} FROM {table} WHERE {condition}"
            " ORDER BY distance, row LIMIT %s"
        )
        return self._near(collection, code, query, condition, [*values, k])

    def within(self, collection: str, code: bytes, radius: int, want: Pushdown) -> list[Near]:
        """All rows within a radius, by reading all that have what is wanted."""
        condition, values = _where(want)
        query = SQL(
            "SELECT bit_count(code # {code}) AS distance, {columns} FROM {table}"
            " WHERE {condition} AND bit_count(code # {code}) <= %s ORDER BY distance, row"
        )
        return self._near(collection, code, query, condition, [*values, radius])

    def approximate(
        self, collection: str, code: bytes, k: int, want: Pushdown, engine: str
    ) -> list[Near] | None:
        """Pgvector's HNSW index; filters are applied while it is walked."""
        if engine != "hnsw":
            return None
        condition, values = _where(want)
        query = SQL(
            "SELECT distance, {columns} FROM (SELECT *, (code <~> {code})::int AS distance FROM {table}"
            " WHERE {condition} ORDER BY code <~> {code} LIMIT %s) found ORDER BY distance, row"
        )
        with self._cursor() as cursor:
            if not self._there(cursor, f"{collection}_hnsw"):
                return None
            for setting in (f"ef_search = {min(1000, max(100, 2 * k))}", "iterative_scan = 'strict_order'"):
                cursor.execute(f"SET LOCAL hnsw.{setting}")
            cursor.execute("SET LOCAL enable_seqscan = off")
            return self._near(collection, code, query, condition, [*values, k])

    def put_file(self, owner: str, name: str, data: bytes) -> None:
        """Keep a file."""
        with self._cursor() as cursor:
            self._prepare(cursor)
            cursor.execute(
                f"INSERT INTO {_FILES} VALUES (%s, %s, %s)"  # noqa: S608
                " ON CONFLICT (owner, name) DO UPDATE SET data = excluded.data",
                (owner, name, data),
            )

    def file(self, owner: str, name: str) -> bytes | None:
        """A file that was kept."""
        with self._cursor() as cursor:
            if not self._there(cursor, _FILES):
                return None
            query = f"SELECT data FROM {_FILES} WHERE owner = %s AND name = %s"  # noqa: S608
            found = cursor.execute(query, (owner, name)).fetchone()
            return None if found is None else bytes(found[0])

    def close(self) -> None:
        """Close the connection."""
        with self._lock, suppress(psycopg.Error):
            if self._connection is not None:
                self._connection.close()

    @contextmanager
    def _cursor(self) -> Iterator[psycopg.Cursor[tuple[Any, ...]]]:
        """A cursor in a transaction, or in a part of the one that this thread is in."""
        with self._lock:
            try:
                if self._connection is None or self._connection.closed:
                    self._connection = psycopg.connect(
                        self._target.address, connect_timeout=CONNECT_SECONDS, autocommit=True,
                        application_name="anglehash", client_encoding="UTF8",
                    )  # fmt: skip
                with self._connection.transaction(), self._connection.cursor() as cursor:
                    yield cursor
            except psycopg.Error as error:
                raise RemoteError(f"{self._target}: {first_line(error)}") from error

    def _prepare(self, cursor: psycopg.Cursor[tuple[Any, ...]]) -> None:
        if not (self._there(cursor, _CATALOGUE) and self._there(cursor, _FILES)):
            for statement in _MADE:
                cursor.execute(statement)

    @staticmethod
    def _there(cursor: psycopg.Cursor[tuple[Any, ...]], name: str) -> bool:
        found = cursor.execute("SELECT to_regclass(%s) IS NOT NULL", (f'"{name}"',)).fetchone()
        return bool(found and found[0])

    @staticmethod
    def _vectors(cursor: psycopg.Cursor[tuple[Any, ...]]) -> bool:
        found = cursor.execute("SELECT 1 FROM pg_opclass WHERE opcname = 'bit_hamming_ops'").fetchone()
        return found is not None

    @staticmethod
    def _bits(cursor: psycopg.Cursor[tuple[Any, ...]], collection: str) -> int:
        query = "SELECT atttypmod FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attname = 'code'"
        found = cursor.execute(query, (f'"{collection}"',)).fetchone()
        return int(found[0]) if found else 0

    @staticmethod
    def _index(cursor: psycopg.Cursor[tuple[Any, ...]], collection: str, suffix: str, kind: SQL) -> None:
        statement = SQL("CREATE INDEX IF NOT EXISTS {} ON {} USING {}")
        cursor.execute(statement.format(Identifier(f"{collection}_{suffix}"), Identifier(collection), kind))

    def _rows(self, collection: str, clause: SQL | Composed, values: list[Any]) -> list[Row]:
        query = SQL("SELECT {} FROM {} WHERE {}").format(_COLUMNS, Identifier(collection), clause)
        with self._cursor() as cursor:
            return [_row(record) for record in cursor.execute(query, values).fetchall()]

    def _near(
        self, collection: str, code: bytes, query: SQL, condition: Composed, values: list[Any]
    ) -> list[Near]:
        with self._cursor() as cursor:
            bits = self._bits(cursor, collection)
            literal = SQL("{}::bit({})").format(Literal(_text(code, bits)), Literal(bits))
            whole = query.format(
                code=literal, columns=_COLUMNS, table=Identifier(collection), condition=condition
            )
            return [
                (int(distance), _row(record))
                for distance, *record in cursor.execute(whole, values).fetchall()
            ]


def _where(want: Pushdown) -> tuple[Composed, list[Any]]:
    terms, values = [SQL("true")], list[Any]()
    for group in want.groups:
        terms.append(SQL("tags && %s::text[]"))
        values.append(list(group))
    if want.after is not None:
        terms.append(SQL("date >= %s AND date < %s"))
        values += [want.after, want.before]
    if want.prefix:
        terms.append(SQL("starts_with(key, %s)"))
        values.append(want.prefix)
    return SQL(" AND ").join(terms), values


def _text(code: bytes, bits: int) -> str:
    r"""A code as PostgreSQL writes bits.

    >>> _text(b"\xa0", 4)
    '1010'
    """
    digits = int.from_bytes(code, "big")
    return format(digits, f"0{8 * len(code)}b")[:bits]


def _row(record: Sequence[Any]) -> Row:
    row, key, code, date, tags, doc, crc = record
    digits = np.frombuffer(code.encode(), np.uint8) - ord("0")
    return Row(row, key, np.packbits(digits).tobytes(), date, tuple(tags), doc, crc)
