"""Exact search of learned codes: our engine against faiss' flat index, on one thread.

    python benchmarks/search.py
    python benchmarks/search.py --only "10M MLP, 64 bits"

Codes are those of the default method with likeness, as ``anglehash train`` learns it, on the cached features of
CIFAR-10; for comparison those of heads alone, on CIFAR-10 and Tiny-ImageNet, chosen for their share of distinct codes:
from a fifth to all of them; and uniform codes. They are enlarged by resampling until there are enough of them, with as
many distinct ones among them as among the images (to one per cent). Queries are drawn like the database. Every answer
is held against faiss with its ties put in order. The engine's own constants (what a touch costs, when a scan is better)
were set on codes of heads alone and another machine, so the ratios are not those of a stranger's codes.

"Bare scan" is XOR and popcount of all rows with nothing made of it: no scan of rows can be quicker. Times are the
best of five, taking turns; a test suite ran on the other core. An earlier whole run, on a busy machine, gave up to 40 %
more milliseconds where tables are used.

Result, older (Python 3.11, faiss 1.15.1, x86-64 with AVX2, one thread); docs/search.md has the newer one, on a
processor that counts bits by AVX-512, where a bare scan takes a third as long and faiss 1.2 times. Times faster than
``IndexBinaryFlat``, in batches of 100 queries (40 at 10 million); behind it, our time as a part of a bare scan's;
memory as multiple of the packed codes:

    codes                     distinct   k = 10        k = 100       within 2 bits            memory
    1M, 64 bits, csq             26 %    78    .05     33    .11     5.4   (33,958)         1.7
    1M, 64 bits                  42 %    66    .06     24    .16     6.9   (16,217)         2.3
    1M, 64 bits                  63 %    42    .09     13    .29     18    (2,484)          3.0
    1M, 64 bits, linear          87 %    21    .18     6.2   .64     44    (162)            4.0
    1M, 64 bits, Tiny           100 %    7.8   .48     2.7   1.4     73    (0)              3.7
    1M, 64 bits, uniform        100 %    2.6   1.4     1.9   2.0     114   (0)              3.7
    1M, 128 bits                 67 %    19    .09     6.8   .27     15    (5,378)          3.2
    1M, 128 bits                 75 %    15    .12     4.6   .40     30    (2,179)          3.5
    1M, 128 bits                 91 %    10    .24     3.6   .68     26    (93)             3.4
    1M, 128 bits, uniform       100 %    1.5   1.2     1.3   1.4     136   (0)              3.6
    10M, 64 bits                 64 %    254   .01     78    .05     123   (3,944)          2.8
    10M, 64 bits, linear         87 %    81    .05     27    .13     332   (230)            3.5
    10M, 64 bits, uniform       100 %    3.4   1.1     2.6   1.4     1159  (0)              3.9

A search within a radius of many answers is bound by writing them down in order, which faiss does not do. Asked one
query at a time, both sides so, the ratios are .3 to 1.1 of these; 128-bit uniform codes are then slower than faiss
(.9). Ten million codes are built in 6.6 to 10.5 s.
"""

from __future__ import annotations

import os

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")

import argparse
import json
import platform
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from time import process_time
from typing import Any, NamedTuple

import faiss
import numba
import numpy as np
from numpy._core._multiarray_umath import __cpu_features__  # type: ignore[import-not-found]
from numpy.typing import NDArray

from anglehash.codes import Codes, pack, width
from anglehash.config import TrainConfig
from anglehash.data.sources.open import open_dataset
from anglehash.evaluation.kernels import kernel
from anglehash.files import cache_dir, write_json
from anglehash.index import CodeIndex, make_index
from anglehash.index.multi_index._groups import words_of
from anglehash.index.multi_index._kernels import BLOCK, distances
from anglehash.methods.catalogue import settled
from anglehash.models.backbones import make_backbone
from anglehash.models.features import extract
from anglehash.models.heads.hash_head import logits_of
from anglehash.training.fit_head import Labelled, learn_head

