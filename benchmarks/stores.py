"""Galleries against other stores of codes on the same work: the 100 nearest of a million codes, one thread.

    pip install usearch lancedb sqlite-vec       # none of them is needed by anglehash or its tests
    python -m benchmarks.stores                  # with a Python whose sqlite3 can load extensions

Codes are those of ``benchmarks/search.py`` for heads on CIFAR-10, with the recorded share of distinct ones
kept. Each store takes all codes with an id each, in batches of 16,384 that it is asked to keep, and is then
opened by a process of its own for single queries that were not added: 300 to warm up, then three times 100
others. CPU time of all threads is given, since other work on the machine changes only the wall's; memory is
what the process took beyond its imports. Recall is fair to ties: an answer counts when it is not farther away
than the true 100th.

What "kept" means differs: anglehash and sqlite-vec sync each batch to disk (SQLite, write-ahead log,
synchronous FULL); LanceDB writes a file for each and syncs none of them; usearch has no log, and saves all of
its file once, at the end. "anglehash" answers with ids and labels read from the truth, each row compared with
its crc; LanceDB and sqlite-vec with ids; usearch and "anglehash, engine" with numbers of rows. HNSW graphs
are built once, by one thread.

The table is in docs/search.md, the record in results/stores.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", RAYON_NUM_THREADS="1", LANCE_CPU_THREADS="1")

import numpy as np
from numpy.typing import NDArray

HERE = Path(__file__).parent
BATCH, BITS, K, N = 16_384, 64, 100, 1_000_000
QUERIES = 400  # the first hundred to warm up
CASES = ("1M MLP, 64 bits", "1M linear, 64 bits")
Codes = NDArray[np.uint8]
Search = Callable[[Codes], "list[int] | NDArray[Any]"]
"""One query of one row to the numbers of the nearest."""


class Store(NamedTuple):
    """A way to keep codes.

    Attributes:
        fill: take all codes, durably as far as it can.
        opened: how it is searched.
        package: what is compared, for its version.
    """

    fill: Callable[[Path, Codes], None]
    opened: Callable[[Path, Codes], Search]
    package: str


def batches(codes: Codes) -> Iterator[tuple[int, Codes]]:
    for start in range(0, len(codes), BATCH):
        yield start, codes[start : start + BATCH]


# --- anglehash


def fill_gallery(folder: Path, codes: Codes) -> None:
    from anglehash.gallery.gallery import Gallery
    from anglehash.gallery.store.items import Item
    from anglehash.gallery.store.opening import open_writer
    from anglehash.gallery.store.writer import Changes

    Gallery.create(folder / "g", codes=codes[:0], ids=[], labels=[], bits=BITS, model_id="m").close()
    with open_writer(folder / "g") as writer:
        for start, part in batches(codes):
            writer.commit(
                Changes([Item(str(row), code.tobytes(), ("x",)) for row, code in enumerate(part, start)])
            )


def open_gallery(folder: Path, codes: Codes) -> Search:
    from anglehash.gallery.gallery import Gallery

    gallery = Gallery.open(folder / "g")
    return lambda query: [int(hit.id) for hit in gallery.search(query, K)[0]]


def fill_nothing(folder: Path, codes: Codes) -> None:
    """What lives in memory only."""


def open_engine(folder: Path, codes: Codes) -> Search:
    from anglehash.index import make_index

    index: Any = make_index("multi-index", codes, BITS)
    index.build()
    return lambda query: index.search(query, K).ids[0]


# --- usearch


def _usearch() -> Any:
    from usearch.index import Index, MetricKind, ScalarKind

    return Index(ndim=BITS, metric=MetricKind.Hamming, dtype=ScalarKind.B1)


def fill_usearch(folder: Path, codes: Codes) -> None:
    index = _usearch()
    for start, part in batches(codes):
        index.add(np.arange(start, start + len(part)), part, threads=1)
    index.save(folder / "index")


def open_usearch(folder: Path, codes: Codes) -> Search:
    index = _usearch()
    index.load(folder / "index")
    return lambda query: index.search(query[0], K, threads=1).keys


def open_usearch_exact(folder: Path, codes: Codes) -> Search:
    from usearch.index import MetricKind, ScalarKind, search

    kind = {"metric": MetricKind.Hamming, "dtype": ScalarKind.B1, "exact": True, "threads": 1}
    return lambda query: search(codes, query, K, **kind).keys.ravel()


# --- LanceDB


def _lance(folder: Path) -> Any:
    import lancedb

    return lancedb.connect(folder / "lance")


def fill_lance(folder: Path, codes: Codes) -> None:
    import pyarrow as pa

    schema = pa.schema([("id", pa.string()), ("code", pa.list_(pa.uint8(), BITS // 8))])
    table = _lance(folder).create_table("codes", schema=schema)
    for start, part in batches(codes):
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(part.ravel()), BITS // 8)
        names = pa.array([str(row) for row in range(start, start + len(part))])
        table.add(pa.table({"id": names, "code": vectors}, schema=schema))


def fill_lance_ivf(folder: Path, codes: Codes) -> None:
    from lancedb.index import IvfFlat

    fill_lance(folder, codes)
    table = _lance(folder).open_table("codes")
    table.create_index("code", config=IvfFlat(distance_type="hamming", num_partitions=1000))


def open_lance(folder: Path, codes: Codes) -> Search:
    table = _lance(folder).open_table("codes")

    def search(query: Codes) -> list[int]:
        asked = table.search(query[0]).distance_type("hamming").limit(K).select(["id", "_distance"])
        return [int(name) for name in asked.to_arrow()["id"].to_pylist()]

    return search


# --- sqlite-vec


def _sqlite(folder: Path) -> sqlite3.Connection:
    import sqlite_vec

    connection = sqlite3.connect(folder / "vec.db")
    connection.enable_load_extension(True)
    sqlite_vec.load(connection)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    return connection


def fill_sqlite(folder: Path, codes: Codes) -> None:
    connection = _sqlite(folder)
    connection.execute(f"CREATE VIRTUAL TABLE codes USING vec0(code bit[{BITS}], +id TEXT)")
    insert = "INSERT INTO codes(rowid, code, id) VALUES (?, vec_bit(?), ?)"
    for start, part in batches(codes):
        with connection:
            connection.executemany(
                insert, ((row, code.tobytes(), str(row)) for row, code in enumerate(part, start))
            )
    connection.close()


def open_sqlite(folder: Path, codes: Codes) -> Search:
    connection = _sqlite(folder)
    select = f"SELECT id FROM codes WHERE code MATCH vec_bit(?) AND k = {K}"
    return lambda query: [int(name) for (name,) in connection.execute(select, (query.tobytes(),))]


STORES = {
    "anglehash": Store(fill_gallery, open_gallery, "anglehash"),
    "anglehash, engine": Store(fill_nothing, open_engine, "anglehash"),
    "usearch, exact": Store(fill_nothing, open_usearch_exact, "usearch"),
    "LanceDB": Store(fill_lance, open_lance, "lancedb"),
    "LanceDB, IVF_FLAT": Store(fill_lance_ivf, open_lance, "lancedb"),
    "sqlite-vec": Store(fill_sqlite, open_sqlite, "sqlite-vec"),
    "usearch, HNSW": Store(fill_usearch, open_usearch, "usearch"),
}


IMPORTS = {
    "anglehash": ["anglehash.gallery.gallery", "anglehash.index.multi_index._compiled"],
    "usearch": ["usearch.index"],
    "lancedb": ["lancedb", "pyarrow"],
    "sqlite-vec": ["sqlite_vec"],
}


# --- measuring, each step in a process of its own


def filled(store: Store, folder: Path, codes: Codes) -> dict[str, Any]:
    wall, cpu = time.perf_counter(), time.process_time()
    store.fill(folder, codes)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    if not size:
        return {}
    return {
        "fill_s": round(wall, 1),
        "added_per_s": int(len(codes) / wall),
        "added_per_cpu_s": int(len(codes) / cpu),
        "files_mb": round(size / 1e6, 1),
    }


def searched(store: Store, folder: Path, codes: Codes, queries: Codes, reach: NDArray[Any]) -> dict[str, Any]:
    before, started = resident(), time.perf_counter()
    search = store.opened(folder, codes)
    opened = time.perf_counter()
    search(queries[:1])
    first = time.perf_counter()
    for number in range(300):  # enough that the background index is built
        search(queries[number % 100 : number % 100 + 1])
    while any("anglehash" in thread.name for thread in threading.enumerate()):
        time.sleep(0.1)
    milliseconds, nearer = [], []
    for start in range(100, QUERIES, 100):
        asked = [queries[row : row + 1] for row in range(start, start + 100)]
        cpu = time.process_time()
        answers = [search(query) for query in asked]
        milliseconds.append(10 * (time.process_time() - cpu))
        found = [
            np.bitwise_count(codes[rows] ^ own).sum(axis=1) for rows, own in zip(answers, asked, strict=True)
        ]
        nearer.append(np.mean([own <= most for own, most in zip(found, reach[start:], strict=False)]))
    return {
        "open_s": round(opened - started, 3),
        "first_answer_s": round(first - started, 3),
        "query_ms": round(min(milliseconds), 4),
        "recall": round(float(np.mean(nearer)), 4),
        "memory_mb": round((resident() - before) / 1e6, 1),
    }


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def step(name: str, folder: Path, which: str) -> None:
    """One of the two, for one store, in this process; its facts go to standard output."""
    codes, queries, reach = (np.load(folder / f"{part}.npy") for part in ("codes", "queries", "reach"))
    store, place = STORES[name], folder / "store"
    for package in IMPORTS[store.package]:  # libraries are no memory of a store, nor is compiled code
        import_module(package)
    if which == "fill":
        facts = filled(store, place, codes)
    else:
        if store.package == "anglehash":
            open_engine(place, codes[:5000])
        facts = searched(store, place, codes, queries, reach)
    print(json.dumps(facts))


def measured(name: str, folder: Path) -> dict[str, Any]:
    """All facts of one store on the codes that lie in a folder."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        for part in ("codes", "queries", "reach"):
            (Path(place) / f"{part}.npy").symlink_to(folder / f"{part}.npy")
        (Path(place) / "store").mkdir()
        facts: dict[str, Any] = {"version": version(STORES[name].package)}
        for which in ("fill", "search"):
            command = [sys.executable, "-m", "benchmarks.stores", "--step", name, place, which]
            done = subprocess.run(command, capture_output=True, text=True, cwd=HERE.parent, check=False)
            if done.returncode:
                raise SystemExit(f"{name}: {which}\n{done.stderr}")
            facts |= json.loads(done.stdout)
        return facts


