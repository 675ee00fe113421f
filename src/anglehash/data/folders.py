"""A folder of class folders as a data set, and any folder as plain images."""

from __future__ import annotations

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
    tops = {name.split("/")[0] for name in listing.names if "/" in name}
    split_given = bool(tops) and all(part_name(top) for top in tops)
    depth = 1 if split_given else 0  # of the class folder's name in a path
    names, classes, stray = [], [], []
    for name in listing.names:
        folders = name.split("/")[:-1]
        if len(folders) > depth:
            names.append(name)
            classes.append((folders[depth],))
        else:
            stray.append(Problem(name, "no-class", "it is in no class folder"))
    if not names:
        raise _no_images(root, listing)
    labels, class_names = multi_hot(classes)
    folders_of_classes = {path.split("/")[depth] for path in listing.folders if path.count("/") >= depth}
    return Dataset(
        name=str(root),
        ids=tuple(names),
        images=Files(root, tuple(names)),
        labels=labels,
        class_names=class_names,
        parts=np.array([part_name(name.split("/")[0]) or "" if split_given else "" for name in names]),
        problems=tuple(sorted(listing.problems + stray)),
        facts={
            "ignored_files": listing.ignored,
            "empty_classes": sorted(folders_of_classes - {"", *class_names}),
        },
    )


def list_folder(root: Path) -> Dataset:
    """Every image below a folder, without labels.

    Raises:
        DataError: there is none.
    """
    listing = walk(root)
    if not listing.names:
        raise _no_images(root, listing)
    n = len(listing.names)
    return Dataset(
        name=str(root),
        ids=tuple(listing.names),
        images=Files(root, tuple(listing.names)),
        labels=np.zeros((n, 0), dtype=np.bool_),
        class_names=(),
        parts=np.full(n, ""),
        problems=tuple(listing.problems),
        facts={"ignored_files": listing.ignored},
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
