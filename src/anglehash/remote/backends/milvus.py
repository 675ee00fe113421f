"""Milvus: a collection for each gallery, codes as BINARY_VECTOR with the metric HAMMING and the exact index BIN_FLAT.

The address is a server's (``http://host:19530``; a token, ``user:password``, comes from ``MILVUS_TOKEN``), or a file
for Milvus Lite. Milvus gives at most 16,384 answers and breaks ties as it likes: where more tie at the last distance,
all of them are asked for, in spans of rows that are halved until each fits, and the first rows are taken.

The primary key is percent-encoded: Milvus Lite puts it into SQL as it is, quotes and all. A code is kept as text too:
a search that gives binary vectors along gives them in the wrong places (pymilvus 2.5.18), as the crc of rows showed.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from threading import RLock
from typing import Any, TypeVar
from urllib.parse import quote

from anglehash.codes import width
from anglehash.errors import MissingExtraError, RemoteError, first_line
from anglehash.gallery.target import Target
from anglehash.remote.backend import Near
from anglehash.remote.pushdown import ALL, Pushdown
from anglehash.remote.rows import LONGEST_DOC, LONGEST_KEY, LONGEST_TAG, MOST_TAGS, Row, in_order

try:
    import grpc
    from pymilvus import DataType, MilvusClient, MilvusException
except ImportError as error:
    raise MissingExtraError("pymilvus", extra="milvus") from error

T = TypeVar("T")

LIMIT = 16_384
"""Answers that Milvus gives at most."""

SECONDS = 60
"""How long a call is tried; without it the client tries for minutes."""

_CATALOGUE, _FILES = "anglehash_galleries", "anglehash_files"
_FIELDS = ["row", "key", "hex", "date", "doc", "crc"]
_NOTHING = "Unsupported data type: 0"  # how the client reads Milvus Lite's empty answer of a collection with an array
_PART = 45_000  # bytes of a file in one row: 60,000 as base64
_SENT = 1000  # rows of one call: Milvus Lite may take seconds for them
_SPAN = 4096  # row numbers that are read at once

_LOCK = RLock()
_CLIENTS = dict[str, tuple[MilvusClient, int]]()  # by address, and how many use each

for _name in ("pymilvus", "pymilvus.milvus_client.milvus_client"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)  # it prints every error that it also raises


def connect(target: Target) -> Milvus:
    """The server or file of a target.

    Raises:
        RemoteError: it is down, or refuses.
        MissingExtraError: Milvus Lite is named, and not installed.
    """
    return Milvus(target)


class Milvus:
    """See :class:`~anglehash.remote.backend.Backend`."""

    def __init__(self, target: Target) -> None:
        self._target, self._known = target, set[str]()
        self._client = _opened(target)

    def entry(self, name: str) -> str | None:
        """The catalogue's text of a gallery."""
        if not self._there(_CATALOGUE):
            return None
        found = self._call(self._client.get, _CATALOGUE, ids=[name], output_fields=["facts"])
        return str(found[0]["facts"]) if found else None

    def set_entry(self, name: str, text: str | None) -> None:
        """Replace the catalogue's text of a gallery."""
        self._make_texts(_CATALOGUE, "facts")
        if text is None:
            self._call(self._client.delete, _CATALOGUE, ids=[name])
        else:
            self._call(self._client.upsert, _CATALOGUE, [{"key": name, "facts": text, "none": b"\0"}])

    @contextmanager
    def exclusive(self, name: str) -> Iterator[None]:
        """Nothing: Milvus has neither locks nor transactions over several calls."""
        yield

    def collections(self) -> list[str]:
        """The names of all collections."""
        return [str(name) for name in self._call(self._client.list_collections)]

    def make(self, collection: str, bits: int) -> None:
        """A collection with its index, if it is not there."""
        if self._there(collection):
            return
        schema = self._client.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("pk", DataType.VARCHAR, max_length=3 * LONGEST_KEY, is_primary=True)
        schema.add_field("key", DataType.VARCHAR, max_length=LONGEST_KEY)
        for name in ("row", "date", "crc"):
            schema.add_field(name, DataType.INT64)
        schema.add_field(
            "tags", DataType.ARRAY, element_type=DataType.VARCHAR, max_capacity=MOST_TAGS, max_length=LONGEST_TAG
        )  # fmt: skip
        schema.add_field("doc", DataType.VARCHAR, max_length=LONGEST_DOC)
        schema.add_field("hex", DataType.VARCHAR, max_length=2 * width(bits))
        schema.add_field("code", DataType.BINARY_VECTOR, dim=8 * width(bits))
        self._create(collection, schema, "code")

    def drop(self, collection: str) -> None:
        """Remove a collection."""
        self._known.discard(collection)
        if self._there(collection):
            self._call(self._client.drop_collection, collection)
            self._known.discard(collection)

    def put(self, collection: str, rows: Sequence[Row]) -> None:
        """Replace and add rows, each by its key."""
        for start in range(0, len(rows), _SENT):
            part = [_record(row) for row in rows[start : start + _SENT]]
            self._call(self._client.upsert, collection, part)

    def remove(self, collection: str, keys: Sequence[str]) -> None:
        """Remove rows by key."""
        for start in range(0, len(keys), LIMIT):
            self._call(self._client.delete, collection, ids=[*map(_pk, keys[start : start + LIMIT])])

    def finish(self, collection: str) -> None:
        """Nothing: Milvus builds its index as rows come."""

    def count(self, collection: str) -> int:
        """Number of rows."""
        found = self._call(self._client.query, collection, filter="", output_fields=["count(*)"])
        return int(found[0]["count(*)"])

    def named(self, collection: str, keys: Sequence[str]) -> list[Row]:
        """The rows of these keys."""
        names = ", ".join(f"'{_pk(key)}'" for key in keys)
        return self._query(collection, f"pk in [{names}]") if keys else []

    def numbered(self, collection: str, numbers: Sequence[int]) -> list[Row]:
        """The rows of these numbers."""
        return self._query(collection, f"row in {[int(number) for number in numbers]}") if numbers else []

    def read(self, collection: str, want: Pushdown, *, after: int, last: int) -> Iterator[list[Row]]:
        """Rows in order, a span at a time."""
        while after < last:
            until = min(after + _SPAN, last)
            found = self._query(collection, _expression(want, after, until))
            if found:
                yield sorted(found)
            after = until

    def nearest(self, collection: str, code: bytes, k: int, want: Pushdown) -> list[Near]:
        """The nearest rows, ties in order."""
        if k >= LIMIT:  # by distance, from near to far: as many radii as a code has bits, at most
            return self._many(collection, code, k, want)
        asked = min(LIMIT, 2 * k + 16)
        found = in_order(self._search(collection, code, asked, _expression(want)))
        if len(found) < asked or found[-1][0] > found[k - 1][0]:
            return found[:k]
        farthest = found[k - 1][0]
        nearer = [near for near in found if near[0] < farthest]
        tied = self._band(collection, code, (farthest, farthest), want, k - len(nearer))
        return [*nearer, *in_order(tied)][:k]

    def within(self, collection: str, code: bytes, radius: int, want: Pushdown) -> list[Near]:
        """All rows within a radius."""
        return in_order(self._band(collection, code, (0, radius), want, None))

    def approximate(
        self, collection: str, code: bytes, k: int, want: Pushdown, engine: str
    ) -> list[Near] | None:
        """There is none: BIN_FLAT is exact."""
        return None

    def put_file(self, owner: str, name: str, data: bytes) -> None:
        """Keep a file, in parts; how many there are is written last."""
        self._make_texts(_FILES, "data")
        parts = [data[start : start + _PART] for start in range(0, len(data), _PART)]
        for number, part in enumerate(parts):
            record = {
                "key": _file_key(owner, name, number),
                "data": base64.b64encode(part).decode(),
                "none": b"\0",
            }
            self._call(self._client.upsert, _FILES, [record])
        record = {"key": _file_key(owner, name, -1), "data": str(len(parts)), "none": b"\0"}
        self._call(self._client.upsert, _FILES, [record])

    def file(self, owner: str, name: str) -> bytes | None:
        """A file that was kept."""
        if not self._there(_FILES):
            return None
        count = self._file_part(owner, name, -1)
        if count is None:
            return None
        parts = [self._file_part(owner, name, number) for number in range(int(count))]
        return b"".join(base64.b64decode(part or "") for part in parts)

    def close(self) -> None:
        """Close the connection, once nobody else of this process uses it."""
        with _LOCK, suppress(Exception):
            client, users = _CLIENTS.pop(self._target.address)
            if users > 1:
                _CLIENTS[self._target.address] = client, users - 1
            else:
                client.close()

    def _file_part(self, owner: str, name: str, number: int) -> str | None:
        key = _file_key(owner, name, number)
        found = self._call(self._client.get, _FILES, ids=[key], output_fields=["data"])
        return str(found[0]["data"]) if found else None

    def _make_texts(self, collection: str, field: str) -> None:
        if self._there(collection):
            return
        schema = self._client.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("key", DataType.VARCHAR, max_length=1024, is_primary=True)
        schema.add_field(field, DataType.VARCHAR, max_length=65_535)
        schema.add_field("none", DataType.BINARY_VECTOR, dim=8)  # Milvus wants a vector in every collection
        self._create(collection, schema, "none")

    def _create(self, collection: str, schema: Any, vector: str) -> None:
        index = self._client.prepare_index_params()
        index.add_index(vector, index_type="BIN_FLAT", metric_type="HAMMING")
        self._call(
            self._client.create_collection, collection, schema=schema, index_params=index, consistency_level="Strong"
        )  # fmt: skip

    def _there(self, collection: str) -> bool:
        if collection not in self._known and self._call(self._client.has_collection, collection):
            self._known.add(collection)
        return collection in self._known

    def _many(self, collection: str, code: bytes, k: int, want: Pushdown) -> list[Near]:
        found = list[Near]()
        for distance in range(8 * len(code) + 1):
            found += in_order(self._band(collection, code, (distance, distance), want, k - len(found)))
            if len(found) >= k:
                break
        return found[:k]

    def _band(
        self, collection: str, code: bytes, band: tuple[int, int], want: Pushdown, need: int | None
    ) -> list[Near]:
        """All rows at a distance in ``band``, its ends too; with ``need``, at least the first ``need`` of them."""
        low, high = band
        options: dict[str, Any] = {"radius": high + 1}  # the far end is not in Milvus' range
        if low:
            options["range_filter"] = low
        whole = self._search(collection, code, LIMIT, _expression(want), options)
        if len(whole) < LIMIT:
            return whole
        found = list[Near]()
        spans = [(0, 1 << 32)]
        while spans and (need is None or len(found) < need):
            after, until = spans.pop()
            part = self._search(collection, code, LIMIT, _expression(want, after, until), options)
            if len(part) < LIMIT or until - after <= LIMIT:
                found += part
            else:
                middle = (after + until) // 2
                spans += [(middle, until), (after, middle)]
        return found

    def _search(
        self, collection: str, code: bytes, limit: int, expression: str, options: dict[str, Any] | None = None
    ) -> list[Near]:
        (hits,) = self._call(
            self._client.search, collection, [code], filter=expression, limit=limit, output_fields=_FIELDS,
            search_params={"metric_type": "HAMMING", "params": options or {}},
        )  # fmt: skip
        return [(round(hit["distance"]), _row(hit["entity"])) for hit in hits]

    def _query(self, collection: str, expression: str) -> list[Row]:
        fields = [*_FIELDS, "code"]
        try:
            found = self._call(
                self._client.query, collection, filter=expression, output_fields=fields, limit=LIMIT
            )
        except RemoteError as error:
            if _NOTHING in str(error):
                return []
            raise
        return [_row(record) for record in found]

    def _call(self, function: Callable[..., T], *values: Any, **options: Any) -> T:
        with _reported(self._target):
            return function(*values, **options, timeout=SECONDS)


