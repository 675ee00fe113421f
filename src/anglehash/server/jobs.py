"""Adding images over HTTP: kept on disk first, then added by a job, which a restart resumes.

A request is answered when its images and its job are on disk. The job takes the same way into the gallery as
``anglehash add``. Doing it twice adds nothing twice, for an image's id is its content. Jobs and removals take effect
in the order in which they were accepted: a removal marks the jobs that were accepted before it.
"""

from __future__ import annotations

import dataclasses
import logging
import shutil
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from anglehash.data.images.decoding import read_file
from anglehash.errors import AnglehashError, ImageError, ModelError
from anglehash.gallery.ingest import Given, ingest
from anglehash.gallery.interface import AnyGallery, AnyWriter
from anglehash.gallery.store.sources import Source
from anglehash.gallery.store.writer import Changes
from anglehash.gallery.writing import write_gallery
from anglehash.remote.gallery import RemoteGallery
from anglehash.server.errors import RefusalError, busy
from anglehash.server.forms import Upload
from anglehash.server.gallery_api import Searchable
from anglehash.server.image_encoder import ImageEncoder
from anglehash.server.job import ADDED, REMOVED, THERE, Job, SentFile
from anglehash.server.limits import Space
from anglehash.server.sharing import SharedFolder
from anglehash.server.uploads import PREFIX, Uploads, item_of

_log = logging.getLogger("anglehash.cli")

MOST_WAITING = 100
MOST_KEPT = 1000
"""Jobs that may wait, and jobs whose outcome is kept."""

LOCK_SECONDS = 5.0
"""How long a job, and a removal, wait for another writer; a job tries again then."""

LOOK_SECONDS, LONGEST_DELAY = 0.5, 30.0
"""How often jobs of other services are looked for, and the longest time until a job that could not run tries again."""

_THERE = "already there: it keeps its labels; send replace=true to give it these"


class _StoppedError(Exception):
    """The service ends; the job continues at its next start."""


