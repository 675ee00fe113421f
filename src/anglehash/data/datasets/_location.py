"""Where the files of a known set are looked for, and how they get there."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from urllib.request import urlopen

from anglehash.errors import DataError
from anglehash.files import cache_dir, write_atomic

_TIMEOUT = 30.0  # seconds without a byte


@dataclass(frozen=True, slots=True, kw_only=True)
class Remote:
    """A file at its official address.

    Attributes:
        url: the address.
        sha256: hex digest of the file, as published.
        size: its bytes; not one more is read.
    """

    url: str
    sha256: str
    size: int

    @property
    def name(self) -> str:
        """The last part of the address."""
        return self.url.rsplit("/", 1)[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetFolder:
    """The places of one set's files.

    Attributes:
        name: the set's.
        folder: its folder below ``$ANGLEHASH_DATA``.
        files: files or folders that tell that the set is there; any of them will do, the first is preferred.
        remotes: all that ``download`` fetches, if there is an official address.
        also: places of other packagers.
    """

    name: str
    folder: str
    files: tuple[str, ...]
    remotes: tuple[Remote, ...] = ()
    also: tuple[Path, ...] = ()

    def find(self, root: Path | None, *, download: bool) -> Path:
        """The file or folder of the set, fetched first if it is absent and ``download`` is set.

        Raises:
            DataError: it is absent; the message says what belongs where.
        """
        places = self.places(root)
        for place in places:
            for file in self.files:
                if (place / file).exists():
                    return place / file
        if not download or not self.remotes:
            raise self._absent(places, download=download)
        target = root or self._cache
        for remote in self.remotes:
            fetch(remote, target)
        return self.find(target, download=False)

    def places(self, root: Path | None) -> list[Path]:
        """The folders to look in, in order. With ``root``, only that one and its folder of the set.

        An answer from elsewhere would be a silent surprise to someone who named a folder.
        """
        if root is not None:
            return [root, root / self.folder]
        data = os.environ.get("ANGLEHASH_DATA")
        return [*([Path(data) / self.folder] if data else []), self._cache, *self.also]

    @property
    def _cache(self) -> Path:
        return cache_dir() / "sets" / self.name

    def _absent(self, places: list[Path], *, download: bool) -> DataError:
        where = " or ".join(map(str, places))
        if "ANGLEHASH_DATA" not in os.environ:
            where += f", or set ANGLEHASH_DATA to a folder that holds {self.folder}/"
        if self.remotes:
            megabytes = sum(remote.size for remote in self.remotes) / 1e6
            address = self.remotes[0].url.rsplit("/", 1)[0]
            how = f"; or add --download to fetch {megabytes:.0f} MB from {address}"
        else:
            how = "; it has no official address to download it from" if download else ""
        return DataError(f"{self.name} is not here: put {' or '.join(self.files)} in {where}{how}")


def fetch(remote: Remote, folder: Path) -> None:
    """Download a file into a folder: it appears whole, with the published checksum, or not at all.

    Raises:
        DataError: the address cannot be reached, or what it sends is not the published file.
    """
    try:
        with urlopen(remote.url, timeout=_TIMEOUT) as reply:  # noqa: S310  constants of this package, checked below
            data = reply.read(remote.size + 1)
    except (OSError, HTTPException) as error:
        raise DataError(
            f"{remote.url} cannot be fetched ({error}): get the file by another way and put it in {folder}"
        ) from error
    if hashlib.sha256(data).hexdigest() != remote.sha256:
        raise DataError(
            f"{remote.url} sent another file than the published one of {remote.size:,} bytes "
            f"with sha256 {remote.sha256}: nothing was kept"
        )
    write_atomic(folder / remote.name, data)
