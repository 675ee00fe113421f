"""Images into a gallery: which of them are new, their codes, and a commit for every few seconds of work.

What is unchanged is not encoded again, and what failed never shifts a neighbour: every image is found by its
id and by the sha256 of its bytes, never by its place in a list.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from anglehash.data.dataset import Dataset, ImageStore, Problem
from anglehash.data.image_hash import content_key, sign
from anglehash.data.sources.folders import outside_line
from anglehash.data.sources.walk import Files
from anglehash.encode.encoder import Encoder
from anglehash.errors import ImageError
from anglehash.files import cache_dir
from anglehash.gallery.interface import AnyWriter
from anglehash.gallery.store.items import Item, Metadata, Seen, Stored
from anglehash.gallery.store.sources import Source
from anglehash.gallery.store.writer import Changes
from anglehash.progress import Progress, silent
from anglehash.signals import Stopping

SECONDS = 5.0
"""How long the work of one commit should take: what a stop waits for, and a crash does again, at most."""

SMALLEST, LARGEST = 64, 16_384

_TRANSIENT = frozenset({"unreadable-file", "decoder-died", "decoder-timeout"})
"""Reasons that may be gone when the file is looked at again, though it has not changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """Images that are to be in a gallery.

    Attributes:
        images: they and their labels.
        source: where they come from; it says what their ids are.
        metadata: further columns of each, by the image's name.
        moved: items whose files are gone, by content: a new file with the same bytes is one of them, renamed.
        verify_content: read every file again, also where size and date have not changed.
        largest: images in one commit at most.
    """

    images: Dataset
    source: Source
    metadata: Mapping[str, Metadata] = field(default_factory=dict)
    moved: Mapping[bytes, Item] = field(default_factory=dict)
    verify_content: bool = False
    largest: int = LARGEST


@dataclass(slots=True)
class Ingested:
    """What became of the images.

    Attributes:
        added: new ids.
        replaced: ids whose bytes had changed.
        renamed: new ids with the bytes of one that is gone.
        relabelled: ids with other labels or metadata and equal bytes.
        unchanged: ids that were there with equal bytes.
        removed: ids that are gone.
        problems: images that were skipped.
        notes: ``{"id", "note"}`` of images with something wrong that was passed over.
    """

    added: int = 0
    replaced: int = 0
    renamed: int = 0
    relabelled: int = 0
    unchanged: int = 0
    removed: int = 0
    problems: list[Problem] = field(default_factory=list)
    notes: list[dict[str, str]] = field(default_factory=list)

    def facts(self) -> dict[str, int]:
        """The counts, as JSON values."""
        names = ("added", "replaced", "renamed", "relabelled", "unchanged", "removed")
        return {name: getattr(self, name) for name in names} | {"skipped": len(self.problems)}

    def line(self) -> str:
        """The counts that are not 0, in one line."""
        counts = [f"{count} {name}" for name, count in self.facts().items() if count]
        return ", ".join(counts) or "nothing to do"


class _Wanted(NamedTuple):
    """An image whose code is not known yet; ``item`` is all of it but the code."""

    row: int
    seen: Seen
    item: Item
    is_new: bool


@dataclass(slots=True)
class _Batch:
    """What is known of the images of one commit."""

    known: dict[str, Stored]
    ready: list[Item] = field(default_factory=list)
    wanted: list[_Wanted] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    remove: list[str] = field(default_factory=list)


def ingest(writer: AnyWriter, model: Encoder, given: Given, *, progress: Progress = silent) -> Ingested:
    """Put images into a gallery; what was committed stays, whatever stops this.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed; the batch at hand is committed.
        SystemExit: SIGTERM came; likewise.
    """
    done, number = Ingested(), writer.add_source(given.source)
    listed = [problem._replace(id=given.source.id_of(problem.id)) for problem in given.images.problems]
    done.problems += listed
    if outside := given.images.facts.get("links_outside"):
        done.notes.append({"id": given.source.id_of(outside[0]), "note": outside_line(outside)})
    if listed:
        writer.commit(Changes(seen=[Seen(*problem) for problem in listed]))
    total, start, size = len(given.images), 0, min(4 * SMALLEST, given.largest)
    with Stopping() as stopping:
        while start < total:
            began, rows = time.monotonic(), range(start, min(start + size, total))
            batch = _Batch(writer.items([given.source.id_of(given.images.ids[row]) for row in rows]))
            for row in rows:
                _look(writer, given, number, row, batch, done)
            _encode(model, given, batch, done)
            if batch.ready or batch.remove or batch.seen:
                writer.commit(Changes(batch.ready, batch.remove, batch.seen))
            start = rows.stop
            progress("images", start, total, f"{len(done.problems)} skipped" if done.problems else "")
            stopping.end_if_asked()
            size = next_size(size, time.monotonic() - began, given.largest)
    return done


def next_size(size: int, seconds: float, largest: int) -> int:
    """How many images to take next, where ``size`` took so long.

    >>> next_size(256, 10.0, 16_384), next_size(256, 0.01, 16_384), next_size(64, 60.0, 16_384)
    (128, 1024, 64)
    """
    wished = int(size * SECONDS / max(seconds, 1e-3))
    return max(min(SMALLEST, largest), min(wished, 4 * size, largest))


