"""A service: a gallery, its model, its images, and the application that answers for them."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import secrets
import threading
from typing import Any

from anglehash.encode.encoder import Encoder
from anglehash.errors import AnglehashError, MissingExtraError
from anglehash.gallery.filters import Filter
from anglehash.gallery.folder import FolderGallery
from anglehash.gallery.image_search import model_of
from anglehash.gallery.interface import AnyGallery
from anglehash.gallery.store.summary import Summary
from anglehash.manifest import NAME as MANIFEST
from anglehash.server import gallery_info as facts
from anglehash.server.errors import RefusalError
from anglehash.server.gallery_api import Collection, Searchable
from anglehash.server.image_encoder import ImageEncoder
from anglehash.server.jobs import Jobs
from anglehash.server.limits import Budget, Pool
from anglehash.server.metrics import Metrics
from anglehash.server.originals import Originals
from anglehash.server.settings import Settings
from anglehash.server.thumbnails import Thumbnails

_log = logging.getLogger("anglehash.cli")

SEARCH_THREADS = 2
SEARCH_QUEUE = 512
BODIES = 16
"""Number of largest bodies that may be in memory at once."""

REFRESH_SECONDS = 1.0
WARM_QUERIES = 1000


class Service:
    """Everything that routes use.

    Args:
        gallery: what is served.
        settings: how.

    Raises:
        ModelError: the gallery's model is damaged, or another's.
    """

    def __init__(self, gallery: Searchable, settings: Settings) -> None:
        self.gallery, self.settings = gallery, settings
        self.metrics = Metrics()
        self.searches = Pool("searching", SEARCH_THREADS, SEARCH_QUEUE)
        self.filtered = Pool("filtering", SEARCH_THREADS, SEARCH_QUEUE)
        self.files = Pool("reading", 2, SEARCH_QUEUE)
        self.surveys = Pool("counting", 1, 64)
        self.writes = Pool("writing", 1, 64)
        self.bodies = Budget(BODIES * settings.body_limit)
        secret = b"".join(digest for digest, _ in settings.keys.digests) or secrets.token_bytes(32)
        secret = hashlib.sha256(b"cursors" + secret).digest()
        self.collection = Collection(gallery, settings.engine, secret)
        self.originals = Originals(gallery)
        self.image_encoder = ImageEncoder(
            queue=settings.queue, workers=settings.workers, seconds=settings.decode_timeout
        )
        self._refreshing = threading.Lock()
        self.model_facts: dict[str, Any] = {}
        self._take_model()
        self.thumbnails = Thumbnails(self.originals, self.image_encoder, self.files)
        self.jobs = Jobs(
            gallery, self.image_encoder, settings.uploads, quota=settings.upload_quota, refresh=self.refresh
        )
        self.draining = False
        self._summary: tuple[int, Summary] | None = None
        self._lean: tuple[int, dict[str, Any]] | None = None
        self._health: tuple[int, dict[str, Any]] | None = None
        self._lock = threading.Lock()

    def start(self) -> None:
        """Get ready: the first client should not pay for it."""
        self.image_encoder.warm()
        self.summary()
        if isinstance(self.gallery, FolderGallery) and len(self.gallery):
            # As many as an engine builds its tables for: otherwise clients would wait while it does.
            some = self.gallery.codes[:: max(1, len(self.gallery) // WARM_QUERIES)][:WARM_QUERIES]
            self.gallery.search(some, 1, engine=self.settings.engine)
        self.jobs.start()

    def close(self) -> None:
        """End threads and processes; what a job has committed stays, and the rest resumes at the next start."""
        self.jobs.stop(self.settings.drain)
        self.image_encoder.close()
        for pool in (self.searches, self.filtered, self.files, self.surveys, self.writes):
            pool.close()

    def stop_accepting(self) -> None:
        """Say from now on that the service ends."""
        self.draining = True

    def searching(self, where: Filter) -> Pool:
        """Who searches: a filter that was not asked for before takes a while, and only others with one wait."""
        return self.filtered if where else self.searches

    def summary(self) -> Summary:
        """The counts of the generation that is open; made once for each."""
        with self._lock:
            generation = self.gallery.generation
            if self._summary is None or self._summary[0] != generation:
                self._summary = generation, facts.summary_of(self.gallery)
            return self._summary[1]

    def health(self) -> dict[str, Any]:
        """What :func:`facts.health` says of the generation that is open."""
        summary, generation = self.summary(), self.gallery.generation
        if self._health is None or self._health[0] != generation:
            self._health = generation, facts.health(self.gallery, summary)
        return self._health[1]

    def lean(self) -> dict[str, Any]:
        """What :func:`facts.lean` says of the generation that is open."""
        summary, generation = self.summary(), self.gallery.generation
        if self._lean is None or self._lean[0] != generation:
            self._lean = generation, facts.lean(self.gallery, summary)
        return self._lean[1]

    def refresh(self) -> None:
        """Go on to the newest generation, and to the model that made its codes."""
        with self._refreshing:
            self.gallery.refresh()
            if self.gallery.model_id != self.model_facts["id"]:
                self._take_model()

    def _take_model(self) -> None:
        manifest = _manifest(self.gallery)
        model = _model_of(self.gallery)
        if model is not None:
            self.image_encoder.use_model(model, manifest["preprocessing"])
        self.model_facts = _model_facts(self.gallery, manifest)

    async def follow(self) -> None:
        """Go on to newer generations as they come, whoever writes them."""
        while True:
            await asyncio.sleep(REFRESH_SECONDS)
            try:
                await self.surveys.run(self.refresh)
            except RefusalError:
                pass
            except (AnglehashError, OSError) as error:
                _log.warning("the newest generation cannot be read, the one before is served: %s", error)


def _model_of(gallery: Searchable) -> Encoder | None:
    """The gallery's model, or ``None`` where it has none, or where what runs it is not installed."""
    if not isinstance(gallery, AnyGallery) or not _manifest(gallery):
        return None
    try:
        return model_of(gallery)
    except MissingExtraError as error:
        _log.warning("images cannot be searched by: %s", error)
        return None


def _manifest(gallery: Searchable) -> dict[str, Any]:
    """What the model's manifest says of it."""
    try:
        found: dict[str, Any] = json.loads((gallery.model_folder / MANIFEST).read_bytes())
        return found
    except (OSError, ValueError):
        return {}


def _model_facts(gallery: Searchable, manifest: dict[str, Any]) -> dict[str, Any]:
    """The model as clients see it; a bundle may know less of itself."""
    backbone = manifest.get("backbone")
    return {
        "id": gallery.model_id,
        "method": manifest.get("method"),
        "backbone": backbone.get("name") if isinstance(backbone, dict) else backbone,
        "size": (manifest.get("preprocessing") or {}).get("size"),
        "classes": manifest.get("classes"),
    }