class Jobs:
    """The jobs of a gallery, done one after the other in a thread of their own, by one service at a time.

    Args:
        gallery: where the images go.
        image_encoder: what decodes and encodes them.
        folder: where they are kept; ``None`` for a folder beside the gallery, which one in an engine does not have.
        quota: bytes that the folder may hold; ``None`` for no bound.
        refresh: opens the gallery's newest generation and model.
    """

    def __init__(
        self,
        gallery: Searchable,
        image_encoder: ImageEncoder,
        folder: Path | None,
        *,
        quota: int | None,
        refresh: Callable[[], object],
    ) -> None:
        self._gallery, self._image_encoder, self._refresh = gallery, image_encoder, refresh
        self._place = gallery.target if isinstance(gallery, RemoteGallery) else gallery.path
        self._homeless = folder is None and isinstance(gallery, RemoteGallery)
        beside = gallery.path.with_name(f"{gallery.path.name}.uploads")
        self._uploads = Uploads((folder or beside).absolute())
        self._shared = SharedFolder(self._uploads.folder)
        self.space = Space(self._uploads.size, quota)
        self._running: Job | None = None
        self._failed: set[str] = set()  # they are tried again at the next start
        self._come = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="anglehash-jobs", daemon=True)

    def start(self) -> None:
        """Take up what an earlier run has left, and begin."""
        try:
            self._shared.clear()
        except OSError as error:
            _log.warning("what earlier services were receiving is not removed: %s", error)
        self._thread.start()

    def stop(self, limit: float) -> None:
        """End after the current batch, or after ``seconds``; what was committed stays."""
        self._stopping.set()
        self._come.set()
        if self._thread.is_alive():
            self._thread.join(limit)
        self._shared.close()

    def receive(self) -> Path:
        """A new folder for the files of one request.

        Raises:
            RefusalError: 409, nothing can be added to this gallery; 503, too many jobs wait already.
        """
        if not isinstance(self._gallery, AnyGallery) or self._image_encoder.model is None:
            raise RefusalError(
                409, "no-model", "nothing can be added: this gallery cannot encode images here"
            )
        if self._homeless:
            raise RefusalError(
                409, "no-uploads", "nothing can be added: the service was started without --uploads"
            )
        if len(self._uploads.waiting()) >= MOST_WAITING:
            raise busy("too many jobs wait already: come again later")
        self._uploads.make()
        folder = self._shared.receive()
        self.space.measure()
        return folder

    def accept(self, folder: Path, uploads: Sequence[Upload], labels: Sequence[str], *, replace: bool) -> Job:
        """Keep images and the job to add them; when this returns they are on disk.

        Args:
            folder: where the images came in; it becomes the job's.
            uploads: the images.
            labels: of all of them.
            replace: give these labels also to images that are there already.

        Raises:
            ImageError: none of them is an image.
        """
        job, refused = Job(list(labels), replace), list[ImageError]()
        for upload in uploads:
            assert upload.path is not None, "files of this form are on disk"
            try:
                job.files.append(SentFile(self._uploads.keep(upload.path), upload.name))
            except ImageError as error:
                upload.path.unlink(missing_ok=True)
                job.files.append(SentFile("", upload.name, error.reason, error.detail))
                refused.append(error)
        if not job.waiting():
            raise refused[0]
        self._uploads.accept(job, folder)
        self._come.set()
        return job

    def discard(self, folder: Path) -> None:
        """Remove the folder of a request, unless it has become a job's."""
        shutil.rmtree(folder, ignore_errors=True)

    def of(self, name: str) -> Job:
        """A job by its id.

        Raises:
            RefusalError: 404.
        """
        running = self._running
        job = running if running is not None and running.id == name else self._uploads.load(name)
        if job is None:
            raise RefusalError(404, "no-job", "no such job")
        if job.ended:
            self._gallery.refresh()  # another service may have done it, and who hears of it will look
        return job

    def remove(self, name: str) -> int:
        """Remove an item from the gallery, its file where it was sent here, and its image from jobs that wait.

        Raises:
            RefusalError: 404, or 503 while another writes.
        """
        if not isinstance(self._gallery, AnyGallery):
            raise RefusalError(409, "no-writing", "items of this gallery are removed by other means")
        try:
            with (
                self._shared.in_order(LOCK_SECONDS),
                write_gallery(self._place, lock_timeout=LOCK_SECONDS) as writer,
            ):
                sent = [job for job in self._uploads.jobs_with(name) if _holds(job, name)]
                if writer.item(name) is not None:
                    writer.commit(Changes(remove=[name]))
                elif all(job.state == "done" for job in sent):
                    raise RefusalError(404, "no-item", "no such item")
                for job in sent:
                    self._uploads.note_removal(job, name)
                self._uploads.forget(name)
        except ModelError as error:
            if "is being written" in str(error):
                raise busy("images are being added: come again in a moment") from None
            raise
        self._gallery.refresh()
        return 1

    def _work(self) -> None:
        delay = LOOK_SECONDS
        while not self._stopping.is_set():
            job = self._next()
            if job is None:
                self._come.wait(LOOK_SECONDS)
                self._come.clear()
                continue
            self._running = job
            try:
                self._run(job)
                delay = LOOK_SECONDS
            except _StoppedError:
                return
            except Exception as error:
                if not self._give_up(job, error):
                    self._stopping.wait(delay)
                    delay = min(2 * delay, LONGEST_DELAY)
            finally:
                self._running = None

    def _next(self) -> Job | None:
        """The job that was accepted first and has not ended, if this service does the jobs."""
        try:
            if self._image_encoder.model is None or not self._shared.work():
                return None
            for name in self._uploads.waiting():
                if (job := self._uploads.load(name)) is None:
                    continue
                if job.state == "done":  # killed before the last step
                    self._uploads.end(job, MOST_KEPT)
                elif name not in self._failed:
                    return job
        except OSError as error:
            _log.error("jobs cannot be read: %s", error)
        return None

    def _give_up(self, job: Job, error: Exception) -> bool:
        """Whether a job has failed in this run; a full disk, a lock and a model that changes are waited for.

        Its images stay in either case: they were accepted.
        """
        transient = isinstance(error, OSError | ModelError | RefusalError)
        known = isinstance(error, AnglehashError | OSError | RefusalError)
        job.error = str(error) if known else "something went wrong: see the log of the service"
        _log.error("job %s: %s", job.id, error, exc_info=None if known else error)
        try:
            job.state = "queued" if transient else "failed"
            if not transient:
                self._failed.add(job.id)
            self._uploads.save(job, self._uploads.jobs / job.id)
            self._refresh()
        except (OSError, AnglehashError) as further:
            _log.error("the state of job %s is not written: %s", job.id, further)
        return not transient

    def _run(self, job: Job) -> None:
        """Add the images of a job."""
        job.state = "running"
        self._try_decoding(job)
        with (
            self._shared.in_order(LOCK_SECONDS),
            write_gallery(self._place, lock_timeout=LOCK_SECONDS) as writer,
        ):
            self._add(job, writer)
            self._uploads.end(dataclasses.replace(job, state="done", error=None), MOST_KEPT)
        self._refresh()  # before anybody hears that it is done

    def _try_decoding(self, job: Job) -> None:
        """Decode each image in a process that may die: ``add`` decodes in this process, if they are few."""
        for file in job.waiting():
            if self._stopping.is_set():
                raise _StoppedError
            try:
                self._image_encoder.try_decoding(read_file(self._uploads.path_of(job, file.name)))
            except ImageError as error:
                file.state, file.detail = error.reason, error.detail
        self._uploads.look_for_removals(job)

    def _add(self, job: Job, writer: AnyWriter) -> None:
        """Add what was not removed meanwhile and is not there already; no other job and no removal runs."""
        self._uploads.look_for_removals(job)
        wanted: dict[str, SentFile] = {}
        for file in job.waiting():
            there = file.name in wanted or (
                not job.replace
                and not self._uploads.is_moved(job, file.name)
                and writer.item(item_of(file.name)) is not None
            )
            if there:
                file.state, file.detail = THERE, _THERE
                self._uploads.restore(job, file.name)
            else:
                wanted[file.name] = file
        for name in wanted:
            self._uploads.move(job, name)

        def advance(what: str, done: int, total: int, note: str) -> None:
            job.looked_at = done
            if self._stopping.is_set() and done < total:
                raise _StoppedError

        if wanted:
            model = self._image_encoder.encoder_of(writer.model_id)
            given = Given(
                images=self._uploads.dataset(sorted(wanted), job.labels),
                source=Source(str(self._uploads.images), prefix=PREFIX),
                metadata={
                    f"{name[:2]}/{name}": {"name": file.shown} for name, file in wanted.items() if file.shown
                },
            )
            for problem in ingest(writer, model, given, progress=advance).problems:
                file = wanted[problem.id.rpartition("/")[2]]
                file.state, file.detail = problem.reason, problem.detail
        for name, file in wanted.items():
            if file.state:
                self._uploads.forget(item_of(name))
            file.state = file.state or ADDED


def _holds(job: Job, item: str) -> bool:
    """Whether a job has put an item into the gallery, or is still to do so."""
    states = {file.state for file in job.files if item_of(file.name) == item}
    return bool(states & {"", ADDED}) and REMOVED not in states