def prepare(case: str, n: int, folder: Path) -> float:
    """Codes, queries and the true distance of the K-th, into a folder; the share of distinct codes."""
    from anglehash.index import make_index
    from benchmarks import search

    given, _ = search.codes_of(search.CASES[case], search.CASES[case].n + QUERIES)
    codes, queries = given[QUERIES : QUERIES + n], given[:QUERIES]
    np.save(folder / "codes.npy", codes)
    np.save(folder / "queries.npy", queries)
    np.save(folder / "reach.npy", make_index("faiss", codes, BITS).search(queries, K).distances[:, -1])
    return round(search.distinct(codes) / len(codes), 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    default = HERE.parent / "results" / "stores.json"
    parser.add_argument("-o", "--output", type=Path, default=default, help="JSON; finished stores are kept")
    parser.add_argument("--case", action="append", help=f"of {CASES}; by default all")
    parser.add_argument("--only", action="append", choices=STORES, help="this store; again, if it is there")
    parser.add_argument("--n", type=int, default=N, help="number of codes: the first of a case")
    parser.add_argument("--step", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step:
        step(arguments.step[0], Path(arguments.step[1]), arguments.step[2])
        return
    os.environ.setdefault("ANGLEHASH_DATA", str(HERE.parents[1] / "shared" / "data"))
    path: Path = arguments.output
    for case in arguments.case or CASES:
        with tempfile.TemporaryDirectory() as folder:
            share = prepare(case, arguments.n, Path(folder))
            key = case if arguments.n == N else f"{case}, {arguments.n:,} of them"
            for name in arguments.only or STORES:
                record = json.loads(path.read_text()) if path.exists() else {}
                stores = record.setdefault(key, {"distinct": share, "stores": {}})["stores"]
                if name in stores and not arguments.only:
                    continue
                stores[name] = measured(name, Path(folder)) | {"python": platform.python_version()}
                path.write_text(json.dumps(record, indent=2) + "\n")
                print(case, name, stores[name], flush=True)


if __name__ == "__main__":
    main()
