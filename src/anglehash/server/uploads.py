"""Files that were sent, and the jobs that add them, on disk.

::

    GALLERY.uploads/
    ├── incoming/NAME/   what one service is receiving; the service holds NAME.lock while it runs
    ├── jobs/ID/         an accepted job, job.json, and its images until they are in the gallery
    ├── done/ID/         a job that has ended: job.json
    ├── images/          the images that are in the gallery, each named after the sha256 of its bytes
    ├── jobs.lock        held by the service that does the jobs
    └── order.lock       held while a job or a removal changes the gallery

Several services may share the folder. A job belongs to the folder, and its images belong to the job: a service that
starts, and a removal, touch neither. The names of jobs sort in the order in which they were accepted.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import secrets
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from anglehash.data.dataset import Dataset
from anglehash.data.images.pillow import sniff
from anglehash.data.sources.walk import Files
from anglehash.errors import ImageError
from anglehash.files import sync, sync_directory, write_json
from anglehash.server.job import REMOVED, Job

_log = logging.getLogger("anglehash.cli")

PREFIX = "uploads"
"""What stands before the ids of images that were added over HTTP."""

_SUFFIXES = {"JPEG": "jpg", "TIFF": "tif"}
_JOB = re.compile(r"[0-9a-f]{32}")
_OURS = re.compile(rf"{PREFIX}/[0-9a-f]{{2}}/([0-9a-f]{{64}}\.[a-z]+)")


def item_of(name: str) -> str:
    """The id of the item that an uploaded file becomes.

    >>> item_of("ab12.png")
    'uploads/ab/ab12.png'
    """
    return f"{PREFIX}/{_place(name)}"


def _place(name: str) -> str:
    return f"{name[:2]}/{name}"


class Uploads:
    """The folder of what was sent.

    Args:
        folder: its path; it is made when it is needed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.jobs, self.done, self.images = (folder / name for name in ("jobs", "done", "images"))
        self._last = 0
        self._lock = threading.Lock()
        self._names: dict[str, frozenset[str]] = {}  # of the files of jobs

    def make(self) -> None:
        """Make the folders; only their owner can look into them."""
        folders = self.jobs, self.done, self.images
        if all(folder.is_dir() for folder in folders):
            return
        for folder in folders:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        sync_directory(self.folder)
        sync_directory(self.folder.parent)

    def keep(self, path: Path) -> str:
        """Name a file that has come after its content; it is on disk when this returns, its name is not yet.

        Raises:
            ImageError: it is not an image; it stays where it is.
        """
        digest, head = hashlib.sha256(), b""
        with path.open("rb+") as file:
            while chunk := file.read(2**20):
                head = head or chunk[:1024]
                digest.update(chunk)
            if not head:
                raise ImageError("empty", "no bytes")
            kind = sniff(head)
            sync(file.fileno())
        name = f"{digest.hexdigest()}.{_SUFFIXES.get(kind, kind.lower())}"
        os.replace(path, path.with_name(name))
        return name

    def accept(self, job: Job, folder: Path) -> None:
        """Make the folder of a request that of a job, and name the job; both are on disk when this returns."""
        with self._lock:
            self._last = max(time.time_ns(), self._last + 1)
            job.id = f"{self._last:016x}{secrets.token_hex(8)}"
        self.save(job, folder)
        os.rename(folder, self.jobs / job.id)
        sync_directory(self.jobs)

    def save(self, job: Job, folder: Path) -> None:
        """Write a job, durably."""
        write_json(folder / "job.json", job.to_dict())

    def waiting(self) -> list[str]:
        """The ids of the jobs that have not ended, in the order in which they were accepted."""
        return sorted(name for name in _listed(self.jobs) if _JOB.fullmatch(name))

    def load(self, name: str) -> Job | None:
        """A job by its id, if there is one."""
        if not _JOB.fullmatch(name):
            return None
        for folder in (self.jobs / name, self.done / name, self.jobs / name):  # it may end meanwhile
            try:
                job = Job.from_dict(json.loads((folder / "job.json").read_bytes()))
            except FileNotFoundError:
                continue
            except (OSError, ValueError, TypeError, KeyError) as error:
                _log.warning("%s is not a job of this service: %s", folder, error)
                return None
            if job.id == name:
                self.look_for_removals(job)
                return job
        return None

    def end(self, job: Job, most: int) -> None:
        """Write the outcome of a job, and forget the oldest ones that have ended, so that ``most`` are left."""
        folder = self.jobs / job.id
        self.save(job, folder)
        for name in {file.name for file in job.files if file.name}:
            (folder / name).unlink(missing_ok=True)
        os.rename(folder, self.done / job.id)
        sync_directory(self.done)
        for name in sorted(_listed(self.done))[:-most]:
            shutil.rmtree(self.done / name, ignore_errors=True)

    def path_of(self, job: Job, name: str) -> Path:
        """Where a file of a job is: with the job, or with the images once the job has moved it there."""
        path = self.jobs / job.id / name
        return path if path.exists() else self.images / _place(name)

    def is_moved(self, job: Job, name: str) -> bool:
        """Whether an earlier run of the job moved a file to the images."""
        return not (self.jobs / job.id / name).exists()

    def move(self, job: Job, name: str) -> None:
        """Move a file of a job to the images, durably."""
        place = self.images / _place(name)
        place.parent.mkdir(mode=0o700, exist_ok=True)
        with suppress(FileNotFoundError):  # by an earlier run
            os.replace(self.jobs / job.id / name, place)
        sync_directory(place.parent)
        sync_directory(self.images)

    def restore(self, job: Job, name: str) -> None:
        """Give an item its file back, where somebody has taken it away."""
        if not (self.images / _place(name)).exists():
            self.move(job, name)

    def forget(self, item: str) -> None:
        """Remove the file of an item, if it was sent here; the files of jobs stay."""
        if found := _OURS.fullmatch(item):
            (self.images / _place(found[1])).unlink(missing_ok=True)

    def jobs_with(self, item: str) -> list[Job]:
        """The jobs, ended or not, in which an item was sent, and from which it was not removed."""
        found = _OURS.fullmatch(item)
        if not found:
            return []
        listed = {*_listed(self.jobs), *_listed(self.done)}
        self._names = {name: files for name, files in self._names.items() if name in listed}
        for name in listed - self._names.keys():
            job = self.load(name)
            self._names[name] = frozenset(file.name for file in job.files) if job else frozenset()
        names = sorted(name for name, files in self._names.items() if found[1] in files)
        return [job for name in names if (job := self.load(name))]

    def note_removal(self, job: Job, item: str) -> None:
        """Note, durably, that an item was removed after its job was accepted."""
        name = item.rpartition("/")[2]
        folder = next(place / job.id for place in (self.jobs, self.done) if (place / job.id).is_dir())
        (folder / f"{name}.removed").touch()
        sync_directory(folder)

    def look_for_removals(self, job: Job) -> None:
        """Mark those files of a job whose items were removed after it was accepted."""
        removed = {name for place in (self.jobs, self.done) for name in _listed(place / job.id)}
        for file in job.files:
            if f"{file.name}.removed" in removed and file.state in ("", "added"):
                file.state, file.detail = REMOVED, "the item was deleted after this upload was accepted"

    def size(self) -> int:
        """The bytes of all files in the folder."""
        return sum(_sizes(self.folder))

    def dataset(self, names: Sequence[str], labels: Sequence[str]) -> Dataset:
        """Images with the same labels, as ``add`` takes them."""
        classes, places = tuple(sorted(set(labels))), tuple(map(_place, names))
        return Dataset(
            name=PREFIX,
            ids=places,
            images=Files(self.images, places),
            labels=np.ones((len(names), len(classes)), np.bool_),
            class_names=classes,
            parts=np.full(len(names), "", dtype="U1"),
        )


def _listed(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


def _sizes(folder: Path) -> Iterator[int]:
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _sizes(Path(entry.path))
            else:
                with suppress(FileNotFoundError):
                    yield entry.stat(follow_symlinks=False).st_size
