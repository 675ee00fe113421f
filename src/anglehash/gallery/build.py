"""Galleries on the command line: building, growing, following a folder, and re-encoding with another model."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from anglehash.data.sources.open import SETS, list_images
from anglehash.encode.encoder import Encoder
from anglehash.encode.load import OWN, Using, open_encoder
from anglehash.errors import ConfigError, DataError, ModelError
from anglehash.files import put_in_place, refuse_existing
from anglehash.gallery.ingest import LARGEST, SMALLEST, Given, Ingested, ingest, removable
from anglehash.gallery.metadata import manifest_metadata
from anglehash.gallery.store.database import State
from anglehash.gallery.store.layout import KIND, Store, library
from anglehash.gallery.store.opening import LOCK_TIMEOUT, attach, make_store, open_writer
from anglehash.gallery.store.sources import Source
from anglehash.gallery.store.writer import Changes
from anglehash.gallery.target import shown
from anglehash.gallery.writing import write_gallery
from anglehash.manifest import NAME, is_a, kind_of
from anglehash.progress import Progress, silent

FEW = 10
"""Number of items that may be removed at once without ``--force``; beyond it, at most half of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Images:
    """Images as the command line names them.

    Attributes:
        data: a folder, a manifest, or the name of a known set.
        root: where the files of a known set or a manifest are.
        download: a known set may be fetched.
        prefix: what stands before each id.
        verify_content: read every file again, also where size and date have not changed.
        memory: bytes that the command may use, or ``None``.
        exclude: patterns of images that are left out.
    """

    data: str
    root: Path | None = None
    download: bool = False
    prefix: str = ""
    verify_content: bool = False
    memory: int | None = None
    exclude: tuple[str, ...] = ()

    @property
    def source(self) -> Source:
        """Where they come from, by names that hold in any working directory."""
        if self.prefix.startswith("/") or self.prefix.endswith("/") or ".." in self.prefix.split("/"):
            raise ConfigError(
                f"a prefix is a path such as trips/2019, without .. or / at its ends: {self.prefix!r}"
            )
        path = Path(os.path.expanduser(self.data))
        data = self.data if self.data in SETS or not path.exists() else str(path.absolute())
        return Source(
            data, str(Path(os.path.expanduser(self.root)).absolute()) if self.root else "", self.prefix
        )

    def given(self) -> Given:
        """The images, listed."""
        images = list_images(self.data, root=self.root, download=self.download, exclude=self.exclude)
        return Given(
            images=images,
            source=self.source,
            metadata=manifest_metadata(self.data),
            verify_content=self.verify_content,
            largest=largest_batch(self.memory, len(images), len(images.class_names)),
        )


BASE_MEMORY = 700 * 2**20
"""Bytes of the libraries, a network at work and its decoders: 555 MiB were measured with efficientnet_lite0."""

ID_MEMORY, IMAGE_MEMORY = 1_000, 60_000
"""Bytes of a listed image, to which its row of labels comes, and of one more image in a batch; rounded up."""


