"""Run what is missing, keep what is finished, and put the result together."""

from __future__ import annotations

import multiprocessing
import platform
import signal
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

from anglehash.config import TrainConfig
from anglehash.data.split import RetrievalSplit
from anglehash.errors import AnglehashError, DataError, TrainingError
from anglehash.learn.bench.bed import Bed, make_bed, references, split_facts, split_of
from anglehash.learn.bench.cell import Wanted, compute, compute_fine_tuned
from anglehash.learn.bench.run import Cell, Place, Run, telling_settings
from anglehash.learn.bench.store import Store
from anglehash.progress import Report, silent

LIBRARIES = ("anglehash", "torch", "numpy", "scikit-learn", "faiss-cpu", "onnxruntime", "pillow")


@dataclass(frozen=True, slots=True)
class Finished:
    """A benchmark that has run.

    Attributes:
        result: what stands in ``result.json``.
        failed: cells that gave an error, and its line.
        split: the headline's split, for pictures.
    """

    result: dict[str, Any]
    failed: list[tuple[Cell, str]]
    split: RetrievalSplit


def benchmark(
    run: Run,
    output: Path,
    *,
    cache: Path,
    workers: int = 1,
    force: bool = False,
    report: Report = silent,
) -> Finished:
    """Run a benchmark; cells that are finished in ``output`` are kept.

    Args:
        run: what to run.
        output: its folder, new or of an earlier run of it.
        cache: folder of cached features and keys.
        workers: processes, each with one thread.
        force: compute finished cells anew whose images have changed since.
        report: told of the progress.

    Raises:
        DataError: the data do not suit the protocol, or finished cells are of other images.
        OutputExistsError: ``output`` holds something else.
    """
    store = Store(output)
    splits, failed, split0 = [], [], None
    total = len(list(run.cells()))
    progress = _Progress(report, total)
    for place in run.places():
        split = split_of(run, place, cache, report)
        split0 = split0 or split
        facts = split_facts(run, place, split)
        _refuse_changed(store, run, place, facts["hash"], force=force)
        missing = [cell for cell in run.cells(place) if not _is_kept(store, cell, facts["hash"])]
        progress.kept(len(list(run.cells(place))) - len(missing))
        known = _known_facts(store, facts)
        if missing or known is None:
            with _bed(run, split, cache, report) as folder:
                known = known or references(Bed.load(folder), multi_label=facts["multi_label"], report=report)
                done = _compute(run, place, missing, folder, cache, workers)
                for cell, outcome in done:
                    if isinstance(outcome, str):
                        failed.append((cell, outcome))
                    else:
                        store.put({**outcome, "split_hash": facts["hash"]})
                    progress.step(cell, outcome)
        splits.append({**facts, **known})
    assert split0 is not None
    found = (store.get(cell.hash) for cell in run.cells())
    result = store.finish(_facts(run, splits), [cell for cell in found if cell])
    return Finished(result, failed, split0)


class _Progress:
    """Counts cells over all splits."""

    def __init__(self, report: Report, total: int) -> None:
        self._report, self._total, self._done = report, total, 0

    def kept(self, n: int) -> None:
        self._done += n
        if n:
            self._report("cells", self._done, self._total, f"{n} are finished already")

    def step(self, cell: Cell, outcome: Mapping[str, Any] | str) -> None:
        self._done += 1
        said = outcome if isinstance(outcome, str) else f"mAP {outcome['map']:.3f}"
        size = f"{cell.bits} bits" if cell.bits else f"{cell.bytes_asked or 'all'} bytes"
        self._report("cells", self._done, self._total, f"{cell.variant}, {size}, seed {cell.seed}: {said}")


def _is_kept(store: Store, cell: Cell, split_hash: str) -> bool:
    kept = store.get(cell.hash)
    return kept is not None and kept["split_hash"] == split_hash


def _refuse_changed(store: Store, run: Run, place: Place, split_hash: str, *, force: bool) -> None:
    kept = (store.get(cell.hash) for cell in run.cells(place))
    changed = [cell for cell in kept if cell and cell["split_hash"] != split_hash]
    if changed and not force:
        raise DataError(
            f"{store.folder}: {len(changed)} finished cells are of other images than {run.data} holds now (split "
            f"{place.split_seed}: {changed[0]['split_hash'][:12]} then, {split_hash[:12]} now): --force computes them "
            "anew, or choose another output"
        )


def _known_facts(store: Store, facts: Mapping[str, Any]) -> dict[str, Any] | None:
    """The references of a split, if an earlier result holds them."""
    for split in store.previous.get("splits", []):
        if split.get("hash") == facts["hash"] and "ceiling" in split:
            return {key: split[key] for key in ("ceiling", "class_id_map", "class_id_bytes")}
    return None


