"""Encoding shared by several processes or machines: each writes the codes of its share, the last joins them.

A share is a file of its own, written whole: a process that dies loses its share only, and the same command
makes it again. Nobody waits for anybody.
"""

from __future__ import annotations

import io
import json
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, Self
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from anglehash.data.dataset import Dataset, Problem
from anglehash.encode.codes_file import write_codes
from anglehash.encode.encoder import Encoder
from anglehash.encode.listed import Listed, encode_listed
from anglehash.errors import ConfigError, DataError
from anglehash.files import hold, sha256_json


class Shard(NamedTuple):
    """One share of the images.

    Attributes:
        number: which, from 1.
        of: how many there are.
    """

    number: int
    of: int

    @classmethod
    def read(cls, text: str | None) -> Self | None:
        """``2/8``; without a text what ``torchrun`` says of this process; ``None`` where it is alone.

        Raises:
            ConfigError: it is not a share.

        >>> Shard.read("2/8")
        Shard(number=2, of=8)
        """
        if text is None:
            of = int(os.environ.get("WORLD_SIZE", "1"))
            return cls(int(os.environ.get("RANK", "0")) + 1, of) if of > 1 else None
        found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
        if not found or not 1 <= int(found[1]) <= int(found[2]):
            raise ConfigError(f"a shard is written NUMBER/COUNT, such as 2/8, got {text!r}")
        return cls(int(found[1]), int(found[2]))

    def part(self, images: Dataset) -> Dataset:
        """Every ``of``-th image, so that the shares are alike."""
        return images.select(np.arange(self.number - 1, len(images), self.of))

    def file(self, output: Path) -> Path:
        """Where its codes lie until all are joined."""
        return folder_of(output) / f"{self.number}-of-{self.of}.npz"

    def files(self, output: Path) -> dict[int, Path]:
        """The files of all shares, by number."""
        return {number: Shard(number, self.of).file(output) for number in range(1, self.of + 1)}


def folder_of(output: Path) -> Path:
    """The folder of the shares of an output."""
    return output.with_name(f"{output.name}.shards")


def encode_shard(
    shard: Shard, output: Path, images: Dataset, encoder: Encoder
) -> tuple[Listed, tuple[int, ...]]:
    """Encode one share, and join all where it was the last.

    A share that was encoded before, from the same images by the same model, is not encoded again.

    Returns:
        What was joined, or else this share; and the shares that are still to be encoded.

    Raises:
        DataError: another share is damaged, or was made from other images or by another model.
    """
    origin = sha256_json([encoder.id, list(images.ids)])
    path = shard.file(output)
    arrays = _read(path)
    if arrays is None or str(arrays["origin"]) != origin:
        found = encode_listed(encoder, shard.part(images))
        reported = json.dumps({"problems": [list(p) for p in found.problems], "notes": found.notes})
        more = {"origin": np.array(origin), "reported": np.array(reported)}
        write_codes(path, found.codes, found.ids, found.bits, more)
    else:
        found = _joined([arrays], images, encoder.id)
    left = tuple(number for number, file in shard.files(output).items() if not file.is_file())
    if left:
        return found, left
    return _join(shard, output, images, encoder.id, origin) or found, ()


def _join(shard: Shard, output: Path, images: Dataset, model_id: str, origin: str) -> Listed | None:
    """All shares as one, written to ``output``; their folder goes. ``None``: another process does it."""
    folder = folder_of(output)
    if not folder.is_dir():
        return None  # it has done so already
    with (folder / "join.lock").open("a+") as lock:
        if hold(lock):
            return None
        parts = []
        for number, path in shard.files(output).items():
            if not path.is_file():
                return None  # another process has just joined them
            arrays = _read(path)
            if arrays is None or str(arrays["origin"]) != origin:
                state = "is damaged" if arrays is None else "is of other images or another model"
                raise DataError(f"{path} {state}: encode it again with --shard {number}/{shard.of}")
            parts.append(arrays)
        found = _joined(parts, images, model_id)
        write_codes(output, found.codes, found.ids, found.bits)
        for path in shard.files(output).values():
            path.unlink(missing_ok=True)
        (folder / "join.lock").unlink(missing_ok=True)
    with suppress(OSError):  # somebody put a file of their own into it
        folder.rmdir()
    return found


def _joined(parts: list[dict[str, NDArray[Any]]], images: Dataset, model_id: str) -> Listed:
    ids = np.concatenate([part["ids"] for part in parts])
    place = {name: row for row, name in enumerate(images.ids)}
    order = np.argsort([place[name] for name in ids.tolist()])
    reported = [json.loads(str(part["reported"])) for part in parts]
    problems = dict.fromkeys(Problem(*values) for part in reported for values in part["problems"])
    kept_rows = np.array([place[name] for name in ids[order].tolist()], dtype=np.int64)
    return Listed(
        ids=tuple(ids[order].tolist()),
        codes=np.concatenate([part["codes"] for part in parts])[order],
        labels=images.select(kept_rows).label_names,
        bits=int(parts[0]["bits"]),
        model_id=model_id,
        problems=tuple(problems),
        notes=[note for part in reported for note in part["notes"]],
    )


def _read(path: Path) -> dict[str, NDArray[Any]] | None:
    """The arrays of a share; ``None`` where it is absent or damaged."""
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
            return {name: arrays[name] for name in ("codes", "ids", "bits", "origin", "reported")}
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return None
