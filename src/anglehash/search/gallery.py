"""Galleries: a searchable collection of codes, with their ids and labels, as a folder on disk.

::

    gallery/
    ├── manifest.json    what this is: version, bits, model, count, labels; the sha256 of the files below
    ├── codes.bin        the packed codes, one row after the other, and nothing else
    ├── items.jsonl      a line for each row: {"id": ..., "labels": [...]}
    ├── skipped.json     the images that gave no code, and why
    └── model/           a copy of the model, where one was given

A gallery is written once, whole or not at all, and not changed afterwards. It takes codes and the identity
of the model that made them; of images and models it knows nothing.

All JSON is plain ASCII: a byte of a file name that is not UTF-8 is a lone surrogate in Python, which
survives as an escape, so ids come back byte for byte.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import pairwise
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from anglehash.codes import Codes, check_bits, check_codes, width
from anglehash.errors import ConfigError, DataError, ModelError
from anglehash.files import new_folder
from anglehash.manifest import is_a, read_manifest, write_manifest
from anglehash.search.engines import CodeIndex, check_radius, make_index

KIND, VERSION = "gallery", 1

_CODES, _ITEMS, _SKIPPED, _MODEL = "codes.bin", "items.jsonl", "skipped.json", "model"


class Hit(NamedTuple):
    """One answer to a query.

    Attributes:
        rank: 1 for the nearest.
        id: the item's id.
        distance: Hamming distance to the query, in bits.
        labels: the item's labels; empty where it has none.
    """

    rank: int
    id: str
    distance: int
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Gallery:
    """An opened gallery. :meth:`create` makes one, :meth:`open` opens one that is there.

    Attributes:
        path: its folder.
        bits: length of a code.
        model_id: the identity of the model that made the codes.
        codes: ``(n, ceil(bits / 8))`` packed codes.
        ids: the id of each item.
        labels: the labels of each item.
        problems: ``(id, reason, detail)`` of each image that gave no code.
        root: the folder that the ids are relative to, as it was named; empty where there is none.
        created_by: the library, with its version, that wrote the gallery.
    """

    path: Path
    bits: int
    model_id: str
    codes: Codes
    ids: tuple[str, ...]
    labels: tuple[tuple[str, ...], ...]
    problems: tuple[tuple[str, str, str], ...]
    root: str
    created_by: str
    _indexes: dict[str, CodeIndex] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def create(
        cls,
        path: str | PathLike[str],
        *,
        codes: Codes,
        ids: Sequence[str],
        labels: Sequence[Sequence[str]],
        bits: int,
        model_id: str,
        problems: Sequence[tuple[str, str, str]] = (),
        root: str = "",
        model: Path | None = None,
        force: bool = False,
    ) -> Self:
        """Write a gallery, whole or not at all, and open it.

        Args:
            path: the new folder.
            codes: ``(n, ceil(bits / 8))`` packed codes.
            ids: ``n`` unique ids.
            labels: the labels of each item, possibly none.
            bits: length of a code.
            model_id: the identity of the model that made the codes.
            problems: ``(id, reason, detail)`` of each image that gave no code.
            root: the folder that the ids are relative to.
            model: a folder to copy into the gallery, so that it can be moved and searched on its own.
            force: replace what is there, if it has a manifest: a folder of photos is never replaced.

        Raises:
            CodeMismatchError: the codes are not ``bits`` long.
            DataError: the numbers of codes, ids and labels differ, or an id comes twice.
            OutputExistsError: there is something at ``path``.
        """
        codes = check_codes(codes, check_bits(bits))
        if not len(codes) == len(ids) == len(labels):
            raise DataError(
                f"{len(codes)} codes need as many ids and labels, got {len(ids)} and {len(labels)}"
            )
        if any(isinstance(own, str) for own in labels):
            raise DataError(
                "labels are a list for each item, such as [['cat'], ['dog', 'grass']], not one text each"
            )
        if len(set(ids)) < len(ids):
            twice = Counter(ids).most_common(1)[0][0]
            raise DataError(f"ids are unique in a gallery, but {twice!r} comes twice")
        path = Path(path)
        with new_folder(path, force=force, ours=is_a(KIND)) as folder:
            (folder / _CODES).write_bytes(codes.tobytes())
            with (folder / _ITEMS).open("w", encoding="ascii", newline="\n") as lines:
                for name, own in zip(ids, labels, strict=True):
                    lines.write(json.dumps({"id": name, "labels": list(own)}) + "\n")
            (folder / _SKIPPED).write_text(json.dumps([list(row) for row in problems]), encoding="ascii")
            if model is not None:
                shutil.copytree(model, folder / _MODEL)
            facts = {
                "bits": bits,
                "model": model_id,
                "count": len(codes),
                "label_names": sorted({label for own in labels for label in own}),
                "root": root,
                "created_by": f"anglehash {version('anglehash')}",
            }
            write_manifest(folder, KIND, VERSION, facts)
        return cls.open(path)

    @classmethod
    def open(cls, path: str | PathLike[str]) -> Self:
        """Open a gallery after comparing every byte of it with its sha256 (the model checks its own).

        Raises:
            ModelError: not a gallery, written by a newer anglehash, or damaged; the message names the file.
        """
        path = Path(path)
        manifest = read_manifest(path, KIND, VERSION)
        try:
            if set(manifest["files"]) != {_CODES, _ITEMS, _SKIPPED}:
                raise ValueError(f"files {sorted(manifest['files'])}")
            bits = check_bits(manifest["bits"])
            codes = np.frombuffer((path / _CODES).read_bytes(), dtype=np.uint8).reshape(-1, width(bits))
            items = [json.loads(line) for line in (path / _ITEMS).read_bytes().splitlines()]
            if not len(codes) == len(items) == manifest["count"]:
                raise ValueError(f"{len(codes)} codes, {len(items)} items, count {manifest['count']}")
            return cls(
                path=path,
                bits=bits,
                model_id=_text(manifest["model"]),
                codes=check_codes(codes, bits),
                ids=tuple(_text(item["id"]) for item in items),
                labels=tuple(tuple(map(_text, item["labels"])) for item in items),
                problems=tuple(_problem(row) for row in json.loads((path / _SKIPPED).read_bytes())),
                root=_text(manifest["root"]),
                created_by=_text(manifest["created_by"]),
            )
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            # Every hash was right, so this is not damage: something else than create() made it.
            raise ModelError(f"{path} is not a gallery that anglehash wrote: {error!r}") from error

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def model_folder(self) -> Path:
        """Where the copy of the model is, if the gallery has one."""
        return self.path / _MODEL

    def require_model(self, model_id: str) -> None:
        """Refuse codes of another model: equal bits, but with other meanings.

        Raises:
            ModelError: the gallery's codes were made by another model.
        """
        if model_id != self.model_id:
            raise ModelError(
                f"{self.path} holds codes of the model {self.model_id}, but the query's model is {model_id}: "
                "search with the gallery's model, or index the images again with this one"
            )

    def search(
        self, codes: Codes, k: int | None = None, *, radius: int | None = None, engine: str = "faiss"
    ) -> list[list[Hit]]:
        """The nearest items of every query, nearest first, equally distant ones in the gallery's order.

        Args:
            codes: ``(q, ceil(bits / 8))`` packed codes of the queries.
            k: at most so many for each query; without it, all within ``radius``.
            radius: none farther away than so many bits.
            engine: a name out of :data:`anglehash.search.engines.ENGINES`.

        Returns:
            A list of hits for each query.

        Raises:
            ConfigError: neither ``k`` nor ``radius`` is given, one is out of range, or the engine is unknown.
            CodeMismatchError: the queries are not ``bits`` long.
        """
        if k is not None:
            farthest = self.bits if radius is None else check_radius(radius, self.bits)
            distances, rows = self._index(engine).search(codes, k)
            ends = (distances <= farthest).sum(axis=1)  # nearest first: those within the radius lead
            return [self._hits(d[:end], r[:end]) for d, r, end in zip(distances, rows, ends, strict=True)]
        if radius is not None:
            lims, distances, rows = self._index(engine).search_radius(codes, radius)
            return [self._hits(distances[a:b], rows[a:b]) for a, b in pairwise(lims)]
        raise ConfigError("give k, radius, or both: how many neighbours, and how far away at most")

    def info(self) -> dict[str, Any]:
        """What the gallery is, as JSON values."""
        return {
            "kind": KIND,
            "version": VERSION,
            "path": str(self.path),
            "items": len(self),
            "bits": self.bits,
            "model": self.model_id,
            "unique_codes": len(np.unique(self.codes, axis=0)),
            "labels": dict(sorted(Counter(label for own in self.labels for label in own).items())),
            "skipped": len(self.problems),
            "root": self.root,
            "created_by": self.created_by,
        }

    def _index(self, engine: str) -> CodeIndex:
        if engine not in self._indexes:  # built at the first search: opening stays quick
            self._indexes[engine] = make_index(engine, self.codes, self.bits)
        return self._indexes[engine]

    def _hits(self, distances: NDArray[np.int32], rows: NDArray[np.int64]) -> list[Hit]:
        pairs = zip(distances.tolist(), rows.tolist(), strict=True)
        return [
            Hit(rank, self.ids[row], distance, self.labels[row])
            for rank, (distance, row) in enumerate(pairs, start=1)
        ]


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"text was expected, not {value!r}")
    return value


def _problem(row: Any) -> tuple[str, str, str]:
    name, reason, detail = row
    return _text(name), _text(reason), _text(detail)
