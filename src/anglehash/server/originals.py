"""Where the image of an item is: only items of the gallery have one, and only below their source's folder."""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anglehash.data.dataset import Dataset
from anglehash.data.images.decoding import read_file
from anglehash.data.images.pillow import sniff
from anglehash.data.sources.walk import is_inside
from anglehash.errors import AnglehashError, ImageError
from anglehash.gallery.folder import FolderGallery
from anglehash.gallery.store.items import Item
from anglehash.gallery.store.sources import Source, sources_of
from anglehash.remote.gallery import RemoteGallery
from anglehash.server.errors import RefusalError
from anglehash.server.gallery_api import Searchable

_Listed = tuple[Dataset, dict[str, int]]


class Originals:
    """The images of a gallery's items. Several threads may read at once."""

    def __init__(self, gallery: Searchable) -> None:
        self._gallery = gallery
        self._lock = threading.Lock()
        self._sources: dict[int, Source] = {}
        self._sets: dict[int, _Listed | None] = {}

    def read(self, item: Item) -> bytes | NDArray[np.uint8]:
        """The bytes of an item's image file, or its pixels.

        Raises:
            RefusalError: 404, there is none any more.
        """
        source = self._source(item)
        try:
            if source is not None and source.is_set:
                return self._from_set(item, source)
            if source is not None:
                path = source.folder / source.name_of(item.id)
                if not is_inside(source.folder, path):
                    raise RefusalError(
                        404, "no-image", "the image lies behind a link that leads out of its folder"
                    )
                return read_file(path)
        except (ImageError, KeyError, OSError, ValueError):
            pass
        raise RefusalError(404, "no-image", "the image of this item is not there any more")

    def whole(self, item: Item) -> tuple[Path | bytes, str]:
        """The image file of an item, or its bytes where they are part of a larger file, and its media type.

        Raises:
            RefusalError: 404, there is none any more, or there are only pixels.
        """
        source = self._source(item)
        data = self.read(item)  # refuses what lies outside the folder
        path = source.folder / source.name_of(item.id) if source is not None and not source.is_set else None
        if isinstance(data, bytes):
            with suppress(ImageError):
                return path or data, f"image/{sniff(data).lower()}"
        raise RefusalError(404, "no-image", "this item has no image file")

    def size(self, item: Item) -> tuple[int | None, bool]:
        """The bytes of an item's image file, and whether there is an image."""
        source = self._source(item)
        if source is None:
            return None, False
        if source.is_set:
            return None, True
        path = source.folder / source.name_of(item.id)
        try:
            shown = is_inside(source.folder, path) and path.is_file()
            return (path.stat().st_size, True) if shown else (None, False)
        except (OSError, ValueError):
            return None, False

    def _source(self, item: Item) -> Source | None:
        if item.source not in self._sources:
            with self._lock:
                self._sources = self._read_sources()
        return self._sources.get(item.source)

    def _read_sources(self) -> dict[int, Source]:
        gallery = self._gallery
        if isinstance(gallery, FolderGallery):
            return sources_of(gallery.path, gallery.root)
        if isinstance(gallery, RemoteGallery):
            return gallery.sources
        return {0: Source(gallery.root)} if gallery.root else {}

    def _from_set(self, item: Item, source: Source) -> bytes | NDArray[np.uint8]:
        with self._lock:
            if item.source not in self._sets:
                try:
                    self._sets[item.source] = source.listed()
                except (AnglehashError, OSError):
                    self._sets[item.source] = None
            listed = self._sets[item.source]
        if listed is None or not source.covers(item.id):
            raise KeyError(item.id)
        dataset, rows = listed
        return dataset.images.read(rows[source.name_of(item.id)])
