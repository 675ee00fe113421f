"""Encoding a gallery again with another model, while the one in use keeps answering.

The new store is built beside the old one, in the same folder; the manifest is swapped at the end. Ids, labels,
metadata and order stay; an image that cannot be read any more becomes a problem.
"""

from __future__ import annotations

import shutil
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anglehash.data.dataset import Dataset, ImageStore, Problem
from anglehash.data.image_hash import content_key
from anglehash.data.sources.walk import Files
from anglehash.encode.encoder import Encoder
from anglehash.encode.load import open_encoder
from anglehash.errors import DataError, ImageError, ModelError
from anglehash.files import cache_dir
from anglehash.gallery.ingest import (
    LARGEST,
    SMALLEST,
    Ingested,
    Unchanged,
    file_facts,
    keys_of,
    next_size,
)
from anglehash.gallery.store.database import State
from anglehash.gallery.store.items import Item, Seen, Stored
from anglehash.gallery.store.layout import Store, clean, library, read_receipt
from anglehash.gallery.store.opening import LOCK_TIMEOUT, attach, make_store
from anglehash.gallery.store.reader import load
from anglehash.gallery.store.sources import Source, read_sources
from anglehash.gallery.store.writer import Changes, Writer
from anglehash.progress import Progress, silent
from anglehash.signals import Stopping


def reindex(
    path: Path,
    model_path: Path,
    *,
    strict: bool = False,
    lock_timeout: float = LOCK_TIMEOUT,
    progress: Progress = silent,
) -> Ingested:
    """Encode every item of a gallery with another model; an interrupted call is resumed by the same one.

    Raises:
        DataError: an item has no source to read its image from.
        ModelError: gallery or model are damaged, or the model is the one that it has.
    """
    model, done = open_encoder(model_path, strict=strict), Ingested()
    old, _ = read_receipt(path)
    with attach(old, lock_timeout=lock_timeout) as reading:
        if read_receipt(path)[0] != old:
            raise ModelError(f"{path} was encoded again while this waited: run it once more")
        if reading.state.model == model.id:
            raise ModelError(f"{path} holds codes of this model already: {model.id}")
        snapshot = load(path)
        snapshot.connection.close()
        fresh = _begin(path, reading, model, model_path)
        with attach(fresh, lock_timeout=lock_timeout) as writer:
            writer.commit(_changed_since(reading, writer))
            _encode_all(reading, writer, model, done, progress)
            writer.complete(reading.state.generation)
            writer.publish(path)
    clean(path, fresh.number)
    return done


def _begin(path: Path, reading: Writer, model: Encoder, model_path: Path) -> Store:
    """The store to build: one that was begun for the same model, or a new one."""
    fresh = Store(path / str(reading.store.number + 1))
    if fresh.database.exists():
        try:
            with attach(fresh, lock_timeout=0) as writer:
                if writer.state.model == model.id:
                    return fresh
        except ModelError:
            pass  # begun, and killed before its first commit
    shutil.rmtree(fresh.path, ignore_errors=True)
    state = State(
        bits=model.bits, model=model.id, root=reading.state.root, created_by=library(),
        generation=reading.state.generation, complete=False,
    )  # fmt: skip
    make_store(fresh, state, model_path)
    return fresh


def _changed_since(reading: Writer, writer: Writer) -> Changes:
    """What a store that was begun earlier has to follow: items and files may have gone meanwhile, or failed."""
    ids = set(reading.ids())
    noted = set(reading.files())
    others = (reading.seen(name) for name in sorted(noted - ids))
    return Changes(
        remove=sorted(set(writer.ids()) - ids),
        forget=sorted(set(writer.files()) - ids),
        seen=[seen for seen in others if seen and seen.reason],
        sources=list(read_sources(reading.connection, reading.store.database).items()),
    )


class _Place(NamedTuple):
    """Where the image of an item is."""

    item: Item
    images: ImageStore
    row: int