def _opened(target: Target) -> MilvusClient:
    """The client of an address: all clients of one share a connection in pymilvus, which the first to close ends."""
    with _LOCK, warnings.catch_warnings(), _reported(target):
        client, users = _CLIENTS.get(target.address, (None, 0))
        if client is None:
            warnings.simplefilter("ignore")  # Milvus Lite imports pkg_resources
            token = os.environ.get("MILVUS_TOKEN", "")
            try:
                client = MilvusClient(target.address, token=token, timeout=SECONDS)
            except ModuleNotFoundError as error:
                raise MissingExtraError(str(error.name), extra="milvus") from error
        _CLIENTS[target.address] = client, users + 1
        return client


@contextmanager
def _reported(target: Target) -> Iterator[None]:
    """Errors of Milvus, of its transport, and of a closed client as ours."""
    try:
        yield
    except (MilvusException, grpc.RpcError, OSError, grpc.FutureTimeoutError) as error:
        details = error.details() if hasattr(error, "details") else None
        text = str(details or getattr(error, "message", "") or first_line(error))
        raise RemoteError(f"{target}: {' '.join(text.split())[:300]}") from error
    except ValueError as error:  # what grpc says of a channel that is closed
        if "closed channel" not in str(error):
            raise
        raise RemoteError(f"{target}: the connection is closed") from error