def _look(
    writer: AnyWriter, given: Given, number: int, row: int, batch: _Batch, done: Ingested
) -> None:  # fmt: skip
    """Put one image where it belongs: unchanged, ready with a known code, to be encoded, or a problem."""
    name = given.images.ids[row]
    key = given.source.id_of(name)
    size, date = file_facts(given.images.images, row)
    known, seen = batch.known.get(key), writer.seen(key)
    labels, metadata = _labels(given.images, row), dict(given.metadata.get(name, {}))
    same_file = seen is not None and size > 0 and (seen.size, seen.date) == (size, date)
    if same_file and seen and not given.verify_content:
        if seen.reason and seen.reason not in _TRANSIENT:
            done.problems.append(Problem(key, seen.reason, seen.detail))
            return
        if known and not seen.reason and known.item.content == seen.content:
            _keep(known.item, labels, metadata, batch, done)
            return
    try:
        content = content_key(given.images.images.read(row))
    except ImageError as error:
        _refuse(Seen(key, error.reason, error.detail, b"", size, date), batch, done)
        return
    seen = Seen(key, content=content, size=size, date=date)
    item = Item(key, b"", labels, metadata, content, date, number)
    if known and known.item.content == content:
        batch.seen.append(seen)
        _keep(known.item, labels, metadata, batch, done)
    elif content in given.moved and not known:
        batch.seen.append(seen)
        old = given.moved[content]
        batch.ready.append(item._replace(code=old.code, pixels=old.pixels, signature=old.signature))
        done.renamed += 1
    else:
        batch.wanted.append(_Wanted(row, seen, item, known is None))


def _keep(
    item: Item, labels: tuple[str, ...], metadata: dict[str, Any], batch: _Batch, done: Ingested
) -> None:
    """An item with equal bytes: nothing to do, unless what is said of it has changed."""
    if item.labels == labels and dict(item.metadata) == metadata:
        done.unchanged += 1
    else:
        batch.ready.append(item._replace(labels=labels, metadata=metadata))
        done.relabelled += 1


def _refuse(seen: Seen, batch: _Batch, done: Ingested) -> None:
    """A file that gives no code; what the gallery had under its id no longer shows what is there.

    A file that merely cannot be opened may come back: its item stays.
    """
    batch.seen.append(seen)
    if seen.reason not in _TRANSIENT:
        batch.remove.append(seen.id)
    done.problems.append(Problem(seen.id, seen.reason, seen.detail))


def _encode(model: Encoder, given: Given, batch: _Batch, done: Ingested) -> None:
    """Give the wanted images their codes."""
    if not batch.wanted:
        return
    by_row = {wanted.row: wanted for wanted in batch.wanted}
    images = Unchanged(given.images.images, {row: wanted.seen.content for row, wanted in by_row.items()})
    rows: NDArray[np.int64] = np.array(list(by_row), dtype=np.int64)
    found = model.encode(images, rows=rows, cache=cache_dir())
    keys = keys_of(images, found.rows)
    for row, code in zip(found.rows.tolist(), found.codes, strict=True):
        batch.ready.append(by_row[row].item._replace(code=code.tobytes(), **keys[row]))
        batch.seen.append(by_row[row].seen)
        done.added += by_row[row].is_new
        done.replaced += not by_row[row].is_new
    for row, reason, detail in found.problems:
        _refuse(by_row[row].seen._replace(reason=reason, detail=detail), batch, done)
    done.notes += [{"id": by_row[row].item.id, "note": note} for row, note in found.notes]


def keys_of(images: ImageStore, rows: NDArray[np.int64]) -> dict[int, dict[str, Any]]:
    """The ``pixels`` and ``signature`` of an item by its row; neither where an image cannot be decoded in full."""
    found = sign(images, rows, cache=cache_dir() / "keys")
    pairs = zip(rows.tolist(), found.keys, found.signatures, strict=True)
    keys: dict[int, dict[str, Any]] = {
        row: {"pixels": key.tobytes(), "signature": own.tobytes()} for row, key, own in pairs
    }
    return keys | {row: {} for row, _, _ in found.problems}


@dataclass(frozen=True, slots=True)
class Unchanged:
    """Images that are read only while they are still what was hashed: a code never gets another's sha256."""

    images: ImageStore
    contents: Mapping[int, bytes]

    def __len__(self) -> int:
        return len(self.images)

    def read(self, row: int) -> bytes | NDArray[np.uint8]:
        """One image, if it still is what it was.

        Raises:
            ImageError: it cannot be read, or has changed.
        """
        data = self.images.read(row)
        if content_key(data) != self.contents[row]:
            raise ImageError("unreadable-file", "it changed while it was being read")
        return data


def file_facts(images: ImageStore, row: int) -> tuple[int, int]:
    """Size and date of an image's file; zeros where it is not a file of its own, or gone."""
    if not isinstance(images, Files):
        return 0, 0
    try:
        status = os.stat(images.root / images.names[row])
    except (OSError, ValueError):  # a name that no file can have
        return 0, 0
    return status.st_size, status.st_mtime_ns


def _labels(images: Dataset, row: int) -> tuple[str, ...]:
    return tuple(images.class_names[c] for c in np.flatnonzero(images.labels[row]))


def removable(ids: Sequence[str], source: Source, images: Dataset) -> list[str]:
    """Those ids of a source whose files are gone: neither listed, nor in a folder that could not be read."""
    present = {source.id_of(name) for name in images.ids}
    doubtful = {source.id_of(problem.id) for problem in images.problems}
    if source.id_of(".") in doubtful:
        return []
    return [
        name
        for name in ids
        if source.covers(name)
        and name not in present
        and name not in doubtful
        and not any(name.startswith(f"{folder}/") for folder in doubtful)
    ]
