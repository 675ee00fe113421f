"""A folder of class folders as a data set, and any folder as plain images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from anglehash.data.dataset import Dataset, Problem
from anglehash.data.labels import multi_hot, part_name
from anglehash.data.walk import Files, Listing, walk
from anglehash.errors import DataError


def read_folder(root: Path) -> Dataset:
    """Images in a folder per class; a class folder may hold folders of its own.

    Where every top folder is named like a part (``train``, ``validation`` or ``val``, ``query``,
    ``database``, ``test``), the data bring their split and the classes are the folders one level below.

    An image that is in no class folder is a problem with reason ``no-class``. A class folder without an
    image makes no class; ``facts["empty_classes"]`` names it.

    Raises:
        DataError: there is no image, or none of them is in a class folder.
    """
    listing = walk(root)
    classes = _classes(listing)
    stray = [
        Problem(name, "no-class", "it is in no class folder") for name in listing.names if not classes[name]
    ]
    names = [name for name in listing.names if classes[name]]
    if not names:
        raise _no_images(root, listing)
    return _dataset(root, listing, names, classes, stray)


def list_folder(root: Path) -> Dataset:
    """Every image below a folder; one that is in a class folder has its label, as in :func:`read_folder`.

    Raises:
        DataError: there is none.
    """
    listing = walk(root)
    if not listing.names:
        raise _no_images(root, listing)
    return _dataset(root, listing, listing.names, _classes(listing), [])


def _depth(listing: Listing) -> int:
    """Where in a path the class folder is: 0, or 1 where the top folders are the parts of a split."""
    tops = {name.split("/")[0] for name in listing.names if "/" in name}
    return 1 if tops and all(part_name(top) for top in tops) else 0


def _classes(listing: Listing) -> dict[str, tuple[str, ...]]:
    """The class of each image, by its folder; none for an image that is in no class folder."""
    depth = _depth(listing)
    return {name: tuple(name.split("/")[:-1][depth : depth + 1]) for name in listing.names}


def _dataset(
    root: Path,
    listing: Listing,
    names: Sequence[str],
    classes: Mapping[str, tuple[str, ...]],
    stray: list[Problem],
) -> Dataset:
    depth = _depth(listing)
    labels, class_names = multi_hot([classes[name] for name in names])
    folders_of_classes = {path.split("/")[depth] for path in listing.folders if path.count("/") >= depth}
    return Dataset(
        name=str(root),
        ids=tuple(names),
        images=Files(root, tuple(names)),
        labels=labels,
        class_names=class_names,
        parts=np.array([part_name(name.split("/")[0]) or "" if depth else "" for name in names]),
        problems=tuple(sorted(listing.problems + stray)),
        facts={
            "ignored_files": listing.ignored,
            "empty_classes": sorted(folders_of_classes - {"", *class_names}),
        },
    )


def _no_images(root: Path, listing: Listing) -> DataError:
    if listing.names:
        return DataError(
            f"{root} holds {len(listing.names)} images but no class folders: put the images of each class "
            f"in a folder of its own, or list them in a manifest with the columns file_name,label"
        )
    if listing.problems:
        first = listing.problems[0]
        return DataError(
            f"{root}: no image could be listed; {len(listing.problems)} entries were refused "
            f"(first: {first.id!r}, {first.reason}: {first.detail})"
        )
    return DataError(f"{root}: no image below this folder ({listing.ignored} other files were passed over)")
