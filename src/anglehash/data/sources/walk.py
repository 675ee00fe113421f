"""Which files below a folder are images: the walk that every folder source shares.

The walk opens regular files only, and of those just the ones whose name does not tell what they are. What
could hang or loop (FIFOs, sockets, devices, links in a circle) is reported and never opened.
"""

from __future__ import annotations

import errno
import heapq
import os
import re
import stat
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from anglehash.data.dataset import Problem
from anglehash.data.images.decoding import read_file
from anglehash.data.images.pillow import HEIC_HINT, reads_heic, sniff
from anglehash.errors import ImageError


def _suffixes(names: str) -> frozenset[str]:
    return frozenset(f".{name}" for name in names.split())


IMAGE_SUFFIXES = _suffixes("jpg jpeg jpe jfif png apng webp gif bmp dib tif tiff avif")
"""Listed by their name alone; whether they are images shows when they are decoded."""

HEIC_SUFFIXES = _suffixes("heic heif hif")
"""Listed where they are read, else reported."""

FOREIGN_SUFFIXES = _suffixes(
    "jp2 j2k jxl svg eps ps pdf psd xcf fits tga pcx ico icns ppm pgm pbm exr hdr dds "
    "raw dng cr2 cr3 nef arw orf rw2 raf"
)
"""Pictures in formats that are not decoded: reported, never opened."""

_SIDE_SUFFIXES = _suffixes("txt json jsonl csv xml ini md yaml yml db parquet py log")
_SIDE_FOLDERS = frozenset({"__MACOSX", "@eaDir"})  # copies and thumbnails that archivers and NAS boxes leave

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


@dataclass(frozen=True, slots=True)
class Files:
    """Images that are files below one folder, read when they are asked for.

    Attributes:
        root: the folder.
        names: paths below it, with ``/``.
    """

    root: Path
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    def read(self, row: int) -> bytes:
        """The bytes of one file.

        Raises:
            ImageError: it has vanished, is not a regular file, cannot be read, or is too large.
        """
        return read_file(self.root / self.names[row])


@dataclass(slots=True)
class Listing:
    """What a walk found below a folder.

    Attributes:
        names: images, as paths below the folder with ``/``, sorted.
        folders: the folders that were read, likewise; the top one is ``""``.
        problems: what could not be listed, by path.
        ignored: entries passed over: hidden ones, side files, files that are no pictures.
        excluded: files and whole folders passed over because of a pattern.
        outside: links that lead out of the folder.
    """

    names: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    ignored: int = 0
    excluded: int = 0
    outside: list[str] = field(default_factory=list)


def is_excluded(name: str, patterns: Sequence[str]) -> bool:
    """Whether a path below a folder matches a pattern; ``*`` passes over ``/`` too.

    A pattern without ``/`` is one of a file's or a folder's own name.

    >>> names = "raw/1.jpg", "a/2.gif", "a/thumbs/3.jpg", "b/4.jpg"
    >>> [is_excluded(name, ["raw/*", "*.gif", "thumbs"]) for name in names]
    [True, True, True, False]
    """
    parts = name.split("/")
    return any(
        fnmatchcase(name, pattern) if "/" in pattern else any(fnmatchcase(part, pattern) for part in parts)
        for pattern in patterns
    )


def walk(root: Path, exclude: Sequence[str] = ()) -> Listing:
    """List the images below a folder, in an order that does not depend on the file system.

    Links are followed. A folder that is reached twice (around a circle, or through two links) is listed
    once, under its own path where it has one, and the other way to it is reported.

    Args:
        root: the folder.
        exclude: patterns of what is passed over, see :func:`is_excluded`.
    """
    found = Listing()
    seen: dict[tuple[int, int], str] = {}
    folders, links = [""], list[str]()
    while folders or links:
        folder = folders.pop() if folders else heapq.heappop(links)
        for entry in _entries(root, folder, seen, found):
            name = f"{folder}/{entry.name}" if folder else entry.name
            if is_excluded(name, exclude):
                found.excluded += 1
                continue
            try:
                mode = entry.stat().st_mode
            except OSError as error:
                found.problems.append(Problem(name, *_explain(error)))
                continue
            if entry.is_symlink() and not is_inside(root, Path(entry.path)):
                found.outside.append(name)
            if not stat.S_ISDIR(mode):
                _add_file(Path(entry.path), name, mode, found)
            elif entry.is_symlink():
                heapq.heappush(links, name)
            else:
                folders.append(name)
    found.names.sort()
    found.folders.sort()
    found.problems.sort()
    return found