@contextmanager
def _bed(run: Run, split: RetrievalSplit, cache: Path, report: Report) -> Iterator[Path]:
    cache.mkdir(parents=True, exist_ok=True)
    base = TrainConfig.from_dict(dict(run.settings))
    with tempfile.TemporaryDirectory(prefix="bed-", dir=cache) as folder:
        make_bed(split, base, Path(folder), cache, report)
        yield Path(folder)


def _compute(
    run: Run, place: Place, cells: Sequence[Cell], folder: Path, cache: Path, workers: int
) -> Iterator[tuple[Cell, dict[str, Any] | str]]:
    """Each cell with its result, or with the line that says why there is none."""
    if workers == 1:
        for cell in cells:
            try:
                yield cell, _work(run, place, cell, folder, cache)
            except AnglehashError as error:
                yield cell, str(error)
        _opened.cache_clear()
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(max(1, min(workers, len(cells))), context, initializer=_begin_worker)
    try:
        jobs: dict[Future[dict[str, Any]], Cell] = {
            pool.submit(_work, run, place, cell, folder, cache): cell for cell in cells
        }
        for job in as_completed(jobs):
            try:
                yield jobs[job], job.result()
            except BrokenProcessPool as error:
                raise TrainingError(
                    "a process of the benchmark was ended from outside (out of memory?): finished cells are kept; "
                    "run the command again, with fewer --workers"
                ) from error
            except AnglehashError as error:
                yield jobs[job], str(error)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in list((pool._processes or {}).values()):  # a cell may take minutes: do not wait for it
            process.terminate()


def _begin_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends us


def _work(run: Run, place: Place, cell: Cell, folder: Path, cache: Path) -> dict[str, Any]:
    with threadpool_limits(1):  # as many processes as CPUs, whose BLAS threads would fight
        return _work_alone(run, place, cell, folder, cache)


def _work_alone(run: Run, place: Place, cell: Cell, folder: Path, cache: Path) -> dict[str, Any]:
    bed = _opened(folder)
    first = place == run.places()[0] and cell.seed == run.seeds[0]
    wanted = Wanted(
        map_features=run.map_features,
        details=first,
        queries=int(run.examples.get("queries", 6)) if first and run.examples else 0,
        answers=int(run.examples.get("answers", 8)),
    )
    if cell.kind == "deep" and cell.config.fine_tune:
        return compute_fine_tuned(cell, bed, _split(run, place, cache), cache, wanted)
    return compute(cell, bed, wanted)


@lru_cache(maxsize=1)
def _opened(folder: Path) -> Bed:
    return Bed.load(folder)


_SPLITS: dict[str, RetrievalSplit] = {}  # the newest: with fine tuning a process reads images too


def _split(run: Run, place: Place, cache: Path) -> RetrievalSplit:
    key = repr((run.data, run.protocol, place))
    if key not in _SPLITS:
        _SPLITS.clear()
        _SPLITS[key] = split_of(run, place, cache, silent)
    return _SPLITS[key]


def _facts(run: Run, splits: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """All of a result but its cells."""
    base = TrainConfig.from_dict(dict(run.settings))
    return {
        "name": run.name,
        "title": run.title or run.name,
        "notes": list(run.notes),
        "place": {
            "data": run.data,
            "protocol": run.protocol,
            "options": dict(run.options),
            "backbone": base.backbone,
            "size": base.size,
            "fine_tuned": base.fine_tune,
            "rank_cut": splits[0]["rank_cut"],
            "trains_on_database": splits[0]["trains_on_database"],
            "tie_rule": "exact expectation over all orders of tied items",
        },
        "seeds": list(run.seeds),
        "bits": list(run.bits),
        "splits": list(splits),
        "variants": _variants(run),
        "published": [dict(entry) for entry in run.published],
        "examples": dict(run.examples),
        **({"example_bits": run.examples["bits"]} if "bits" in run.examples else {}),
        "circumstances": {
            "command": f"anglehash benchmark runs/{run.name}.toml -o results/{run.name}",
            "python": platform.python_version(),
            "processor": platform.machine(),
            "versions": {name: version(name) for name in LIBRARIES},
        },
    }


def _variants(run: Run) -> list[dict[str, Any]]:
    """Each variant with the settings that tell it from the defaults, and how it was tuned."""
    out: dict[str, dict[str, Any]] = {}
    for cell in run.cells(run.places()[0]):
        if cell.variant in out:
            continue
        telling = cell.settings if cell.kind == "rival" else telling_settings(cell.config)
        telling = {k: v for k, v in telling.items() if k not in ("bits", "seed")}
        chosen = run.chosen.get(cell.variant)
        out[cell.variant] = {
            "name": cell.variant,
            "method": cell.method,
            "kind": cell.kind,
            "settings": telling,
            "tuned": {k: chosen[k] for k in ("trials", "validation_map")} if chosen else None,
        }
    return list(out.values())
