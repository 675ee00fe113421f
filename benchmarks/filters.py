"""New filters on a gallery of a million items: CPU and wall seconds of each, and what others notice meanwhile.

    python benchmarks/filters.py                  # about 2 minutes, most of it to make the gallery

Random codes of 64 bits; a label and three columns of metadata each. "Others" is one thread that searches without a
filter while another asks with a new one. The first filter compares the truth with its hash, and is not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from anglehash.gallery.filters import Condition, Filter
from anglehash.gallery.gallery import Gallery
from anglehash.gallery.store.items import Item
from anglehash.gallery.store.opening import open_writer

FILTERS = {
    "label": Filter(labels=("3",)),
    "path photos/000*": Filter(path="photos/000*"),
    "path *7.jpg": Filter(path="*7.jpg"),
    "path *00012*": Filter(path="*00012*"),
    "path photos/0????/*3.jpg": Filter(path="photos/0????/*3.jpg"),
    "year>=2019": Filter(where=(Condition("year", ">=", "2019"),)),
    "iso>400": Filter(where=(Condition("iso", ">", "400"),)),
    "year>=2019, iso>9000": Filter(where=(Condition("year", ">=", "2019"), Condition("iso", ">", "9000"))),
}
BESIDE = {
    "path photos/0????/*4.jpg": Filter(path="photos/0????/*4.jpg"),
    "year>=2018": Filter(where=(Condition("year", ">=", "2018"),)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--n", type=int, default=1_000_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder) / "g", given.n)
        with Gallery.open(Path(folder) / "g") as gallery:
            gallery.search(gallery.codes[:1000], 1)  # builds the index
            gallery.listed(Filter(labels=("none",)), limit=1)
            for name, where in FILTERS.items():
                print(json.dumps({"filter": name, **timed(gallery, where)}), flush=True)
            for name, where in BESIDE.items():
                print(json.dumps({"beside": name, **beside(gallery, where)}), flush=True)


def make(path: Path, n: int) -> None:
    """A gallery of ``n`` items."""
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 256, (n, 8), dtype=np.uint8)
    years, isos = rng.integers(1990, 2025, n).tolist(), rng.integers(0, 10_000, n).tolist()
    Gallery.create(path, codes=codes[:0], ids=[], labels=[], bits=64, model_id="m").close()
    with open_writer(path) as writer:
        writer.commit_all(
            Item(
                f"photos/{row // 1000:05d}/{row:09d}.{'jpg' if row % 3 else 'png'}",
                codes[row].tobytes(),
                (str(row % 100),),
                {"year": years[row], "iso": isos[row], "camera": f"c{row % 17}"},
            )
            for row in range(n)
        )


def timed(gallery: Gallery, where: Filter) -> dict[str, float]:
    """Seconds of a filter that is new."""
    wall, computed = time.perf_counter(), time.process_time()
    gallery.listed(where, limit=1)
    return {
        "wall_s": round(time.perf_counter() - wall, 2),
        "cpu_s": round(time.process_time() - computed, 2),
        "load_average": round(os.getloadavg()[0], 1),
    }


def beside(gallery: Gallery, where: Filter) -> dict[str, Any]:
    """Milliseconds of searches before and beside a filter that is new."""
    times, over, codes = list[float](), threading.Event(), gallery.codes[:1000]

    def others() -> None:
        while not over.is_set():
            began = time.perf_counter()
            gallery.search(codes[len(times) % 1000][None], 20)
            times.append(1e3 * (time.perf_counter() - began))

    thread = threading.Thread(target=others)
    thread.start()
    time.sleep(1)
    before = len(times)
    took = timed(gallery, where)
    during = times[before : len(times) + 1]
    over.set()
    thread.join()
    return {
        **took,
        "median_ms_before": round(float(np.median(times[:before])), 2),
        "median_ms_beside": round(float(np.median(during)), 2),
        "longest_ms_beside": round(max(during), 1),
    }


if __name__ == "__main__":
    main()
