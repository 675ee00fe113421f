"""A folder of class folders as a data set, and any folder as plain images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from anglehash.data.dataset import Dataset, Problem
from anglehash.data.labels import multi_hot, part_name
from anglehash.data.sources.walk import Files, Listing, walk
from anglehash.errors import DataError


def outside_line(links: Sequence[str]) -> str:
    """One sentence on links that lead out of a folder.

    >>> outside_line(["a", "b"])
    '2 links lead out of the folder (first: a): what they lead to is used, and a service does not show it.'
    """
    return (
        f"{len(links)} links lead out of the folder (first: {links[0]}): what they lead to is used, and a service "
        "does not show it."
    )


LAYOUTS = ("classes", "parts")
"""What the top folders may be: classes, or parts of a split that hold the classes."""


class _Reading(NamedTuple):
    """How paths below a folder are read: ``outer`` folders around everything, then perhaps a part, then the class."""

    outer: int
    parts: bool

    def part(self, name: str) -> str:
        return part_name(name.split("/")[self.outer]) or "" if self.parts else ""

    def classes(self, name: str) -> tuple[str, ...]:
        at = self.outer + self.parts
        return tuple(name.split("/")[:-1][at : at + 1])


def read_folder(root: Path, *, layout: str | None = None, exclude: Sequence[str] = ()) -> Dataset:
    """Images in a folder per class; a class folder may hold folders of its own.

    Where every top folder is named like a part (``train``, ``valid``, ``testing``, ``query``, ``gallery``, ...), the
    data bring their split and the classes are the folders one level below. One folder around everything, as archives
    have it, is neither.

    An image that is in no class folder is a problem with reason ``no-class``. A class folder without an
    image makes no class; ``facts["empty_classes"]`` names it.

    Args:
        root: the folder.
        layout: one of :data:`LAYOUTS`, where the names leave it open.
        exclude: patterns of what is passed over, see :func:`anglehash.data.sources.walk.is_excluded`.

    Raises:
        DataError: no image, none of them is in a class folder, or the top folders may be parts or classes.
    """
    listing = walk(root, exclude)
    reading = _reading(root, listing, layout, sure=True)
    stray = [
        Problem(name, "no-class", "it is in no class folder")
        for name in listing.names
        if not reading.classes(name)
    ]
    names = [name for name in listing.names if reading.classes(name)]
    if not names:
        raise _no_images(root, listing)
    return _dataset(root, listing, names, reading, stray)


def list_folder(root: Path, *, exclude: Sequence[str] = ()) -> Dataset:
    """Every image below a folder; one that is in a class folder has its label, as in :func:`read_folder`.

    Raises:
        DataError: there is none.
    """
    listing = walk(root, exclude)
    if not listing.names:
        raise _no_images(root, listing)
    return _dataset(root, listing, listing.names, _reading(root, listing, None, sure=False), [])


def _reading(root: Path, listing: Listing, layout: str | None, *, sure: bool) -> _Reading:
    """What the top folders are.

    Raises:
        DataError: they may be parts or classes, and ``sure`` wants to know.
    """
    folders = [tuple(name.split("/")[:-1]) for name in listing.names]
    outer = _outer(folders)
    inside = [folder[outer:] for folder in folders if len(folder) > outer]
    tops = {
        top: {f[1] for f in inside if f[0] == top and len(f) > 1} for top in sorted({f[0] for f in inside})
    }
    named = [top for top in tops if part_name(top)]
    if layout is not None:
        return _Reading(outer, layout == "parts")
    if named and len(named) == len(tops):
        return _Reading(outer, True)
    unsure = len(named) > 1 or any(tops[top] for top in named)
    if sure and (unsure or _share(list(tops.values()))):
        raise _two_readings(root, tops, named)
    return _Reading(outer, unsure)


def _outer(folders: Sequence[tuple[str, ...]]) -> int:
    """How many folders lie around everything: one in the other, the last with several folders or a part in it."""
    depth = 0
    while folders and all(len(folder) > depth for folder in folders):
        names = {folder[depth] for folder in folders}
        if len(names) > 1 or part_name(names.pop()):
            return depth
        depth += 1
    return 0  # a single class


def _share(below: Sequence[set[str]]) -> bool:
    """Whether top folders hold folders of the same names: at least two, and half of all there are."""
    counts = Counter(name for names in below for name in names)
    common = sum(count > 1 for count in counts.values())
    return len(below) > 1 and all(below) and common >= max(2, len(counts) / 2)


def _two_readings(root: Path, tops: Mapping[str, set[str]], named: Sequence[str]) -> DataError:
    classes = sorted(set().union(*tops.values()))
    why = f"{named[0]!r} is named like a part of a split" if named else "they hold folders of the same names"
    inner = (
        f"parts of a split with the classes {_some(classes)}"
        if classes
        else "parts of a split without class folders"
    )
    return DataError(
        f"{root}: the top folders {_some(list(tops))} may be classes, or {inner} ({why}): "
        "say which with --layout classes or --layout parts (in Python layout=...)"
    )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _dataset(
    root: Path, listing: Listing, names: Sequence[str], reading: _Reading, stray: list[Problem]
) -> Dataset:
    labels, class_names = multi_hot([reading.classes(name) for name in names])
    depth = reading.outer + reading.parts
    folders_of_classes = {path.split("/")[depth] for path in listing.folders if path.count("/") >= depth}
    return Dataset(
        name=str(root),
        ids=tuple(names),
        images=Files(root, tuple(names)),
        labels=labels,
        class_names=class_names,
        parts=np.array([reading.part(name) for name in names]),
        problems=tuple(sorted(listing.problems + stray)),
        facts={
            "ignored_files": listing.ignored,
            "excluded": listing.excluded,
            "links_outside": sorted(listing.outside),
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
