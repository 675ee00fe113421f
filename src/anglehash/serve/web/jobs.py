"""Adding images over HTTP: kept on disk first, then added by a job, which a restart goes on with.

A request is answered when its images and its job are on disk. The job takes the same way into the gallery as
``anglehash add``. Doing it twice adds nothing twice, for an image's id is its content.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from queue import Empty, SimpleQueue

from anglehash.data.images import read_file
from anglehash.errors import AnglehashError, ImageError, ModelError
from anglehash.search.remote.gallery import RemoteGallery
from anglehash.search.remote.opening import AnyGallery, write_any
from anglehash.search.store.sources import Source
from anglehash.search.store.writer import Changes
from anglehash.serve.ingest import Given, Ingested, ingest
from anglehash.serve.web.collection import Searchable
from anglehash.serve.web.eyes import Eyes
from anglehash.serve.web.forms import Upload
from anglehash.serve.web.problems import RefusalError, busy
from anglehash.serve.web.uploads import PREFIX, Job, Uploads

_log = logging.getLogger("anglehash.serve")

MOST_WAITING = 100
MOST_KEPT = 1000
"""Jobs that may wait, and jobs whose outcome is kept."""

LOCK_SECONDS = 600.0
REMOVE_SECONDS = 5.0
"""How long a job, and a removal, wait for another writer."""


class _StoppedError(Exception):
    """The service ends; the job goes on at its next start."""


class Jobs:
    """The jobs of a service, done one after the other in a thread of their own.

    Args:
        gallery: where the images go.
        eyes: what decodes and encodes them.
        folder: where they are kept; ``None`` for a folder beside the gallery, which one in an engine does not have.
    """

    def __init__(self, gallery: Searchable, eyes: Eyes, folder: Path | None) -> None:
        self._gallery, self._eyes = gallery, eyes
        self._place = gallery.target if isinstance(gallery, RemoteGallery) else gallery.path
        self._homeless = folder is None and isinstance(gallery, RemoteGallery)
        beside = gallery.path.with_name(f"{gallery.path.name}.uploads")
        self._uploads = Uploads((folder or beside).absolute())
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._waiting: SimpleQueue[Job] = SimpleQueue()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="anglehash-jobs", daemon=True)

    def start(self) -> None:
        """Take up what an earlier run has left, and begin."""
        self._uploads.clear()
        for job in self._uploads.all():
            self._remember(job)
            if job.state in ("queued", "running"):
                job.state = "queued"
                self._waiting.put(job)
        self._thread.start()

    def stop(self, limit: float) -> None:
        """End after the batch at hand, or after so many seconds; what was committed stays."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(limit)

    def incoming(self) -> Path:
        """The folder for files that are being received, which is there afterwards.

        Raises:
            RefusalError: 409, nothing can be added to this gallery; 503, too many jobs wait already.
        """
        if not isinstance(self._gallery, AnyGallery) or self._eyes.model is None:
            raise RefusalError(
                409, "no-model", "nothing can be added: this gallery cannot encode images here"
            )
        if self._homeless:
            raise RefusalError(
                409, "no-uploads", "nothing can be added: the service was started without --uploads"
            )
        if self._waiting.qsize() >= MOST_WAITING:
            raise busy("too many jobs wait already: come again later")
        self._uploads.make()
        return self._uploads.incoming

    def accept(self, uploads: Sequence[Upload], labels: Sequence[str]) -> Job:
        """Keep images and the job to add them; when this returns they are on disk.

        Raises:
            ImageError: none of them is an image.
        """
        job = Job(secrets.token_hex(16), [], list(labels), total=len(uploads))
        refused: list[ImageError] = []
        for upload in uploads:
            assert upload.path is not None, "files of this form are on disk"
            try:
                job.files.append([self._uploads.keep(upload.path), upload.name])
            except ImageError as error:
                job.skipped.append({"name": upload.name, "reason": error.reason})
                refused.append(error)
            finally:
                upload.path.unlink(missing_ok=True)
        if refused and not job.files:
            raise refused[0]
        job.done = len(job.skipped)
        self._uploads.save(job)
        self._remember(job)
        self._waiting.put(job)
        return job

    def of(self, name: str) -> Job:
        """A job by its id.

        Raises:
            RefusalError: 404.
        """
        job = self._jobs.get(name) or self._uploads.load(name)
        if job is None:
            raise RefusalError(404, "no-job", "there is no such job")
        return job

    def remove(self, name: str) -> int:
        """Remove an item from the gallery, and its file where it was sent here.

        Raises:
            RefusalError: 404, or 503 while another writes.
        """
        if not isinstance(self._gallery, AnyGallery):
            raise RefusalError(409, "no-writing", "items of this gallery are removed by other means")
        try:
            with write_any(self._place, lock_timeout=REMOVE_SECONDS) as writer:
                if writer.item(name) is None:
                    raise RefusalError(404, "no-item", "there is no such item")
                removed = writer.commit(Changes(remove=[name])).removed
        except ModelError as error:
            if "is being written" in str(error):
                raise busy("images are being added: come again in a moment") from None
            raise
        self._gallery.refresh()
        self._uploads.forget(name)
        return removed

    def _remember(self, job: Job) -> None:
        self._jobs[job.id] = job
        while len(self._jobs) > MOST_KEPT:
            _, old = self._jobs.popitem(last=False)
            if old.state in ("done", "failed"):
                self._uploads.drop(old)

    def _work(self) -> None:
        while not self._stopping.is_set():
            try:
                job = self._waiting.get(timeout=0.2)
            except Empty:
                continue
            try:
                self._run(job)
                self._gallery.refresh()  # first: who hears that it is done will look
                job.state = "done"
            except _StoppedError:
                return
            except Exception as error:
                expected = isinstance(error, AnglehashError | OSError)
                job.error = str(error) if expected else "something went wrong: see the log of the service"
                job.state = "failed"
                _log.error("job %s: %s", job.id, error, exc_info=None if expected else error)
            try:
                self._uploads.save(job)
            except OSError as error:
                _log.error("the outcome of job %s is not written: %s", job.id, error)

    def _run(self, job: Job) -> None:
        """Add the images of a job."""
        job.state, job.done, job.added = "running", job.total - len(job.files), 0
        self._uploads.save(job)
        called = self._decodable(job)
        names = sorted(called)
        given = Given(
            images=self._uploads.dataset(names, job.labels),
            source=Source(str(self._uploads.images), prefix=PREFIX),
            metadata={name: {"name": shown} for name, shown in called.items() if shown},
        )

        def progress(what: str, done: int, total: int, note: str) -> None:
            job.added = done
            job.done = job.total - len(names) + done
            if self._stopping.is_set() and done < total:
                raise _StoppedError

        with write_any(self._place, lock_timeout=LOCK_SECONDS) as writer:
            model = self._eyes.encoder_of(writer.model_id)
            done: Ingested = ingest(writer, model, given, report=progress)
        for problem in done.problems:
            name = called[problem.id.removeprefix(f"{PREFIX}/")]
            job.skipped.append({"name": name, "reason": problem.reason})
        job.done, job.added = job.total, len(names) - len(done.problems)
        refused = {f"{PREFIX}/{name}" for name, _ in job.files if name not in called}
        for item in refused.union(problem.id for problem in done.problems):
            self._uploads.forget(item)  # not before the end: a job that is gone on with says the same of them

    def _decodable(self, job: Job) -> dict[str, str]:
        """The files that can be decoded, each tried in a process that may die, and what they are called.

        Only then do they go where ``add`` decodes: in this process, if they are few.
        """
        called: dict[str, str] = {}
        for name, shown in job.files:
            if self._stopping.is_set():
                raise _StoppedError
            try:
                self._eyes.try_decoding(read_file(self._uploads.images / name))
            except ImageError as error:
                job.skipped.append({"name": shown, "reason": error.reason})
                job.done += 1
            else:
                called[name] = shown
        return called
