"""The processes that compute cells: one thread each, ended with their parent, one failure costing one cell."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from functools import lru_cache
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

from anglehash.benchmark.experiment import Measures, compute, compute_fine_tuned
from anglehash.benchmark.run_file import Cell, Run, SplitSpec
from anglehash.benchmark.split_features import SplitFeatures, split_of
from anglehash.data.split import RetrievalSplit
from anglehash.errors import AnglehashError, TrainingError
from anglehash.progress import silent

Outcome = dict[str, Any] | str
"""What a cell came to: its numbers, or the line that says why there are none."""


def compute_all(
    run: Run, split_spec: SplitSpec, cells: Sequence[Cell], folder: Path, cache: Path, workers: int
) -> Iterator[tuple[Cell, Outcome]]:
    """Every cell with what it came to, in the order in which they are ready.

    Args:
        run: what they belong to.
        split_spec: their split.
        cells: what to compute.
        folder: the bed of the split.
        cache: folder of cached features and keys.
        workers: processes; with one, the cells are computed in this process.

    Raises:
        OSError: the disk is full, or a file cannot be read.
        TrainingError: a process was ended from outside.
    """
    if workers == 1:
        for cell in cells:
            yield cell, work(run, split_spec, cell, folder, cache)
        _opened.cache_clear()
        return
    context = multiprocessing.get_context("spawn")
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(max(1, min(workers, len(cells))), context, initializer=_begin_worker)
    try:
        jobs: dict[Future[Outcome], Cell] = {
            pool.submit(work, run, split_spec, cell, folder, cache): cell for cell in cells
        }
        for job in as_completed(jobs):
            yield jobs[job], job.result()
    except BrokenProcessPool as error:
        raise TrainingError(
            "a process of the benchmark was ended from outside (out of memory?): finished cells are kept; "
            "run the command again, with fewer --workers"
        ) from error
    finally:
        processes = set(multiprocessing.active_children()) - others
        pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:  # a cell may take minutes, and Ctrl-C does not wait for it
            process.terminate()
        for process in processes:
            process.join(5)


def work(run: Run, split_spec: SplitSpec, cell: Cell, folder: Path, cache: Path) -> Outcome:
    """Compute one cell; what goes wrong with it alone is recorded, not raised.

    Raises:
        OSError: that goes wrong with all.
    """
    try:
        with threadpool_limits(1):  # as many processes as CPUs, whose BLAS threads would fight
            found = _compute(run, split_spec, cell, folder, cache)
        json.dumps(found, allow_nan=False)
    except OSError:
        raise
    except AnglehashError as error:
        return str(error)
    except Exception as error:  # of a library, in this cell: out of memory, a matrix that is singular
        line = (str(error).splitlines() or ["no reason given"])[0]
        return f"{type(error).__name__}: {line}"
    return found


def measures_of(run: Run, split_spec: SplitSpec, cell: Cell) -> Measures:
    """How much of a cell is kept: curves and pictures of the first seed on the first split only."""
    first = split_spec == run.split_specs()[0] and cell.seed == run.seeds[0]
    headline = split_spec.split_seed == run.split_seeds[0]
    return Measures(
        map_logits=run.map_logits,
        map_asymmetric=run.map_asymmetric,
        details=first,
        queries=run.examples.get("queries", 6) if first and run.examples else 0,
        answers=run.examples.get("answers", 8),
        likeness=headline
        and cell.kind != "baseline"
        and (run.likeness_bits is None or cell.bits in run.likeness_bits),
    )


def _compute(run: Run, split_spec: SplitSpec, cell: Cell, folder: Path, cache: Path) -> dict[str, Any]:
    shared, wanted = _opened(folder), measures_of(run, split_spec, cell)._replace(codes=folder / CODES)
    if cell.kind == "deep" and cell.config.fine_tune:
        return compute_fine_tuned(cell, shared, _split(run, split_spec, cache), cache, wanted)
    return compute(cell, shared, wanted)


@lru_cache(maxsize=1)
def _opened(folder: Path) -> SplitFeatures:
    return SplitFeatures.load(folder)


CODES = "codes"
"""The folder of a bed in which the codes of its cells are, until they are taken from there."""

_SPLITS: dict[str, RetrievalSplit] = {}  # the newest: with fine tuning a process reads images too


def _split(run: Run, split_spec: SplitSpec, cache: Path) -> RetrievalSplit:
    key = repr((run.data, run.protocol, split_spec))
    if key not in _SPLITS:
        _SPLITS.clear()
        _SPLITS[key] = split_of(run, split_spec, cache, silent)
    return _SPLITS[key]


def _begin_worker() -> None:
    """Leave Ctrl-C to the parent, and go with it if it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:

        def follow() -> None:
            wait([parent.sentinel])
            os._exit(1)

        threading.Thread(target=follow, daemon=True).start()