def _encode_all(reading: Writer, writer: Writer, model: Encoder, done: Ingested, progress: Progress) -> None:
    places, total, seen = _Places(reading), reading.state.live, 0
    items = _items(reading)
    size = 4 * SMALLEST
    with Stopping() as stopping:
        while batch := list(islice(items, size)):
            began = time.monotonic()
            lacking = []
            for item in (stored.item for stored in batch):
                encoded = writer.item(item.id)  # by a call that was stopped
                if encoded is None or not _is_same(item, encoded.item):
                    lacking.append(places.of(item))
                else:
                    done.unchanged += 1
            if lacking:
                writer.commit(_encoded(lacking, model, done))
            seen += len(batch)
            progress("images", seen, total, f"{len(done.problems)} skipped" if done.problems else "")
            stopping.end_if_asked()
            size = next_size(size, time.monotonic() - began, LARGEST)


def _is_same(old: Item, encoded: Item) -> bool:
    """Whether an item was encoded as it is now, and not before it was replaced or relabelled."""
    known = old if old.content else old._replace(content=encoded.content)
    return known == encoded._replace(code=old.code, pixels=old.pixels, signature=old.signature)


def _items(reading: Writer) -> Iterator[Stored]:
    """The items of the store in use, in its order; nobody changes it, for the lock is ours."""
    for row in range(1, reading.state.last_row + 1):
        if (found := reading.item_at(row)) is not None:
            yield found


class _Places:
    """Where images are, by the sources of a store."""

    def __init__(self, reading: Writer) -> None:
        self._path = reading.store.path.parent
        self._sources = read_sources(reading.connection, reading.store.database, reading.state.root)
        self._sets: dict[int, tuple[Dataset, dict[str, int]]] = {}

    def of(self, item: Item) -> _Place:
        """The place of an item's image, whether it is there or not.

        Raises:
            DataError: nothing is known of where it came from.
        """
        if item.source not in self._sources:
            raise DataError(
                f"nothing is known of where {item.id!r} came from, so it cannot be encoded again: "
                f"add its folder to {self._path} first: anglehash add"
            )
        source = self._sources[item.source]
        name = source.name_of(item.id)
        if source.is_set:
            dataset, rows = self._listed(item.source, source)
            return _Place(item, dataset.images, rows.get(name, -1))
        return _Place(item, Files(source.folder, (name,)), -1 if "\0" in name else 0)

    def _listed(self, number: int, source: Source) -> tuple[Dataset, dict[str, int]]:
        if number not in self._sets:
            self._sets[number] = source.listed()
        return self._sets[number]


class _Gathered:
    """The images of some places, as one store."""

    def __init__(self, places: Sequence[_Place]) -> None:
        self._places = places

    def __len__(self) -> int:
        return len(self._places)

    def read(self, row: int) -> bytes | NDArray[np.uint8]:
        place = self._places[row]
        if place.row < 0:
            raise ImageError("unreadable-file", "its source has it no longer")
        return place.images.read(place.row)


def _encoded(places: Sequence[_Place], model: Encoder, done: Ingested) -> Changes:
    """The changes that give these items their new codes."""
    images = _Gathered(places)
    contents, refused = {}, defaultdict[int, tuple[str, str]](lambda: ("", ""))
    for row in range(len(places)):
        try:
            contents[row] = content_key(images.read(row))
        except ImageError as error:
            refused[row] = (error.reason, error.detail)
    unchanged = Unchanged(images, contents)
    found = model.encode(unchanged, rows=np.array(list(contents), np.int64), cache=cache_dir())
    keys = keys_of(unchanged, found.rows)
    refused |= {row: (reason, detail) for row, reason, detail in found.problems}
    codes = dict(zip(found.rows.tolist(), found.codes, strict=True))
    add, seen, gone = [], [], []
    for row, place in enumerate(places):
        size, date = file_facts(place.images, place.row)
        reason, detail = refused[row]
        content = contents.get(row, b"")
        seen.append(Seen(place.item.id, reason, detail, content, size, date))
        if row in codes:
            item = place.item._replace(code=codes[row].tobytes(), content=content, **keys[row])
            add.append(item)
        else:
            gone.append(place.item.id)
            done.problems.append(Problem(place.item.id, reason, detail))
    done.replaced += len(add)
    done.notes += [{"id": places[row].item.id, "note": note} for row, note in found.notes]
    return Changes(add, gone, seen)