def largest_batch(memory: int | None, images: int, classes: int = 0) -> int:
    """How many images may be in a batch so that all of it stays below ``memory`` bytes.

    >>> largest_batch(None, 100), largest_batch(2**30, 100)
    (16384, 5660)

    Raises:
        ConfigError: it is too little for any batch.
    """
    if memory is None:
        return LARGEST
    listed = BASE_MEMORY + (ID_MEMORY + 2 * classes) * images
    if memory < listed + SMALLEST * IMAGE_MEMORY:
        needed = (listed + SMALLEST * IMAGE_MEMORY >> 20) + 1
        raise ConfigError(
            f"--memory {memory >> 20}M is too little for {images} images: at least {needed}M is needed"
        )
    return min(LARGEST, (memory - listed) // IMAGE_MEMORY)


def build(
    model_path: Path,
    images: Images,
    output: Path,
    *,
    force: bool = False,
    strict: bool = False,
    progress: Progress = silent,
) -> Ingested:
    """Make a gallery with a model or a bundle.

    Until it is complete it lies beside its place, where another call resumes it.

    Raises:
        OutputExistsError: there is something at ``output``.
        ModelError: the model is damaged, or an unfinished gallery of another model lies there.
    """
    refuse_existing(output, force=force, ours=is_a(KIND))
    model, given = open_encoder(model_path, strict=strict), images.given()
    work = output.with_name(f"{output.name[:200]}.indexing")
    _begin(work, model_path, model, images, force=force)
    with open_writer(work) as writer:
        done = ingest(writer, model, given, progress=progress)
    refuse_existing(output, force=force, ours=is_a(KIND))
    put_in_place(work, output)
    return done


def _begin(work: Path, model_path: Path, model: Encoder, images: Images, *, force: bool) -> None:
    """An empty gallery at ``work``, unless there is one of the same model."""
    if kind_of(work) == KIND:
        with open_writer(work) as writer:  # nobody else is at it
            found = writer.state.model
        if found == model.id:
            return
        if not force:
            raise ModelError(
                f"{work} is an unfinished gallery of the model {found}, not of {model.id}: "
                "remove it, or add --force to begin again"
            )
    elif work.exists() and any(p.name != "1" and p.suffix != ".tmp" for p in work.iterdir()):
        raise ModelError(
            f"{work} is in the way, and no unfinished gallery: move it, or choose another output"
        )
    if work.exists():
        (work / NAME).unlink(missing_ok=True)  # first: what is half removed is then no gallery
        shutil.rmtree(work)
    store = Store(work / "1")
    path = Path(os.path.expanduser(images.data))
    root = str(path.absolute()) if path.exists() else ""
    make_store(store, State(bits=model.bits, model=model.id, root=root, created_by=library()), model_path)
    with attach(store) as writer:
        writer.publish(work)


def add(
    gallery: str | Path,
    images: Images,
    *,
    using: Using = OWN,
    lock_timeout: float = LOCK_TIMEOUT,
    progress: Progress = silent,
) -> Ingested:
    """Add images to a gallery: new ids are added, changed files replace theirs, unchanged ones are passed over.

    Args:
        gallery: its folder, or a target such as ``milvus:http://localhost:19530#photos``.
        images: what is added.
        using: who encodes.
        lock_timeout: seconds to wait for another writer.
        progress: callback.
    """
    given = images.given()
    with write_gallery(gallery, lock_timeout=lock_timeout) as writer:
        return ingest(writer, using.open(writer), given, progress=progress)


def sync(
    gallery: str | Path,
    images: Images,
    *,
    force: bool = False,
    using: Using = OWN,
    lock_timeout: float = LOCK_TIMEOUT,
    progress: Progress = silent,
) -> Ingested:
    """Make a gallery hold what a folder holds: as :func:`add`, and what is gone from the folder goes too.

    A file that was moved or renamed is found by its content and not encoded again.

    Raises:
        DataError: more than half of the items would go, and ``force`` is not set: is a disk not mounted?
    """
    given = images.given()
    with write_gallery(gallery, lock_timeout=lock_timeout) as writer:
        ids = writer.ids()
        gone = removable(ids, given.source, given.images)
        covered = sum(map(given.source.covers, ids))
        if len(gone) > max(FEW, covered // 2) and not force:
            raise DataError(
                f"{len(gone)} of {covered} items have no file in {images.data} (first: {gone[0]!r}): if that is "
                "right, add --force; if these items come from elsewhere, give each folder its own --prefix"
            )
        moved = {one.item.content: one.item for one in writer.items(gone).values() if one.item.content}
        given = replace(given, moved=moved)
        done = ingest(writer, using.open(writer), given, progress=progress)
        known = {given.source.id_of(name) for name in given.images.ids} | {p.id for p in done.problems}
        forgotten = [
            name for name in removable(writer.files(), given.source, given.images) if name not in known
        ]
        if gone or forgotten:
            removed = writer.commit(Changes(remove=gone, forget=forgotten)).removed
            done.removed = max(0, removed - done.renamed)
        return done


def remove(gallery: str | Path, ids: tuple[str, ...], *, lock_timeout: float = LOCK_TIMEOUT) -> int:
    """Remove items; all or, where one of the ids is not there, none.

    Raises:
        DataError: no item of one of these ids.
    """
    with write_gallery(gallery, lock_timeout=lock_timeout) as writer:
        there = writer.items(ids)
        for name in ids:
            if name not in there:
                raise DataError(f"no item {name!r} in {shown(str(gallery))}: see anglehash list")
        return writer.commit(Changes(remove=list(there))).removed
