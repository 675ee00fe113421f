"""What a gallery costs: adding codes durably, opening, memory, and how soon an item can be found.

    python benchmarks/gallery.py --n 1000000

Random codes of 64 bits with ids and one label each, on one thread. Adding is given per wall second and per CPU
second, since other work on the machine changes only the first. Opened files are in the page cache. Results go
to standard output as JSON; the figures in docs/reliability.md name their circumstances.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from anglehash.gallery.gallery import Gallery
from anglehash.gallery.store.items import Item
from anglehash.gallery.store.opening import open_writer
from anglehash.gallery.store.writer import Changes

BITS, BATCH = 64, 16_384


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--n", type=int, default=1_000_000)
    parser.add_argument("--engine", default="faiss")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(Path(folder) / "g", arguments.n, arguments.engine), indent=2))


def measure(path: Path, n: int, engine: str) -> dict[str, Any]:
    """Build a gallery of ``n`` items and use it."""
    codes = np.random.default_rng(0).integers(0, 256, (n, BITS // 8), dtype=np.uint8)
    none = codes[:0]
    Gallery.create(path, codes=none, ids=[], labels=[], bits=BITS, model_id="m").close()
    added = add(path, codes)
    before, started = resident(), time.perf_counter()
    gallery = Gallery.open(path)
    opened = time.perf_counter()
    memory = resident() - before
    gallery.search(codes[:1], 10, engine=engine)
    answered = time.perf_counter()
    seen = [visible(path, gallery, number, engine) for number in range(5)]
    return {
        "items": n,
        "bits": BITS,
        "engine": engine,
        **added,
        "open_s": round(opened - started, 3),
        "first_answer_s": round(answered - started, 3),
        "open_mb": round(memory / 1e6, 1),
        "codes_mb": round(codes.nbytes / 1e6, 1),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3, 1),
        "commit_ms": round(1e3 * float(np.median([s[0] for s in seen])), 1),
        "visible_ms": round(1e3 * float(np.median([s[1] for s in seen])), 1),
        "files_mb": round(sum(f.stat().st_size for f in path.rglob("*") if f.is_file()) / 1e6, 1),
        "load_average": round(os.getloadavg()[0], 1),
    }


def add(path: Path, codes: np.ndarray[Any, np.dtype[np.uint8]]) -> dict[str, int]:
    """Add all codes; rates up to the last acknowledged commit, segments written on the way included."""
    wall = cpu = 0.0
    with open_writer(path) as writer:
        for start in range(0, len(codes), BATCH):
            batch = [
                Item(f"photos/{row // 1000:05d}/{row:09d}.jpg", code.tobytes(), (f"class {row % 100}",))
                for row, code in enumerate(codes[start : start + BATCH], start)
            ]
            clock, process = time.perf_counter(), time.process_time()
            writer.commit(Changes(batch))
            wall += time.perf_counter() - clock
            cpu += time.process_time() - process
    return {"added_per_s": int(len(codes) / wall), "added_per_cpu_s": int(len(codes) / cpu)}


def visible(path: Path, gallery: Gallery, number: int, engine: str) -> tuple[float, float]:
    """Seconds that a commit of one item takes, and from then until an open gallery finds it."""
    code = np.random.default_rng(number + 1).bytes(BITS // 8)
    with open_writer(path) as writer:
        started = time.perf_counter()
        writer.commit(Changes([Item(f"new {number}", code)]))
        committed = time.perf_counter()
        gallery.refresh()
        hit = gallery.search(np.frombuffer(code, np.uint8)[None], 1, engine=engine)[0][0]
        found = time.perf_counter()
    assert hit.id == f"new {number}"
    return committed - started, found - committed


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


if __name__ == "__main__":
    main()
