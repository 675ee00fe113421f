"""Push and pull: a gallery from a folder to an engine and back.

Rows go into a collection that nothing names yet. Its name follows from the content, so the same command finds it
again and continues. When all rows are there, all are read back; if count and checksum are right, the catalogue's entry
is replaced, in one step, and the old collection goes. A gallery that is pulled lies beside its place until then.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from anglehash.errors import ModelError
from anglehash.files import put_in_place, refuse_existing, sha256_json, write_json
from anglehash.gallery.folder import FolderGallery
from anglehash.gallery.store.database import State
from anglehash.gallery.store.items import Item
from anglehash.gallery.store.layout import KIND, Store, library
from anglehash.gallery.store.opening import attach, make_store, open_writer
from anglehash.gallery.store.sources import sources_of
from anglehash.gallery.store.writer import CHUNK, Changes
from anglehash.gallery.target import Target
from anglehash.manifest import is_a, kind_of
from anglehash.progress import Progress, silent
from anglehash.remote import models
from anglehash.remote.backend import Backend, Entry
from anglehash.remote.gallery import RemoteGallery
from anglehash.remote.pushdown import ALL
from anglehash.remote.rows import Row, checksum, row_of
from anglehash.remote.snapshot import connect

BATCH = 5000
"""Rows that are sent at once."""

_NOTE = "pull.json"


@dataclass(slots=True)
class Moved:
    """What a push or a pull did.

    Attributes:
        items: in the gallery.
        sent: items that were sent, or fetched, by this call.
        found: items that an earlier call had sent or fetched.
        checksum: of the rows; that of both sides.
        model: whether a copy of the model went along.
    """

    items: int
    sent: int
    found: int
    checksum: str
    model: bool

    def facts(self) -> dict[str, Any]:
        """As JSON values."""
        return {field: getattr(self, field) for field in self.__slots__}


def push(
    path: Path, target: Target, *, force: bool = False, model: bool = True, progress: Progress = silent
) -> Moved:
    """Make ``target`` hold what a gallery holds.

    Args:
        path: the gallery's folder.
        target: where to.
        force: replace a gallery of another model or length.
        model: send the model along, so that ``target`` can be searched by images.
        progress: callback.

    Raises:
        ModelError: the gallery is damaged, or ``target`` has codes of another model or length; or what came back
            is not what was sent.
        DataError: the engine cannot hold an item.
        RemoteError: the engine is down, or went down; the same call resumes.
    """
    with FolderGallery.open(path) as gallery:
        count, digest = checksum((row.row, row.crc) for row in _rows(gallery))
        engine = connect(target)
        try:
            return _push(
                gallery, engine, target, (count, digest), force=force, model=model, progress=progress
            )
        finally:
            engine.close()


def _push(
    gallery: FolderGallery,
    engine: Backend,
    target: Target,
    content: tuple[int, str],
    *,
    force: bool,
    model: bool,
    progress: Progress,
) -> Moved:
    count, digest = content
    text = engine.entry(target.name)
    old = Entry.parse(text, target) if text is not None else None
    if old and not force:
        _refuse_others(old, gallery, target)
    sent_model = bool(model and models.keep(engine, gallery.model_id, gallery.model_folder))
    facts = (gallery.bits, gallery.model_id)
    if old and (old.bits, old.model) == facts and old.checksum == digest:
        return Moved(count, 0, count, digest, sent_model)
    key = sha256_json([digest, *facts, old.collection if old else "", old.generation if old else 0])
    staging = f"{target.name}_{key[:16]}"
    engine.make(staging, gallery.bits)
    found = engine.count(staging) // BATCH * BATCH
    done = found
    progress("push", done, count, "")
    for rows in _batches(islice(_rows(gallery), found, None)):
        engine.put(staging, rows)
        done += len(rows)
        progress("push", done, count, "")
    _verify(engine, staging, content, target, progress)
    engine.finish(staging)
    entry = Entry(
        collection=staging, bits=gallery.bits, model=gallery.model_id, root=gallery.root, created_by=library(),
        generation=(old.generation if old else 0) + 1, last_row=count, live=count, checksum=digest,
        sources=tuple(sources_of(gallery.path).items()),
    )  # fmt: skip
    engine.set_entry(target.name, entry.text())
    _clean(engine, target.name, staging)
    return Moved(count, count - found, found, digest, sent_model)


def _refuse_others(old: Entry, gallery: FolderGallery, target: Target) -> None:
    if (old.bits, old.model) != (gallery.bits, gallery.model_id):
        raise ModelError(
            f"{target} holds {old.bits}-bit codes of the model {old.model}, but {gallery.path} has {gallery.bits}-bit "
            f"codes of {gallery.model_id}: choose another name after the #, or add --force to replace it"
        )


def _rows(gallery: FolderGallery) -> Iterator[Row]:
    """The rows of a gallery, numbered from 1 in its order."""
    return (row_of(stored.item, number) for number, stored in enumerate(gallery, 1))


def _batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
    rest = iter(rows)
    while part := list(islice(rest, BATCH)):
        yield part


def _verify(
    engine: Backend, staging: str, content: tuple[int, str], target: Target, progress: Progress
) -> None:
    """Read everything back; what is wrong goes, so that the next call starts over."""

    def pairs() -> Iterator[tuple[int, int]]:
        for page in engine.read(staging, ALL, after=0, last=content[0]):
            yield from ((row.row, row.crc) for row in page)
            progress("verify", page[-1].row, content[0], "")

    if engine.count(staging) != content[0] or checksum(pairs()) != content:
        engine.drop(staging)
        raise ModelError(
            f"{target}: what came back is not what was sent, so nothing was published: push again"
        )


def _clean(engine: Backend, name: str, current: str) -> None:
    """Remove collections of this gallery that no entry names."""
    ours = re.compile(rf"{name}_(0|[0-9a-f]{{16}})")
    for collection in engine.collections():
        if collection != current and ours.fullmatch(collection):
            engine.drop(collection)


def pull(target: Target, output: Path, *, force: bool = False, progress: Progress = silent) -> Moved:
    """Make a gallery of what ``target`` holds. Until it is complete it lies beside its place.

    Raises:
        OutputExistsError: there is something at ``output``.
        ModelError: no such gallery, a row is damaged, or it has changed meanwhile.
        RemoteError: the engine is down, or went down; the same call resumes.
    """
    refuse_existing(output, force=force, ours=is_a(KIND))
    with RemoteGallery.open(target) as remote:
        work = output.with_name(f"{output.name[:200]}.pulling")
        _begin(work, remote)
        moved = _pull(work, remote, progress)
        refuse_existing(output, force=force, ours=is_a(KIND))
        put_in_place(work, output)
        (output / _NOTE).unlink()  # not before: work without it is nobody's
        return moved


def _begin(work: Path, remote: RemoteGallery) -> None:
    """An empty gallery at ``work``, unless one of the same content was begun there."""
    note = {"target": str(remote.target), "entry": json.loads(remote.entry.text())}
    if work.exists():
        if kind_of(work) not in (KIND, None) or not (work / _NOTE).is_file():
            raise ModelError(
                f"{work} is in the way, and no unfinished pull: move it, or choose another output"
            )
        with suppress(ValueError):
            if json.loads((work / _NOTE).read_bytes()) == note and kind_of(work) == KIND:
                return
        _discard(work)
    work.mkdir(parents=True)
    write_json(work / _NOTE, note)
    try:
        model = remote.model_folder
    except ModelError:
        model = None  # it was pushed without one
    store, entry = Store(work / "1"), remote.entry
    make_store(store, State(bits=entry.bits, model=entry.model, root=entry.root, created_by=library()), model)
    with attach(store) as writer:
        writer.commit(Changes(sources=entry.sources))
        writer.publish(work)


def _discard(work: Path) -> None:
    """Remove an unfinished pull; the note, which says that it is one, goes last."""
    for entry in work.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)
        elif entry.name != _NOTE:
            entry.unlink()
    shutil.rmtree(work)


def _pull(work: Path, remote: RemoteGallery, progress: Progress) -> Moved:
    total, pairs = len(remote), list[tuple[int, int]]()
    with open_writer(work) as writer:
        found, place = writer.state.live, 0
        batch = list[Item]()
        for row in remote.view.rows():
            pairs.append((row.row, row.crc))
            place += 1
            if place <= found:
                continue
            batch.append(remote.view.stored(row).item)
            if len(batch) == CHUNK:
                writer.commit(Changes(batch))
                batch = []
                progress("pull", place, total, "")
        if batch:
            writer.commit(Changes(batch))
        progress("pull", place, total, "")
    count, digest = checksum(pairs)
    if count != total or (remote.entry.checksum and digest != remote.entry.checksum):
        raise ModelError(
            f"{remote.target}: {count} items came, {total} were expected, or some are not as they were pushed: "
            "it changed meanwhile, or is damaged. Pull again; if it stays so, push it again"
        )
    if remote.refresh():
        raise ModelError(f"{remote.target} has changed meanwhile: pull again")
    with_model = any((work / "1" / "model").glob("*"))
    return Moved(total, total - found, found, digest, with_model)
