"""Files that were sent, and the jobs that are to add them, on disk.

::

    GALLERY.uploads/
    ├── incoming/    files that are still being received; emptied at every start
    ├── images/      one file for each image, named after the sha256 of its bytes
    └── jobs/        one JSON file for each job
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from anglehash.data.dataset import Dataset
from anglehash.data.pillow import sniff
from anglehash.data.walk import Files
from anglehash.errors import ImageError
from anglehash.files import sync_directory, write_json

_log = logging.getLogger("anglehash.serve")

PREFIX = "uploads"
"""What stands before the ids of images that were added over HTTP."""

_SUFFIXES = {"JPEG": "jpg", "TIFF": "tif"}
_JOB = re.compile(r"[0-9a-f]{32}")
_OURS = re.compile(rf"{PREFIX}/([0-9a-f]{{2}}/[0-9a-f]{{64}}\.[a-z]+)")


@dataclass(slots=True)
class Job:
    """Images that are to be in the gallery, and what became of them.

    Attributes:
        id: names it.
        files: of each image its file below ``images/``, and what its sender calls it.
        labels: of all of them.
        state: ``queued``, ``running``, ``done`` or ``failed``.
        done: images that were looked at.
        total: images that were sent.
        added: images that are in the gallery.
        skipped: name and reason of each that is not.
        error: why it failed.
    """

    id: str
    files: list[list[str]]
    labels: list[str]
    state: str = "queued"
    done: int = 0
    total: int = 0
    added: int = 0
    skipped: list[dict[str, str]] = field(default_factory=list)
    error: str | None = None

    def facts(self) -> dict[str, Any]:
        """What clients are told."""
        return {name: value for name, value in asdict(self).items() if name not in ("files", "labels")}


@dataclass(frozen=True, slots=True)
class Uploads:
    """The folder of what was sent.

    Attributes:
        folder: its path.
    """

    folder: Path

    @property
    def incoming(self) -> Path:
        """Where files are while they are received."""
        return self.folder / "incoming"

    @property
    def images(self) -> Path:
        """Where images are."""
        return self.folder / "images"

    @property
    def jobs(self) -> Path:
        """Where jobs are."""
        return self.folder / "jobs"

    def make(self) -> None:
        """Make the folders; only their owner can look into them."""
        for folder in (self.incoming, self.images, self.jobs):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def clear(self) -> None:
        """Remove what was being received when an earlier run ended."""
        for leftover in self.incoming.glob(".*.tmp"):
            leftover.unlink(missing_ok=True)

    def keep(self, path: Path) -> str:
        """Give a file that has come its place; its name below ``images/``. It is on disk when this returns.

        Raises:
            ImageError: it is no image; it stays where it is.
        """
        digest, head = hashlib.sha256(), b""
        with path.open("rb+") as file:
            while chunk := file.read(2**20):
                head = head or chunk[:1024]
                digest.update(chunk)
            if not head:
                raise ImageError("empty", "no bytes")
            kind = sniff(head)
            os.fsync(file.fileno())
        content = digest.hexdigest()
        name = f"{content[:2]}/{content}.{_SUFFIXES.get(kind, kind.lower())}"
        place = self.images / name
        place.parent.mkdir(mode=0o700, exist_ok=True)
        os.replace(path, place)
        sync_directory(place.parent)
        sync_directory(self.images)
        return name

    def forget(self, item: str) -> None:
        """Remove the file of an item, if it was sent here."""
        if found := _OURS.fullmatch(item):
            (self.images / found[1]).unlink(missing_ok=True)

    def save(self, job: Job) -> None:
        """Write a job, durably."""
        write_json(self.jobs / f"{job.id}.json", asdict(job))

    def drop(self, job: Job) -> None:
        """Forget a job."""
        (self.jobs / f"{job.id}.json").unlink(missing_ok=True)

    def load(self, name: str) -> Job | None:
        """A job by its id, if there is one."""
        if not _JOB.fullmatch(name):
            return None
        try:
            job = Job(**json.loads((self.jobs / f"{name}.json").read_bytes()))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError) as error:
            _log.warning("%s is no job of ours: %s", self.jobs / f"{name}.json", error)
            return None
        return job if job.id == name else None

    def all(self) -> list[Job]:
        """All jobs, the oldest first."""
        paths = sorted(self.jobs.glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
        return [job for path in paths if (job := self.load(path.stem))]

    def dataset(self, names: Sequence[str], labels: Sequence[str]) -> Dataset:
        """Images with the same labels, as ``add`` takes them."""
        classes = tuple(sorted(set(labels)))
        return Dataset(
            name=PREFIX,
            ids=tuple(names),
            images=Files(self.images, tuple(names)),
            labels=np.ones((len(names), len(classes)), np.bool_),
            class_names=classes,
            parts=np.full(len(names), "", dtype="U1"),
        )
