"""Asymmetric search, one query at a time, beside the Hamming search of the same codes and beside floats.

    python benchmarks/asymmetric.py            # a minute, most of it to make and to index the codes

A million codes of 64 bits, k = 100, one thread, CPU milliseconds a query. The baseline that gives the same answers is
faiss' IndexFlatIP over the codes as floats of -1 and 1, asked with the same weights: 32 times the memory.
Codes are uniform, and the queries random: asymmetric search reads every code, so their distribution hardly matters.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable

os.environ.setdefault("OMP_NUM_THREADS", "1")

import faiss
import numpy as np

from anglehash.asymmetric import bit_weights, signs
from anglehash.codes import pack
from anglehash.index import make_index
from anglehash.index._asymmetric import nearest


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--n", type=int, default=1_000_000)
    parser.add_argument("--bits", type=int, default=64)
    parser.add_argument("--k", type=int, default=100)
    given = parser.parse_args()
    faiss.omp_set_num_threads(1)
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 256, (given.n, given.bits // 8), dtype=np.uint8)
    logits = rng.normal(size=(30, given.bits)).astype(np.float32)
    weights, queries, k = bit_weights(logits), pack(logits), given.k
    floats = faiss.IndexFlatIP(given.bits)
    for start in range(0, given.n, 1 << 16):
        floats.add(signs(codes[start : start + (1 << 16)], given.bits))
    hamming = make_index("multi-index", codes, given.bits)
    hamming.search(np.tile(queries, (100, 1)), k)  # builds it
    ways: dict[str, Callable[[int], object]] = {
        "asymmetric": lambda i: nearest(weights[i], [codes], k=k),
        "faiss IndexFlatIP": lambda i: floats.search(weights[i : i + 1].astype(np.float32), k),
        "hamming, multi-index": lambda i: hamming.search(queries[i : i + 1], k),
    }
    for i in range(3):
        same(nearest(weights[i], [codes], k=k).distances, weights[i], ways["faiss IndexFlatIP"](i))
    rounds = [{name: milliseconds(way) for name, way in ways.items()} for _ in range(3)]
    found = {name: round(min(one[name] for one in rounds), 3) for name in ways}
    print(json.dumps({
        "codes": given.n, "bits": given.bits, "k": k, "cpu_ms_per_query": found,
        "times_faster_than_floats": round(found["faiss IndexFlatIP"] / found["asymmetric"], 1),
        "times_slower_than_hamming": round(found["asymmetric"] / found["hamming, multi-index"], 1),
        "bytes_per_item": {"asymmetric": given.bits // 8, "faiss IndexFlatIP": 4 * given.bits},
        "load_average": round(os.getloadavg()[0], 1),
    }, indent=2))  # fmt: skip


def milliseconds(way: Callable[[int], object]) -> float:
    """CPU time of a query, the mean over 30."""
    began = time.process_time()
    for i in range(30):
        way(i)
    return (time.process_time() - began) / 30 * 1e3


def same(distances: np.ndarray, weights: np.ndarray, found: object) -> None:
    """The baseline's answers have the same distances."""
    assert isinstance(found, tuple)
    agreement = found[0][0].astype(np.int64)
    assert np.array_equal((np.abs(weights).sum() - agreement) // 2, distances)


if __name__ == "__main__":
    main()
