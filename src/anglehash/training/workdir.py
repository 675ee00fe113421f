"""Where an unfinished training lies: ``MODEL.training/``, with its newest whole epoch and its log.

The folder is there from the start of a run, is locked while the run lives, and goes away when the model is
whole. Only files that training wrote are ever removed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from anglehash.errors import OutputExistsError, TrainingError
from anglehash.files import hold

MARKER, CHECKPOINT, LOG = "training.lock", "checkpoint.safetensors", "log.jsonl"


@contextmanager
def working_folder(output: Path, *, resume: bool, force: bool, first: bool = True) -> Iterator[Path]:
    """The folder of a training towards ``output``, held while it runs.

    With ``resume`` what is there is taken up (nothing there: the training starts from the beginning). On an
    error the folder stays if it holds an epoch; at the end it goes. Where several processes train together,
    the ``first`` alone does all this, and the others only read.

    Raises:
        OutputExistsError: an unfinished training is there and neither ``resume`` nor ``force`` is set, or
            something that training did not write.
        TrainingError: another training towards ``output`` is running.
    """
    work = output.with_name(f"{output.name}.training")
    if not first:
        yield work
        return
    if os.path.lexists(work) and not (work.is_dir() and (work / MARKER).is_file()):
        raise OutputExistsError(
            f"{work} is in the way, and no training wrote it: move it, or choose another output"
        )
    if (work / CHECKPOINT).exists() and not resume and not force:
        raise OutputExistsError(
            f"an unfinished training is at {work}: add --resume to go on, or --force to start again"
        )
    work.mkdir(parents=True, exist_ok=True)
    with (work / MARKER).open("a+") as lock:
        if other := hold(lock):
            raise TrainingError(
                f"another training is writing to {work} (process {other}): wait for it, or choose another output"
            )
        if not resume:
            _remove(work / CHECKPOINT, work / LOG)
        try:
            yield work
        except BaseException:
            if not (work / CHECKPOINT).exists():
                _clear(work)
            raise
        _clear(work)


def _clear(work: Path) -> None:
    _remove(work / CHECKPOINT, work / LOG, work / MARKER, *work.glob(".*.tmp"))
    with suppress(OSError):  # somebody put a file of their own into it
        work.rmdir()


def _remove(*paths: Path) -> None:
    for path in paths:
        path.unlink(missing_ok=True)
