"""Run what is missing, keep what is finished, and put the result together."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anglehash.benchmark.circumstances import facts_of
from anglehash.benchmark.experiment import rounded_table
from anglehash.benchmark.results_store import Store
from anglehash.benchmark.run_file import Cell, Run, SplitSpec
from anglehash.benchmark.split_features import (
    SplitFeatures,
    class_references,
    likeness_references,
    make_split_features,
    split_facts,
    split_of,
)
from anglehash.benchmark.workers import CODES, Outcome, compute_all, measures_of
from anglehash.config import TrainConfig
from anglehash.data.split import RetrievalSplit
from anglehash.errors import DataError
from anglehash.progress import Progress, silent


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
    progress: Progress = silent,
) -> Finished:
    """Run a benchmark; cells that are finished in ``output`` are kept.

    Args:
        run: what to run.
        output: its folder, new or of an earlier run of it.
        cache: folder of cached features and keys.
        workers: processes, each with one thread.
        force: recompute finished cells whose images have changed since.
        progress: callback.

    Raises:
        DataError: the data do not suit the protocol, or finished cells are of other images.
        OutputExistsError: ``output`` holds something else.
    """
    with Store(output) as store:
        return _run(run, store, cache, workers, progress, force=force)


def _run(run: Run, store: Store, cache: Path, workers: int, progress: Progress, *, force: bool) -> Finished:
    _sweep(cache)
    split_specs = [
        (split_spec, split_of(run, split_spec, cache, progress)) for split_spec in run.split_specs()
    ]
    for split_spec, split in split_specs:  # all of them before any is computed
        _refuse_changed(store, run, split_spec, split.hash, force=force)
    splits: list[dict[str, Any]] = []
    failed: list[tuple[Cell, str]] = []
    counter = _Progress(progress, len(list(run.cells())))
    for split_spec, split in split_specs:
        facts = split_facts(run, split_spec, split)
        cells = list(run.cells(split_spec))
        missing = [cell for cell in cells if not _is_kept(store, run, split_spec, cell, split)]
        counter.kept(len(cells) - len(missing))
        likeness = any(measures_of(run, split_spec, cell).likeness for cell in cells)
        known = _known_facts(store, facts, likeness=likeness, finer=split.dataset.finer is not None)
        if missing or known is None:
            with _split_features(run, split, cache, progress) as folder:
                known = known or _references(SplitFeatures.load(folder), facts, progress, likeness=likeness)
                missing = [
                    cell
                    for cell in missing
                    if not _measured_again(store, run, split_spec, cell, split, folder)
                ]
                for cell, outcome in compute_all(run, split_spec, missing, folder, cache, workers):
                    if isinstance(outcome, str):
                        failed.append((cell, outcome))
                    else:
                        store.take_codes(cell.hash, folder / CODES)
                        store.put({**outcome, "split_hash": split.hash})
                    counter.step(cell, outcome)
        splits.append({**facts, **known})
    facts = facts_of(run, splits, store.folder)
    facts["failed"] = [_failure(cell, line) for cell, line in failed]
    found = ((cell, store.get(cell.hash)) for cell in run.cells())
    # two variants may have the same settings, and so the same cell, which is then put under both names
    result = store.finish(facts, [{**kept, "variant": cell.variant} for cell, kept in found if kept])
    return Finished(result, failed, split_specs[0][1])


def _failure(cell: Cell, line: str) -> dict[str, Any]:
    return {
        "variant": cell.variant,
        "bits": cell.bits,
        "bytes": cell.bytes_asked,
        "seed": cell.seed,
        "split_seed": cell.split_spec.split_seed,
        "draw": cell.split_spec.options.get("draw"),
        "error": line,
    }


class _Progress:
    """Counts cells over all splits."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._report, self._total, self._done = progress, total, 0

    def kept(self, n: int) -> None:
        self._done += n
        if n:
            self._report("cells", self._done, self._total, f"{n} are finished already")

    def step(self, cell: Cell, outcome: Outcome) -> None:
        self._done += 1
        said = outcome if isinstance(outcome, str) else f"mAP {outcome['map']:.3f}"
        size = f"{cell.bits} bits" if cell.bits else f"{cell.bytes_asked or 'all'} bytes"
        self._report("cells", self._done, self._total, f"{cell.variant}, {size}, seed {cell.seed}: {said}")


