"""Opening a gallery wherever it is kept: a folder, or an engine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from anglehash.gallery.gallery import Gallery
from anglehash.gallery.store.opening import LOCK_TIMEOUT, open_writer
from anglehash.gallery.store.writer import Writer
from anglehash.remote.gallery import RemoteGallery
from anglehash.remote.snapshot import RemoteView
from anglehash.remote.url import Target, is_target
from anglehash.remote.writer import RemoteWriter

AnyGallery = Gallery | RemoteGallery
AnyWriter = Writer | RemoteWriter


def open_any(name: str) -> AnyGallery:
    """The gallery of a folder, or of a target such as ``milvus:http://localhost:19530#photos``.

    Raises:
        ModelError: there is none, or it is damaged.
        RemoteError: the engine is down.
    """
    return RemoteGallery.open(name) if is_target(name) else Gallery.open(Path(name))


@contextmanager
def write_any(gallery: str | Path | Target, *, lock_timeout: float = LOCK_TIMEOUT) -> Iterator[AnyWriter]:
    """Write to the gallery of a folder or a target.

    Args:
        gallery: its folder, or a target, or a text that names one of both.
        lock_timeout: seconds to wait for another writer to a folder; engines have their own ways.

    Raises:
        ModelError: there is none, it is damaged, or somebody else writes to it.
        RemoteError: the engine is down.
    """
    if isinstance(gallery, str) and is_target(gallery):
        gallery = Target.parse(gallery)
    if isinstance(gallery, Target):
        with closing(RemoteWriter(RemoteView.open(gallery))) as there:
            there.mend()
            yield there
        return
    with open_writer(Path(gallery), lock_timeout=lock_timeout) as here:
        yield here