def _entries(
    root: Path, folder: str, seen: dict[tuple[int, int], str], found: Listing
) -> list[os.DirEntry[str]]:
    """What is in one folder and neither hidden nor a side folder; nothing if it was read before."""
    try:
        status = os.stat(root / folder)
        first = seen.setdefault((status.st_dev, status.st_ino), folder)
        if first != folder:
            found.problems.append(Problem(folder, "link-loop", f"the same folder as {first or '.'!r}"))
            return []
        with os.scandir(root / folder) as scan:
            entries = sorted(scan, key=lambda entry: entry.name)
    except OSError as error:
        found.problems.append(Problem(folder or ".", "unreadable-file", error.strerror or str(error)))
        return []
    found.folders.append(folder)
    shown = [e for e in entries if not e.name.startswith(".") and e.name not in _SIDE_FOLDERS]
    found.ignored += len(entries) - len(shown)
    return shown


def _add_file(path: Path, name: str, mode: int, found: Listing) -> None:
    """Note what is not a folder as an image, as a problem, or as nothing of interest."""
    suffix = PurePosixPath(name).suffix.lower()
    if not stat.S_ISREG(mode):
        found.problems.append(_no_file(name, mode))
    elif suffix in HEIC_SUFFIXES and not reads_heic():
        found.problems.append(Problem(name, "unsupported-format", f"HEIC: {HEIC_HINT}"))
    elif suffix in FOREIGN_SUFFIXES:
        found.problems.append(Problem(name, "unsupported-format", f"{suffix} files are not decoded"))
    elif suffix in IMAGE_SUFFIXES | HEIC_SUFFIXES or (
        suffix not in _SIDE_SUFFIXES and _looks_like_picture(path)
    ):
        found.names.append(name)
    else:
        found.ignored += 1


def _looks_like_picture(path: Path) -> bool:
    """Whether a file starts like one; if it cannot be read it counts, so that reading it is reported."""
    try:
        with path.open("rb") as file:
            sniff(file.read(1024))
    except ImageError as error:
        return error.reason != "not-an-image"
    except OSError:
        pass
    return True


def is_inside(root: Path, path: Path) -> bool:
    """Whether a file or folder lies below a folder once all links are followed."""
    base = os.path.realpath(root).rstrip(os.sep) + os.sep
    return os.path.realpath(path).startswith(base)


class NamesOnDisk:
    """Files below a folder by the names that other systems give them."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._listed: dict[str, dict[str, str]] = {}  # of a folder: names by their composed form

    def find(self, name: str) -> str:
        """The name of the file that is there: as it is, with ``/`` for backslashes, or in another Unicode form.

        A name without any such file comes back as it is.
        """
        if os.path.lexists(self._root / name):
            return name
        at = ""
        for part in re.split(r"[\\/]" if "\\" in name else "/", name):
            if part in ("", "."):
                continue
            place = f"{at}/{part}" if at else part
            if not os.path.lexists(self._root / place):
                found = self._names(at).get(unicodedata.normalize("NFC", part))
                if found is None:
                    return name
                place = f"{at}/{found}" if at else found
            at = place
        return at

    def _names(self, folder: str) -> dict[str, str]:
        if folder not in self._listed:
            try:
                names = sorted(os.listdir(self._root / folder))
            except OSError:
                names = []
            self._listed[folder] = {unicodedata.normalize("NFC", name): name for name in names}
        return self._listed[folder]


def file_problem(name: str, path: Path) -> Problem | None:
    """Why a listed file is not an existing regular file, or ``None``. Nothing is opened."""
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        return Problem(name, *_explain(error))
    return None if stat.S_ISREG(mode) else _no_file(name, mode)


def _no_file(name: str, mode: int) -> Problem:
    return Problem(name, "not-a-file", _KINDS.get(stat.S_IFMT(mode), "no regular file"))


def _explain(error: OSError) -> tuple[str, str]:
    """The reason code and a line for a file that the system does not find or does not show."""
    if error.errno == errno.ELOOP:
        return "link-loop", "links lead in a circle"
    return "unreadable-file", error.strerror or str(error)
