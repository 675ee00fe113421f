"""CPU milliseconds a query for the 10 nearest of a million codes: every engine, and faiss left to itself.

    python benchmarks/search.py [--out result.json]

One query at a time, on one thread, after a warm-up. Every answer is checked: distances are recomputed, and
ids must be the first in (distance, id) order. faiss left to itself promises no order of equally distant
items; ``in_order`` says for how many of the queries it gave it all the same.

Random codes are the worst case: no two are equal, so an engine that searches each distinct code once, or
passes over parts of them, gains nothing. Learned codes repeat; ``repeated`` are codes of ten classes
with every bit flipped with a probability of 0.02.

Result (1,000,000 codes of 64 bits, k = 10, 100 queries, faiss 1.15.1, x86_64, busy machine; median, then p99,
each the range over 3 runs):

    codes                   random                     repeated (147,000 distinct)
    faiss itself     1.07-1.09    1.3-1.6             1.07-1.08    1.4-1.5
    faiss            1.20-1.27    1.6-1.8             1.38-1.44    1.7-1.9
    exact            16.9-18.4     32-48               8.4-9.6      9-11

faiss left to itself was in order for every query, in this version. So the certain order costs 0.1 to 0.4 ms.
"""

from __future__ import annotations

import os

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")

import argparse
import json
import platform
import subprocess
from collections.abc import Callable
from pathlib import Path
from time import process_time
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from anglehash.codes import Codes, hamming, pack
from anglehash.search.engines import ENGINES, make_index

Search = Callable[[Codes], tuple[NDArray[np.int32], NDArray[np.int64]]]


def random_codes(n: int, bits: int, rng: np.random.Generator) -> Codes:
    return rng.integers(0, 256, (n, bits // 8), dtype=np.uint8)


def repeated_codes(n: int, bits: int, rng: np.random.Generator) -> Codes:
    classes = np.random.default_rng(1).random((10, bits)) < 0.5
    parts = []
    for start in range(0, n, 100_000):
        size = min(100_000, n - start)
        flipped = rng.random((size, bits), dtype=np.float32) < 0.02
        parts.append(pack(classes[rng.integers(0, 10, size)] ^ flipped))
    return np.concatenate(parts)


def searches(database: Codes, bits: int, k: int) -> dict[str, Search]:
    """What is compared: each engine, and faiss without what we add."""
    raw: Any = faiss.IndexBinaryFlat(bits)
    raw.add(database)
    found: dict[str, Search] = {"(faiss itself)": lambda query: raw.search(query, k)}
    for name in ENGINES:
        index = make_index(name, database, bits)
        found[name] = lambda query, index=index: index.search(query, k)  # type: ignore[misc]
    return found


def measure(search: Search, queries: Codes, truth: list[tuple[NDArray[Any], NDArray[Any]]]) -> dict[str, Any]:
    """CPU milliseconds a query, and whether the answers are right."""
    search(queries[:1])  # warm up: lazy allocation is not search time
    milliseconds, in_order = [], 0
    for row, (distances, ids) in enumerate(truth):
        started = process_time()
        got_distances, got_ids = search(queries[row : row + 1])
        milliseconds.append(1e3 * (process_time() - started))
        assert np.array_equal(got_distances[0], distances), "wrong distances"
        in_order += np.array_equal(got_ids[0], ids)
    return {
        "median_ms": round(float(np.median(milliseconds)), 3),
        "p99_ms": round(float(np.percentile(milliseconds, 99)), 3),
        "in_order": in_order / len(truth),
    }


def run(n: int, bits: int, k: int, count: int) -> dict[str, Any]:
    results: dict[str, Any] = {}
    for kind, make in {"random": random_codes, "repeated": repeated_codes}.items():
        rng = np.random.default_rng(0)
        database, queries = make(n, bits, rng), make(count, bits, rng)
        truth = []
        for query in queries:
            distances = hamming(query[None], database)[0]
            ids = np.argsort(distances, kind="stable")[:k]
            truth.append((distances[ids], ids))
        engines = {
            name: measure(search, queries, truth) for name, search in searches(database, bits, k).items()
        }
        assert all(found["in_order"] == 1 for name, found in engines.items() if name in ENGINES)
        results[kind] = {"distinct_codes": len(np.unique(database.view(f"V{bits // 8}"))), "engines": engines}
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=1_000_000, help="codes in the database")
    parser.add_argument("--bits", type=int, default=64, help="a multiple of 8")
    parser.add_argument("-k", type=int, default=10)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--out", type=Path, help="also write the JSON here")
    options = parser.parse_args()
    faiss.omp_set_num_threads(1)
    command = ["git", "describe", "--always", "--dirty"]
    commit = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent).stdout.strip()
    result = {
        "n": options.n,
        "bits": options.bits,
        "k": options.k,
        "queries": options.queries,
        "note": "random codes are the worst case; learned codes repeat",
        "codes": run(options.n, options.bits, options.k, options.queries),
        "circumstances": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "faiss": faiss.__version__,
            "machine": platform.machine(),
            "commit": commit,
            "threads": 1,
        },
    }
    text = json.dumps(result, indent=2)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
