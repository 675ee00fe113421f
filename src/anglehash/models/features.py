"""Features of images, and the cache that computes each of them once.

The cache is keyed by what an image file holds, never by its name or place; each backbone (network,
weights, preprocessing) and each version of the libraries has a folder of its own. A folder holds shards,
each written whole and named by its own sha256: a run that was killed resumes where it stopped, two
writers do not disturb each other, and a damaged shard is computed again.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load, save

from anglehash.cache import read_cached, write_cached
from anglehash.data.dataset import ImageStore
from anglehash.data.image_hash import content_key
from anglehash.data.images.decoding import DECODER
from anglehash.data.images.workers import prepare
from anglehash.errors import ImageError
from anglehash.files import sha256_json
from anglehash.models.backbones import BATCH, Backbone
from anglehash.progress import Progress, silent

SHARD = 512
"""Images in a shard: what a killed run computes again, at most."""


class Features(NamedTuple):
    """Features of some images; images that could not be read are absent.

    Attributes:
        values: ``(m, width)`` float32.
        rows: ``(m,)`` which images these are, in the order asked for.
        problems: row, reason code and detail of each image that is absent.
        notes: row and remark of images that were decoded now and had something wrong that was passed over.
    """

    values: NDArray[np.float32]
    rows: NDArray[np.int64]
    problems: list[tuple[int, str, str]]
    notes: list[tuple[int, str]]


def extract(
    images: ImageStore,
    backbone: Backbone,
    *,
    rows: NDArray[np.int64] | None = None,
    cache: Path | None = None,
    progress: Progress = silent,
) -> Features:
    """Features of images, computed or out of the cache: the values are the same.

    Beside the result, the memory of a few batches is used.

    Args:
        images: where they are.
        backbone: the network.
        rows: which of them; all by default.
        cache: folder of cached features, or ``None`` to keep nothing and to look nowhere.
        progress: callback.

    Raises:
        ModelError: the network gives NaN or infinity.
    """
    rows = np.arange(len(images), dtype=np.int64) if rows is None else np.asarray(rows, dtype=np.int64)
    chosen = _Chosen(images, rows)
    out = _Result(np.zeros((len(rows), backbone.width), dtype=np.float32), {}, [])
    if cache is None:
        _compute(chosen, np.arange(len(rows)), backbone, out, None, progress)
    else:
        _complete(chosen, backbone, out, cache, progress)
    notes = [(int(rows[position]), note) for position, note in out.notes]
    if not out.problems:
        return Features(out.values, rows, [], notes)
    bad = sorted(out.problems)
    problems = [(int(rows[position]), *out.problems[position]) for position in bad]
    return Features(np.delete(out.values, bad, axis=0), np.delete(rows, bad), problems, notes)


class _Result(NamedTuple):
    """What is known so far, by position among the rows that were asked for."""

    values: NDArray[np.float32]
    problems: dict[int, tuple[str, str]]  # reason code, detail
    notes: list[tuple[int, str]]


def _complete(chosen: _Chosen, backbone: Backbone, out: _Result, cache: Path, progress: Progress) -> None:
    """Take what the cache holds, and compute what it lacks, each content once."""
    keys = _keys(chosen, out, progress)
    with FeatureCache(cache_folder(cache, backbone)) as store:
        lacking = ~store.fill(keys, out.values)
        lacking[list(out.problems)] = False
        positions = np.flatnonzero(lacking)
        _, first, group = np.unique(keys[positions], axis=0, return_index=True, return_inverse=True)
        original = positions[first[group.ravel()]]  # the position that is computed for this one
        unchanged = _Chosen(chosen.images, chosen.rows, keys)
        _compute(unchanged, np.unique(original), backbone, out, store, progress)
    copies = positions != original
    for position, source in zip(positions[copies].tolist(), original[copies].tolist(), strict=True):
        out.values[position] = out.values[source]
        if source in out.problems:
            out.problems[position] = out.problems[source]


def _compute(
    images: _Chosen,
    positions: NDArray[np.int64],
    backbone: Backbone,
    out: _Result,
    store: FeatureCache | None,
    progress: Progress,
) -> None:
    """Compute the features at ``positions``, and hand them to the store."""
    done, total = len(images) - len(positions), len(images)
    progress("features", done, total, "")
    batches = prepare(images, positions, backbone.preprocessing, batch=BATCH)
    with closing(batches):  # ends the decoders at once where the network fails
        for batch in batches:
            if len(batch.rows):
                out.values[batch.rows] = backbone(batch.pixels)
                if store is not None and images.keys is not None:
                    store.add(images.keys[batch.rows], out.values[batch.rows])
            out.notes.extend(batch.notes)
            for position, reason, detail in batch.problems:
                out.problems[position] = (reason, detail)
            done += len(batch.rows) + len(batch.problems)
            progress("features", done, total, f"{len(out.problems)} skipped" if out.problems else "")


@dataclass(frozen=True, slots=True)
class _Chosen:
    """The chosen images of a store, by position.

    With ``keys`` an image is read only while it still is what was hashed: the cache must not keep the
    features of a new file under the key of the old one.
    """

    images: ImageStore
    rows: NDArray[np.int64]
    keys: NDArray[np.uint8] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, row: int) -> bytes | NDArray[np.uint8]:
        data = self.images.read(int(self.rows[row]))
        if self.keys is not None and content_key(data) != self.keys[row].tobytes():
            raise ImageError("unreadable-file", "it changed while it was being read")
        return data


def _keys(chosen: _Chosen, out: _Result, progress: Progress) -> NDArray[np.uint8]:
    """The key of every image that can be read; the others become problems."""
    keys = np.zeros((len(chosen), 32), dtype=np.uint8)
    for position in range(len(chosen)):
        try:
            keys[position] = np.frombuffer(content_key(chosen.read(position)), dtype=np.uint8)
        except ImageError as error:
            out.problems[position] = (error.reason, error.detail)
        if position % 1000 == 999:
            progress("reading", position + 1, len(chosen), "")
    return keys


def cache_folder(cache: Path, backbone: Backbone) -> Path:
    """Where the features of a backbone are: what changes a digit of them changes the name."""
    meaning = [backbone.identity, backbone.engine, version("pillow"), DECODER]
    return cache / "features" / f"{sha256_json(meaning)[:16]}-{backbone.size}"


class FeatureCache:
    """A folder of features by the key of their image; use it in a ``with``, which writes the last shard."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._keys: list[NDArray[np.uint8]] = []
        self._values: list[NDArray[np.float32]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._write()

    def fill(self, keys: NDArray[np.uint8], values: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Copy what the cache holds.

        Args:
            keys: ``(n, 32)`` of the wanted images.
            values: ``(n, width)``, filled where a feature is known.

        Returns:
            ``(n,)``, true where it is.
        """
        found = np.zeros(len(keys), dtype=bool)
        wanted: dict[bytes, list[int]] = {}
        for position, key in enumerate(keys):
            wanted.setdefault(key.tobytes(), []).append(position)
        for path in sorted(self._folder.glob("*.safetensors")):
            held = {key.tobytes(): place for place, key in enumerate(_peek(path))}
            if held.keys().isdisjoint(wanted) or (data := read_cached(path)) is None:
                continue
            features = load(data)["features"]
            for key in held.keys() & wanted.keys():
                for position in wanted[key]:
                    values[position] = features[held[key]]
                    found[position] = True
        return found

    def add(self, keys: NDArray[np.uint8], values: NDArray[np.float32]) -> None:
        """Keep features: ``(n, 32)`` keys, ``(n, width)`` values."""
        self._keys.append(keys)
        self._values.append(values)
        if sum(map(len, self._keys)) >= SHARD:
            self._write()

    def _write(self) -> None:
        if self._keys:
            shard: dict[str, NDArray[Any]] = {
                "keys": np.concatenate(self._keys),
                "features": np.concatenate(self._values),
            }
            write_cached(self._folder, "shard", ".safetensors", save(shard))
            self._keys, self._values = [], []


def _peek(path: Path) -> NDArray[np.uint8]:
    """The keys of a shard, without its features; none where it cannot be read. A damaged one is removed."""
    try:
        with safe_open(path, framework="numpy") as shard:
            keys: NDArray[np.uint8] = shard.get_tensor("keys")
            return keys
    except (SafetensorError, OSError):
        read_cached(path)
        return np.empty((0, 32), dtype=np.uint8)