HERE = Path(__file__).parent
MOST_IMAGES = 60_000  # of a data set
REPEATS = 5
Record = dict[str, Any]


class Case(NamedTuple):
    """Codes: those of a head, or uniform ones without a data set."""

    n: int
    bits: int
    data: str = ""
    method: str = "andsh"
    hidden: int = 512
    epochs: int = 5
    images: int = 5000  # that the head learns from
    default: bool = False  # the settings are those of "anglehash train", with likeness


MILLION = 1_000_000
CASES = {
    "1M default, 64 bits": Case(MILLION, 64, "cifar10", default=True),
    "1M default, 128 bits": Case(MILLION, 128, "cifar10", default=True),
    "10M default, 64 bits": Case(10 * MILLION, 64, "cifar10", default=True),
    "10M default, 128 bits": Case(10 * MILLION, 128, "cifar10", default=True),
    "1M csq MLP, 64 bits": Case(MILLION, 64, "cifar10", "csq", epochs=10, images=50_000),
    "1M MLP, 30 epochs, 64 bits": Case(MILLION, 64, "cifar10", epochs=30),
    "1M MLP, 64 bits": Case(MILLION, 64, "cifar10"),
    "1M linear, 64 bits": Case(MILLION, 64, "cifar10", hidden=0),
    "1M Tiny-ImageNet MLP, 64 bits": Case(MILLION, 64, "tiny-imagenet", images=20_000),
    "1M uniform, 64 bits": Case(MILLION, 64),
    "1M MLP, 30 epochs, 128 bits": Case(MILLION, 128, "cifar10", epochs=30),
    "1M MLP, 15 epochs, 128 bits": Case(MILLION, 128, "cifar10", epochs=15),
    "1M MLP, 128 bits": Case(MILLION, 128, "cifar10"),
    "1M uniform, 128 bits": Case(MILLION, 128),
    "10M MLP, 64 bits": Case(10 * MILLION, 64, "cifar10"),
    "10M linear, 64 bits": Case(10 * MILLION, 64, "cifar10", hidden=0),
    "10M uniform, 64 bits": Case(10 * MILLION, 64),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    default = HERE.parent / "results" / "search.json"
    parser.add_argument(
        "-o", "--output", type=Path, default=default, help="JSON; finished cases of it are kept"
    )
    parser.add_argument("--only", action="append", choices=CASES, help="this case; again, if it is there")
    arguments = parser.parse_args()
    os.environ.setdefault("ANGLEHASH_DATA", str(HERE.parents[1] / "shared" / "data"))
    faiss.omp_set_num_threads(1)
    path: Path = arguments.output
    cases: Record = json.loads(path.read_text(encoding="utf-8"))["cases"] if path.exists() else {}
    wanted = arguments.only or [name for name in CASES if cases.get(name, {}).get("case") != settings(name)]
    for name in wanted:
        cases[name] = {"case": settings(name)} | measured(CASES[name]) | {"circumstances": circumstances()}
        in_order = {name: cases[name] for name in CASES if name in cases}
        write_json(path, {"cases": in_order})
        print(table({name: cases[name]}), flush=True)
    print(table({name: cases[name] for name in CASES if name in cases}))


def settings(name: str) -> Record:
    case = CASES[name]
    if case.default:
        return {key: getattr(case, key) for key in ("n", "bits", "data", "images", "default")}
    return {key: value for key, value in case._asdict().items() if key != "default"}


# --- codes


def codes_of(case: Case, count: int) -> tuple[Codes, Record]:
    """``count`` codes, in no order, and what is known of them."""
    if not case.data:
        codes = np.random.default_rng(0).integers(0, 256, (count, width(case.bits)), dtype=np.uint8)
        return codes, {}
    logits, classes = logits_of_head(case)
    share = distinct(pack(logits)) / len(logits)
    codes, spread = enlarged(logits, classes, count, share)
    return np.random.default_rng(1).permutation(codes), {
        "images": len(logits),
        "distinct_among_images": round(share, 4),
        "spread": round(spread, 4),
    }


def logits_of_head(case: Case) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The logits that a head gives for images, most of which it has not seen, and their classes."""
    source, rng = open_dataset(case.data), np.random.default_rng(0)
    known = np.flatnonzero(source.labels.any(axis=1))
    rows = np.sort(rng.permutation(known)[:MOST_IMAGES])
    features = extract(
        source.images, make_backbone("efficientnet_lite0", size=128), rows=rows, cache=cache_dir()
    ).values
    labels = source.labels[rows]
    part = rng.permutation(len(rows))[: case.images]
    config = TrainConfig(
        method=case.method,
        bits=case.bits,
        hidden=case.hidden,
        batch_norm=case.hidden > 0,
        dropout=0.5,
        epochs=case.epochs,
        likeness=0.0,
    )
    if case.default:
        config = TrainConfig(bits=case.bits)
    head = learn_head(Labelled(features[part], labels[part]), settled(config)).head
    return logits_of(head, features), labels.argmax(axis=1)


def enlarged(
    logits: NDArray[np.float32], classes: NDArray[np.int64], count: int, share: float
) -> tuple[Codes, float]:
    """More codes than there are images, as many of them distinct.

    An image is drawn, and the difference of two others of its class, times a spread, is added to its logits. The
    spread is the one that keeps the share of distinct codes, to one per cent.
    """
    rng = np.random.default_rng(0)
    order = np.argsort(classes, kind="stable")
    starts = np.searchsorted(classes[order], np.arange(classes.max() + 2))
    drawn = rng.integers(0, len(logits), count)
    first, size = starts[classes[drawn]], np.diff(starts)[classes[drawn]]
    one, other = (order[first + (rng.random(count) * size).astype(np.int64)] for _ in range(2))

    def codes_at(spread: float) -> Codes:
        parts = []
        for start in range(0, count, 100_000):
            a, b, c = (rows[start : start + 100_000] for rows in (drawn, one, other))
            parts.append(pack(logits[a] + np.float32(spread) * (logits[b] - logits[c])))
        return np.concatenate(parts)

    low, high = 0.0, 2.5
    while True:
        spread = (low + high) / 2
        codes = codes_at(spread)
        found = distinct(codes) / count
        if abs(found - share) < 0.01 or high - low < 0.01:
            return codes, spread
        low, high = (spread, high) if found < share else (low, spread)


def distinct(codes: Codes) -> int:
    words = words_of(codes)
    words = words[np.lexsort(words.T)]
    return 1 + int((words[1:] != words[:-1]).any(axis=1).sum())


# --- measuring


def measured(case: Case) -> Record:
    """Milliseconds a query, best of some repeats that take turns, of searches whose answers were compared."""
    number = 100 if case.n <= MILLION else 40
    codes, facts = codes_of(case, case.n + number)
    queries, database = codes[:number], np.ascontiguousarray(codes[number:])
    flat: Any = faiss.IndexBinaryFlat(case.bits)
    flat.add(database)
    started = process_time()
    index: Any = make_index("multi-index", database, case.bits)
    index.build()
    facts |= {
        "distinct": round(distinct(database) / case.n, 4),
        "build_seconds": round(process_time() - started, 2),
        "memory_of_codes": round(index.nbytes / database.nbytes, 2),
        "tables_up_to_k": min(index._view.built.most, case.n),
    }
    truth = make_index("faiss", database, case.bits)
    check(index, truth, queries)
    scan = bare_scan(words_of(queries), words_of(database).T.copy())
    found = {}
    for k in (10, 100):
        found[f"k = {k}"] = taking_turns(
            {
                "faiss": lambda k=k: flat.search(queries, k),  # type: ignore[misc]
                "faiss, one by one": lambda k=k: [flat.search(query[None], k) for query in queries],  # type: ignore[misc]
                "ours": lambda k=k: index.search(queries, k),  # type: ignore[misc]
                "ours, one by one": lambda k=k: [index.search(query[None], k) for query in queries],  # type: ignore[misc]
                "bare scan": scan,
            },
            number,
        )
    near = taking_turns(
        {
            "faiss": lambda: flat.range_search(queries, 3),
            "ours": lambda: index.search_radius(queries, 2),
            "bare scan": scan,
        },
        number,
    )
    answers = index.search_radius(queries, 2).lims[-1] / number
    return facts | {"searches": found | {"radius 2": near | {"answers": round(float(answers), 1)}}}


def check(index: CodeIndex, truth: CodeIndex, queries: Codes) -> None:
    """The first searches, which are not timed: distances and ids are those of faiss in a certain order."""
    pairs: list[Any] = [(index.search(queries, k), truth.search(queries, k)) for k in (10, 100)]
    for own, expected in [*pairs, (index.search_radius(queries, 2), truth.search_radius(queries, 2))]:
        assert all(map(np.array_equal, own, expected)), "wrong answer"


def taking_turns(searches: dict[str, Callable[[], Any]], queries: int) -> Record:
    best = dict.fromkeys(searches, np.inf)
    for _ in range(REPEATS):
        for name, search in searches.items():
            started = process_time()
            search()
            best[name] = min(best[name], process_time() - started)
    return {name: round(1e3 * seconds / queries, 5) for name, seconds in best.items()}


def bare_scan(queries: NDArray[np.uint64], codes: NDArray[np.uint64]) -> Callable[[], None]:
    """XOR and popcount of all codes, and nothing made of it: what no scan of the rows can be quicker than."""
    out = np.empty(BLOCK, dtype=np.uint16)
    _pass_over(queries[:1], codes, out)
    return lambda: _pass_over(queries, codes, out)


@kernel
def _pass_over(queries: NDArray[np.uint64], codes: NDArray[np.uint64], out: NDArray[np.uint16]) -> None:
    for start in range(0, codes.shape[1], BLOCK):
        for number in range(len(queries)):
            distances(queries[number], codes, start, min(start + BLOCK, codes.shape[1]), out)


# --- output


def table(cases: Record) -> str:
    """Markdown: a row for each case and search."""
    heads = [
        "codes",
        "distinct",
        "search",
        "faiss, ms",
        "ours, ms",
        "ratio",
        "one by one",
        "of a bare scan",
        "memory",
    ]
    rows = [heads, ["---"] * len(heads)]
    for name, record in cases.items():
        for search, ms in record["searches"].items():
            alone = ms.get("ours, one by one")
            rows.append(
                [
                    name,
                    f"{100 * record['distinct']:.0f} %",
                    search + (f" ({ms['answers']:,.0f} answers)" if "answers" in ms else ""),
                    f"{ms['faiss']:.3g}",
                    f"{ms['ours']:.3g}",
                    f"{ms['faiss'] / ms['ours']:.1f}",
                    f"{ms['faiss, one by one'] / alone:.1f}" if alone else "",
                    f"{ms['ours'] / ms['bare scan']:.2g}",
                    f"{record['memory_of_codes']:.1f}",
                ]
            )
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def circumstances() -> Record:
    command: Sequence[str] = ["git", "describe", "--always", "--dirty"]
    commit = subprocess.run(command, capture_output=True, text=True, cwd=HERE).stdout.strip()
    return {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "numba": numba.__version__,
        "faiss": faiss.__version__,
        "machine": platform.machine(),
        "avx512_popcount": bool(__cpu_features__.get("AVX512_ICL")),
        "commit": commit,
        "threads": 1,
    }


if __name__ == "__main__":
    main()
