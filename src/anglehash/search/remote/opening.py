"""Opening a gallery wherever it is kept: a folder, or an engine."""

from __future__ import annotations

from pathlib import Path

from anglehash.search.gallery import Gallery
from anglehash.search.remote.gallery import RemoteGallery
from anglehash.search.remote.target import is_target

AnyGallery = Gallery | RemoteGallery


def open_any(name: str) -> AnyGallery:
    """The gallery of a folder, or of a target such as ``milvus:http://localhost:19530#photos``.

    Raises:
        ModelError: there is none, or it is damaged.
        RemoteError: the engine is down.
    """
    return RemoteGallery.open(name) if is_target(name) else Gallery.open(Path(name))
