"""Opening a gallery wherever it is kept: a folder, or a database."""

from __future__ import annotations

from pathlib import Path

from anglehash.gallery.gallery import Gallery
from anglehash.gallery.interface import AnyGallery
from anglehash.gallery.target import is_target
from anglehash.gallery.writing import remote


def open_gallery(name: str) -> AnyGallery:
    """The gallery of a folder, or of a target such as ``milvus:http://localhost:19530#photos``.

    Raises:
        ModelError: there is none, or it is damaged.
        RemoteError: the database is down.
    """
    gallery: AnyGallery = remote().RemoteGallery.open(name) if is_target(name) else Gallery.open(Path(name))
    return gallery
