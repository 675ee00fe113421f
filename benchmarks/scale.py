"""Remote galleries: insert rate, latency and disk of each engine, against our own index over the same codes.

    python benchmarks/scale.py milvus:m.db postgres:dbname=images --n 100000
    python benchmarks/scale.py postgres:dbname=images --gallery GALLERY      # learned codes, asked for by their own

Uniform 64-bit codes, each with an id and a label, k = 10, one client, one query at a time. Answers are held against
a scan of all codes: exact searches must equal it, of approximate ones the recall is given, which counts an answer as
right if it is not farther away than the k-th of the scan. "push" is the whole command: sending, reading back,
comparing, indexes. Results go to standard output as JSON; docs/scale.md has them with their circumstances.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from anglehash.codes import Codes, hamming
from anglehash.errors import AnglehashError
from anglehash.gallery.filters import Filter
from anglehash.gallery.gallery import Gallery
from anglehash.gallery.target import Target
from anglehash.remote.gallery import RemoteGallery
from anglehash.remote.transfer import push

K, QUERIES = 10, 200


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("targets", nargs="+")
    parser.add_argument("--n", type=int, default=100_000)
    parser.add_argument("--gallery", type=Path, help="take the codes of this gallery")
    arguments = parser.parse_args()
    if arguments.gallery:
        of_gallery(arguments.gallery, arguments.targets)
        return
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 256, (arguments.n, 8), dtype=np.uint8)
    queries = rng.integers(0, 256, (QUERIES, 8), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        ids = [f"photos/{row // 1000:05d}/{row:09d}.jpg" for row in range(len(codes))]
        labels = [[f"class {row % 100}"] for row in range(len(codes))]
        path = Path(folder) / "g"
        with Gallery.create(path, codes=codes, ids=ids, labels=labels, bits=64, model_id="m") as local:
            print(json.dumps({"local": searched(local, queries, codes, "multi-index")}))
        for target in arguments.targets:
            print(json.dumps({target: measured(path, Target.parse(target), queries, codes)}), flush=True)


def of_gallery(path: Path, targets: list[str]) -> None:
    """The same of a gallery that is there; the queries are drawn from its codes."""
    with Gallery.open(path) as local:
        codes = local.codes
        queries = codes[np.random.default_rng(0).permutation(len(codes))[:QUERIES]]
        print(json.dumps({"local": searched(local, queries, codes, "multi-index")}))
    for target in targets:
        print(
            json.dumps({target: measured(path, Target.parse(target), queries, codes, label=False)}),
            flush=True,
        )


def measured(
    path: Path, target: Target, queries: Codes, codes: Codes, *, label: bool = True
) -> dict[str, Any]:
    """Push a gallery and search it; with ``label``, by one of the labels that ``main`` gives too."""
    started = time.perf_counter()
    push(path, target, force=True)
    seconds = time.perf_counter() - started
    facts: dict[str, Any] = {
        "items": len(codes),
        "push_s": round(seconds, 1),
        "per_s": round(len(codes) / seconds),
    }
    with RemoteGallery.open(target) as gallery:
        facts["exact"] = searched(gallery, queries, codes, "exact")
        if label:
            facts["label"] = searched(gallery, queries, codes, "exact", Filter(labels=("class 7",)))
        try:
            facts["hnsw"] = searched(gallery, queries, codes, "hnsw")
        except AnglehashError as error:
            facts["hnsw"] = str(error)
    facts["load_average"] = round(os.getloadavg()[0], 1)
    return facts


def searched(
    gallery: Gallery | RemoteGallery, queries: Codes, codes: Codes, engine: str, where: Filter | None = None
) -> dict[str, float]:
    """Milliseconds of a query, and its recall."""
    gallery.search(queries[:1], K, engine=engine, where=where)
    times, right = list[float](), list[float]()
    rows = np.arange(len(codes)) if where is None else np.arange(7, len(codes), 100)
    for query in queries:
        started = time.perf_counter()
        hits = gallery.search(query[None], K, engine=engine, where=where)[0]
        times.append(1e3 * (time.perf_counter() - started))
        farthest = np.sort(hamming(query[None], codes[rows])[0])[K - 1]
        right.append(sum(hit.distance <= farthest for hit in hits) / K)
    return {
        "median_ms": round(float(np.median(times)), 2),
        "p99_ms": round(float(np.percentile(times, 99)), 2),
        "recall": round(float(np.mean(right)), 4),
    }


if __name__ == "__main__":
    main()