def _references(
    shared: SplitFeatures, facts: Mapping[str, Any], progress: Progress, *, likeness: bool
) -> dict[str, Any]:
    known = class_references(shared, multi_label=facts["multi_label"], progress=progress)
    if likeness:
        known["likeness"] = rounded_table(likeness_references(shared))
    return known


def _measured_again(
    store: Store, run: Run, split_spec: SplitSpec, cell: Cell, split: RetrievalSplit, folder: Path
) -> bool:
    """Whether a finished cell lacked the measures of likeness alone, and now has them, from the codes beside it."""
    kept, codes = store.get(cell.hash), store.codes_of(cell.hash)
    if kept is None or codes is None or not _is_kept(store, run, split_spec, cell, split, likeness=False):
        return False
    store.put({**kept, "likeness": rounded_table(codes.likeness(SplitFeatures.load(folder).truth))})
    return True


def _is_kept(
    store: Store, run: Run, split_spec: SplitSpec, cell: Cell, split: RetrievalSplit, *, likeness: bool = True
) -> bool:
    """Whether a cell is finished, on these images, with all that is wanted of it now.

    ``likeness`` says whether the measures of likeness count.
    """
    kept = store.get(cell.hash)
    if kept is None or kept["split_hash"] != split.hash:
        return False
    wanted = measures_of(run, split_spec, cell)
    lacks = (
        (wanted.details and "precision_recall" not in kept)
        or (wanted.queries and "answers" not in kept)
        or (wanted.map_logits and kept.get("map_logits") is None)
        or (wanted.map_asymmetric and kept.get("map_asymmetric") is None)
        or (likeness and wanted.likeness and _lacks_likeness(kept, split))
    )
    return cell.kind == "baseline" or not lacks


def _lacks_likeness(kept: Mapping[str, Any], split: RetrievalSplit) -> bool:
    """Whether a cell has no measures of likeness, or none by a finer label that there is."""
    found = kept.get("likeness")
    return not found or (split.dataset.finer is not None and found.get("finer_map") is None)


def _refuse_changed(store: Store, run: Run, split_spec: SplitSpec, split_hash: str, *, force: bool) -> None:
    kept = (store.get(cell.hash) for cell in run.cells(split_spec))
    changed = [cell for cell in kept if cell and cell["split_hash"] != split_hash]
    if changed and not force:
        raise DataError(
            f"{store.folder}: {len(changed)} finished cells are of other images than {run.data} holds now (split "
            f"{split_spec.split_seed}: {changed[0]['split_hash'][:12]} then, {split_hash[:12]} now): --force computes "
            "them again, or choose another output"
        )


def _known_facts(
    store: Store, facts: Mapping[str, Any], *, likeness: bool, finer: bool
) -> dict[str, Any] | None:
    """The references of a split and backbone, if an earlier result holds all that are wanted."""
    same = ("hash", "backbone", "size")
    for split in store.previous.get("splits", []):
        if not all(split.get(key) == facts[key] for key in same) or "posterior_map" not in split:
            continue
        own = split.get("likeness", {})
        if likeness and (not own or (finer and own.get("finer_queries") is None)):
            continue
        wanted = ("posterior_map", "class_id_map", "class_id_bytes", "likeness")
        return {key: split[key] for key in wanted if key in split}
    return None


@contextmanager
def _split_features(run: Run, split: RetrievalSplit, cache: Path, progress: Progress) -> Iterator[Path]:
    base = TrainConfig.from_dict(dict(run.settings))
    with tempfile.TemporaryDirectory(prefix=f"bed-{os.getpid()}-", dir=cache) as folder:
        make_split_features(split, base, Path(folder), cache, progress)
        yield Path(folder)


def _sweep(cache: Path) -> None:
    """Remove the beds of processes that were killed."""
    cache.mkdir(parents=True, exist_ok=True)
    for folder in cache.glob("bed-*-*"):
        number = folder.name.split("-")[1]
        if number.isdigit() and not _lives(int(number)):
            shutil.rmtree(folder, ignore_errors=True)


def _lives(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
