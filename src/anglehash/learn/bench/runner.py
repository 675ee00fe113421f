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

from anglehash.config import TrainConfig
from anglehash.data.split import RetrievalSplit
from anglehash.errors import DataError
from anglehash.learn.bench.bed import (
    Bed,
    class_references,
    likeness_references,
    make_bed,
    split_facts,
    split_of,
)
from anglehash.learn.bench.cell import rounded_table
from anglehash.learn.bench.crew import CODES, Outcome, compute_all, wanted_of
from anglehash.learn.bench.facts import facts_of
from anglehash.learn.bench.run import Cell, Place, Run
from anglehash.learn.bench.store import Store
from anglehash.progress import Report, silent


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
    with Store(output) as store:
        return _run(run, store, cache, workers, report, force=force)


def _run(run: Run, store: Store, cache: Path, workers: int, report: Report, *, force: bool) -> Finished:
    _sweep(cache)
    places = [(place, split_of(run, place, cache, report)) for place in run.places()]
    for place, split in places:  # all of them before any is computed
        _refuse_changed(store, run, place, split.hash, force=force)
    splits: list[dict[str, Any]] = []
    failed: list[tuple[Cell, str]] = []
    progress = _Progress(report, len(list(run.cells())))
    for place, split in places:
        facts = split_facts(run, place, split)
        cells = list(run.cells(place))
        missing = [cell for cell in cells if not _is_kept(store, run, place, cell, split)]
        progress.kept(len(cells) - len(missing))
        likeness = any(wanted_of(run, place, cell).likeness for cell in cells)
        known = _known_facts(store, facts, likeness=likeness, finer=split.dataset.finer is not None)
        if missing or known is None:
            with _bed(run, split, cache, report) as folder:
                known = known or _references(Bed.load(folder), facts, report, likeness=likeness)
                missing = [
                    cell for cell in missing if not _measured_again(store, run, place, cell, split, folder)
                ]
                for cell, outcome in compute_all(run, place, missing, folder, cache, workers):
                    if isinstance(outcome, str):
                        failed.append((cell, outcome))
                    else:
                        store.take_codes(cell.hash, folder / CODES)
                        store.put({**outcome, "split_hash": split.hash})
                    progress.step(cell, outcome)
        splits.append({**facts, **known})
    facts = facts_of(run, splits, store.folder)
    facts["failed"] = [_failure(cell, line) for cell, line in failed]
    found = ((cell, store.get(cell.hash)) for cell in run.cells())
    # two variants may have the same settings, and so the same cell, which is then put under both names
    result = store.finish(facts, [{**kept, "variant": cell.variant} for cell, kept in found if kept])
    return Finished(result, failed, places[0][1])


def _failure(cell: Cell, line: str) -> dict[str, Any]:
    return {
        "variant": cell.variant,
        "bits": cell.bits,
        "bytes": cell.bytes_asked,
        "seed": cell.seed,
        "split_seed": cell.place.split_seed,
        "draw": cell.place.options.get("draw"),
        "error": line,
    }


class _Progress:
    """Counts cells over all splits."""

    def __init__(self, report: Report, total: int) -> None:
        self._report, self._total, self._done = report, total, 0

    def kept(self, n: int) -> None:
        self._done += n
        if n:
            self._report("cells", self._done, self._total, f"{n} are finished already")

    def step(self, cell: Cell, outcome: Outcome) -> None:
        self._done += 1
        said = outcome if isinstance(outcome, str) else f"mAP {outcome['map']:.3f}"
        size = f"{cell.bits} bits" if cell.bits else f"{cell.bytes_asked or 'all'} bytes"
        self._report("cells", self._done, self._total, f"{cell.variant}, {size}, seed {cell.seed}: {said}")


def _references(bed: Bed, facts: Mapping[str, Any], report: Report, *, likeness: bool) -> dict[str, Any]:
    known = class_references(bed, multi_label=facts["multi_label"], report=report)
    if likeness:
        known["likeness"] = rounded_table(likeness_references(bed))
    return known


def _measured_again(
    store: Store, run: Run, place: Place, cell: Cell, split: RetrievalSplit, folder: Path
) -> bool:
    """Whether a finished cell lacked the measures of likeness alone, and now has them, from the codes beside it."""
    kept, codes = store.get(cell.hash), store.codes_of(cell.hash)
    if kept is None or codes is None or not _is_kept(store, run, place, cell, split, likeness=False):
        return False
    store.put({**kept, "likeness": rounded_table(codes.likeness(Bed.load(folder).truth))})
    return True


def _is_kept(
    store: Store, run: Run, place: Place, cell: Cell, split: RetrievalSplit, *, likeness: bool = True
) -> bool:
    """Whether a cell is finished, on these images, with all that is wanted of it now.

    ``likeness`` says whether the measures of likeness count.
    """
    kept = store.get(cell.hash)
    if kept is None or kept["split_hash"] != split.hash:
        return False
    wanted = wanted_of(run, place, cell)
    lacks = (
        (wanted.details and "precision_recall" not in kept)
        or (wanted.queries and "answers" not in kept)
        or (wanted.map_features and kept.get("map_features") is None)
        or (wanted.map_asymmetric and kept.get("map_asymmetric") is None)
        or (likeness and wanted.likeness and _lacks_likeness(kept, split))
    )
    return cell.kind == "rival" or not lacks


def _lacks_likeness(kept: Mapping[str, Any], split: RetrievalSplit) -> bool:
    """Whether a cell has no measures of likeness, or none by a finer label that there is."""
    found = kept.get("likeness")
    return not found or (split.dataset.finer is not None and found.get("finer_map") is None)


def _refuse_changed(store: Store, run: Run, place: Place, split_hash: str, *, force: bool) -> None:
    kept = (store.get(cell.hash) for cell in run.cells(place))
    changed = [cell for cell in kept if cell and cell["split_hash"] != split_hash]
    if changed and not force:
        raise DataError(
            f"{store.folder}: {len(changed)} finished cells are of other images than {run.data} holds now (split "
            f"{place.split_seed}: {changed[0]['split_hash'][:12]} then, {split_hash[:12]} now): --force computes them "
            "anew, or choose another output"
        )


def _known_facts(
    store: Store, facts: Mapping[str, Any], *, likeness: bool, finer: bool
) -> dict[str, Any] | None:
    """The references of a split and backbone, if an earlier result holds all that are wanted."""
    same = ("hash", "backbone", "size")
    for split in store.previous.get("splits", []):
        if not all(split.get(key) == facts[key] for key in same) or "ceiling" not in split:
            continue
        own = split.get("likeness", {})
        if likeness and (not own or (finer and own.get("finer_queries") is None)):
            continue
        wanted = ("ceiling", "class_id_map", "class_id_bytes", "likeness")
        return {key: split[key] for key in wanted if key in split}
    return None


@contextmanager
def _bed(run: Run, split: RetrievalSplit, cache: Path, report: Report) -> Iterator[Path]:
    base = TrainConfig.from_dict(dict(run.settings))
    with tempfile.TemporaryDirectory(prefix=f"bed-{os.getpid()}-", dir=cache) as folder:
        make_bed(split, base, Path(folder), cache, report)
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