def _expression(want: Pushdown = ALL, after: int = -1, until: int = -1) -> str:
    """A filter in Milvus' language; tags and prefixes hold nothing that means something in it.

    >>> _expression(Pushdown(groups=(("label=a", "label=b"),), prefix="d1/"), 0, 9)
    "array_contains_any(tags, ['label=a', 'label=b']) and key like 'd1/%' and row > 0 and row <= 9"
    """
    terms = [
        f"array_contains_any(tags, {json.dumps(list(group))})".replace('"', "'") for group in want.groups
    ]
    if want.after is not None:
        terms.append(f"date >= {want.after} and date < {want.before}")
    if want.prefix:
        terms.append(f"key like '{want.prefix}%'")
    if until >= 0:
        terms.append(f"row > {after} and row <= {until}")
    return " and ".join(terms)


def _pk(key: str) -> str:
    """A key that means nothing in SQL, nor in Milvus' expressions.

    >>> _pk("it's 1%.jpg")
    'it%27s%201%25.jpg'
    """
    return quote(key)


def _file_key(owner: str, name: str, number: int) -> str:
    return re.sub(r"[^\w/.\-]", "_", f"{owner}/{name}/{number}")


def _record(row: Row) -> dict[str, Any]:
    return row._asdict() | {"pk": _pk(row.key), "tags": list(row.tags), "hex": row.code.hex()}


def _row(record: Any) -> Row:
    """The row of a record; its code is the vector's where that came along."""
    code = bytes.fromhex(record["hex"])
    if "code" in record:
        vector = record["code"]
        code = bytes(vector[0] if isinstance(vector, list) else vector)
    row, date, crc = (int(record[field]) for field in ("row", "date", "crc"))
    return Row(row, record["key"], code, date, (), record["doc"], crc)
