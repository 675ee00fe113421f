"""Exact mAP of 10,000 queries on 50,000 database codes of 64 bits, against the loop of research code.

    python benchmarks/evaluation.py [--out result.json]

The baseline is the usual per-query loop, written here from its definition: relevance and distances
``0.5 * (bits - database @ query)`` by matrix products, an argsort, and the precision at every relevant
rank. It is given codes and labels as float32, which suits it best; ours starts from packed codes and bool
labels. Both have one thread and are timed in turn, in CPU seconds, after a warm-up (the first call of ours
compiles, and is reported beside). The baseline answers a sample of the queries in each round; its time for all
is extrapolated from that, since its time per query does not depend on the query.

The codes are those of a hasher that has learned something: 10 classes, each bit of an image flipped from the
code of its class with a probability of 0.2. The two mAP differ by the tie rule: an argsort breaks ties as it
likes, ours is the expectation, and is checked against a second exact computation on the sample.

Result (Python 3.11, numpy 2.4.6, numba 0.68.1, x86-64 with AVX-512, 5 rounds): 0.34 s against 11.0 s, 32 times
faster (31 in the worst pairing of rounds); peak memory 227 MB, of which 158 MB are there before the call:
interpreter, libraries and data.
"""

from __future__ import annotations

import os

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")

import argparse
import json
import platform
import resource
import subprocess
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from anglehash.codes import Codes, hamming, pack, unpack
from anglehash.evaluation.metrics import average_precision
from anglehash.evaluation.ranking import average_precision_of_codes

CLASSES = 10


class Part(NamedTuple):
    """Packed codes and multi-hot labels."""

    codes: Codes
    labels: NDArray[np.bool_]


def make_part(n: int, centres: NDArray[np.bool_], rng: np.random.Generator) -> Part:
    classes = rng.integers(0, CLASSES, n)
    flipped = rng.random((n, centres.shape[1]), dtype=np.float32) < 0.2
    return Part(pack(centres[classes] ^ flipped), np.eye(CLASSES, dtype=bool)[classes])


def research_loop(
    query: NDArray[np.float32],
    database: NDArray[np.float32],
    query_labels: NDArray[np.float32],
    database_labels: NDArray[np.float32],
) -> float:
    precisions = []
    for code, label in zip(query, query_labels, strict=True):
        relevant = (database_labels @ label > 0).astype(np.float32)
        distances = 0.5 * (len(code) - database @ code)
        relevant = relevant[np.argsort(distances)]
        ranks = np.flatnonzero(relevant == 1) + 1
        precisions.append(float(np.mean(np.arange(1, len(ranks) + 1) / ranks)) if len(ranks) else 0.0)
    return float(np.mean(precisions))


def seconds(work: Callable[[], Any]) -> float:
    started = process_time()
    work()
    return process_time() - started


def peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    return subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent).stdout.strip()


def run(queries: int, database_size: int, bits: int, sample_size: int, rounds: int) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    centres = rng.random((CLASSES, bits)) < 0.5
    query, database = make_part(queries, centres, rng), make_part(database_size, centres, rng)

    def ours() -> NDArray[np.float64]:
        return average_precision_of_codes(
            query.codes, database.codes, query.labels, database.labels, bits=bits
        )

    started = perf_counter()
    average_precision_of_codes(query.codes[:1], database.codes, query.labels[:1], database.labels, bits=bits)
    first_call = perf_counter() - started
    before = peak_megabytes()
    exact = ours()
    peak = peak_megabytes()

    sample = slice(0, sample_size)
    relevant = query.labels[sample].astype(np.float32) @ database.labels.T.astype(np.float32) > 0
    check = average_precision(hamming(query.codes[sample], database.codes), relevant)
    assert np.allclose(exact[sample], check, rtol=1e-9), "the exact mAP is wrong"

    def signs(part: Part) -> NDArray[np.float32]:
        return 2 * unpack(part.codes, bits).astype(np.float32) - 1

    floats = (
        signs(query)[sample],
        signs(database),
        query.labels[sample].astype(np.float32),
        database.labels.astype(np.float32),
    )
    baseline_map = research_loop(*floats)
    ours_s, baseline_s = [], []
    for _ in range(rounds):
        ours_s.append(seconds(ours))
        baseline_s.append(seconds(lambda: research_loop(*floats)) * queries / sample_size)
    return {
        "queries": queries,
        "database": database_size,
        "bits": bits,
        "classes": CLASSES,
        "rounds": rounds,
        "ours_seconds": median(ours_s),
        "rival_seconds_extrapolated": median(baseline_s),
        "rival_queries_timed": sample_size,
        "ratio": median(baseline_s) / median(ours_s),
        "ratio_lowest": min(baseline_s) / max(ours_s),
        "peak_megabytes": peak,
        "peak_megabytes_before": before,
        "first_call_seconds": first_call,
        "map_exact": float(exact.mean()),
        "map_exact_of_sample": float(exact[sample].mean()),
        "map_rival_of_sample": baseline_map,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--queries", type=int, default=10_000)
    parser.add_argument("--database", type=int, default=50_000)
    parser.add_argument("--bits", type=int, default=64)
    parser.add_argument(
        "--sample", type=int, default=500, help="queries that the baseline answers in each round"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="also write the JSON here")
    options = parser.parse_args()
    result = run(options.queries, options.database, options.bits, options.sample, options.rounds)
    result["circumstances"] = {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "numba": numba.__version__,
        "machine": platform.machine(),
        "commit": commit(),
        "threads": 1,
    }
    text = json.dumps(result, indent=2)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
