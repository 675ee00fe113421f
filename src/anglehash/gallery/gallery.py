"""Galleries in Python: what the command line does with one, as methods."""

from __future__ import annotations

from collections.abc import Iterable
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Self, TypeVar

from anglehash.encode.load import Using
from anglehash.gallery import build, duplicates, image_search
from anglehash.gallery.filters import Filter
from anglehash.gallery.folder import FolderGallery
from anglehash.gallery.ingest import Ingested
from anglehash.gallery.query import Hits
from anglehash.gallery.reindex import reindex
from anglehash.gallery.store.backup import backup, restore
from anglehash.gallery.store.repair import Repaired, repair
from anglehash.gallery.store.verify import Fault, verify
from anglehash.index import DEFAULT
from anglehash.progress import Progress, silent

AnyPath = str | PathLike[str]
T = TypeVar("T")


class Gallery(FolderGallery):
    """A searchable collection of codes with their ids, labels and metadata, kept in a folder.

    An open gallery shows one generation; methods that change it show the new one.

    >>> import numpy as np
    >>> gallery = Gallery.create(
    ...     getfixture("tmp_path") / "gallery", codes=np.array([[0], [255]], dtype=np.uint8), ids=["a.jpg", "b.jpg"],
    ...     labels=[["cat"], ["dog"]], bits=8, model_id="m",
    ... )
    >>> [(hit.id, hit.distance) for hit in gallery.search(np.array([[1]], dtype=np.uint8), 2)[0]]
    [('a.jpg', 1), ('b.jpg', 7)]
    >>> gallery.remove(["b.jpg"]), gallery.ids
    (1, ('a.jpg',))
    """

    @classmethod
    def from_images(
        cls,
        path: AnyPath,
        images: AnyPath,
        model: AnyPath,
        *,
        force: bool = False,
        progress: Progress = silent,
    ) -> Self:
        """Make a gallery of images; an interrupted call is resumed by the same one.

        Args:
            path: the new folder.
            images: a folder, a manifest, or the name of a known set.
            model: folder of a model or bundle.
            force: replace a gallery at ``path``.
            progress: callback.

        Raises:
            OutputExistsError: ``path`` exists.
            ModelError: the model is damaged.
        """
        build.build(
            Path(model), build.Images(data=fspath(images)), Path(path), force=force, progress=progress
        )
        return cls.open(path)

    def add(self, images: AnyPath, *, prefix: str = "", progress: Progress = silent) -> Ingested:
        """Add images: new ids are added, changed files replace theirs, unchanged ones are skipped.

        Args:
            images: a folder, a manifest, or the name of a known set.
            prefix: put this and a / before each id.
            progress: callback.
        """
        return self._changed(build.add(self.path, _listed(images, prefix), progress=progress))

    def sync(
        self, images: AnyPath, *, prefix: str = "", force: bool = False, progress: Progress = silent
    ) -> Ingested:
        """Make the gallery hold what a folder holds; as :meth:`add`, and items without a file are removed.

        Args:
            images: a folder, a manifest, or the name of a known set.
            prefix: put this and a / before each id.
            force: also remove more than half of the items.
            progress: callback.

        Raises:
            DataError: more than half of the items have no file, and ``force`` is not set.
        """
        done = build.sync(self.path, _listed(images, prefix), force=force, progress=progress)
        return self._changed(done)

    def remove(self, ids: Iterable[str]) -> int:
        """Remove items, all or none; returns their number.

        Raises:
            DataError: an id is not in the gallery.
        """
        return self._changed(build.remove(self.path, tuple(ids)))

    def reindex(self, model: AnyPath, *, progress: Progress = silent) -> Ingested:
        """Encode every item with another model; searches are served from the old codes until it is done.

        Raises:
            DataError: the images of an item cannot be found.
            ModelError: the model is damaged, or the one in use.
        """
        return self._changed(reindex(self.path, Path(model), progress=progress))

    def search_image(
        self,
        image: AnyPath,
        k: int | None = None,
        *,
        radius: int | None = None,
        where: Filter | None = None,
        engine: str = DEFAULT,
        model: AnyPath | None = None,
    ) -> Hits:
        """The best answers to an image file; its own picture first, then the nearest.

        Args:
            image: its file.
            k: maximum number of answers; 10 by default, without ``radius``.
            radius: maximum distance, in bits.
            where: look only at items that pass.
            engine: a name in :data:`anglehash.index.ENGINES`.
            model: encode with this model or bundle of the gallery's id; the gallery's own copy by default.

        Raises:
            ImageError: the image cannot be used.
            ModelError: the model is damaged, or not the one of the gallery.
        """
        question = image_search.Question(Path(image), None, k, radius, None, engine, where or Filter())
        return image_search.answers(self, question, Using(Path(model) if model else None))[0]

    def duplicates(self) -> duplicates.Duplicates:
        """Groups of items with equal bytes, equal pixels, or near copies of each other."""
        return duplicates.duplicates(self)

    def backup(self, output: AnyPath, *, force: bool = False) -> dict[str, Any]:
        """Write the gallery to one file; returns what it holds."""
        return backup(self.path, Path(output), force=force)

    @classmethod
    def restore(cls, file: AnyPath, path: AnyPath, *, force: bool = False) -> Self:
        """Unpack a backup into a new folder, and open it.

        Raises:
            ModelError: the file is not a backup, or damaged.
        """
        restore(Path(file), Path(path), force=force)
        return cls.open(path)

    @staticmethod
    def verify(path: AnyPath) -> list[Fault]:
        """Compare every byte of a gallery with its checksums; returns what is wrong."""
        return verify(Path(path))

    @staticmethod
    def repair(path: AnyPath) -> Repaired:
        """Rebuild what can be derived, and keep every row that is whole."""
        return repair(Path(path))

    def _changed(self, done: T) -> T:
        self.refresh()
        return done


def _listed(images: AnyPath, prefix: str) -> build.Images:
    return build.Images(data=fspath(images), prefix=prefix)
