"""From format 1 to format 2: a gallery that was written once becomes one that can grow.

Format 1 was ``codes.bin``, ``items.jsonl``, ``skipped.json`` and ``model/`` beside a manifest with the sha256 of
each. The new store is built beside them; the manifest is swapped when it is complete, and only then the old
files go. A conversion that is killed leaves the old gallery as it was.
"""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from anglehash.codes import Codes, check_bits, check_codes, width
from anglehash.errors import ModelError
from anglehash.manifest import kind_of, read_manifest
from anglehash.search.store.database import State
from anglehash.search.store.items import Item, Seen
from anglehash.search.store.layout import KIND, VERSION, Store, file_lock
from anglehash.search.store.opening import LOCK_TIMEOUT, attach, make_store
from anglehash.search.store.writer import Changes

_CODES, _ITEMS, _SKIPPED, _MODEL = "codes.bin", "items.jsonl", "skipped.json", "model"
_LOCK = ".converting"


def is_old(path: Path) -> bool:
    """Whether a gallery is whole and of format 1.

    Raises:
        ModelError: it is of format 1 and damaged, or of a newer format.
    """
    return kind_of(path) == KIND and _version(path) == 1


def _version(path: Path) -> int:
    try:
        return int(read_manifest(path, KIND, VERSION)["version"])
    except ModelError:
        if (path / _CODES).exists():
            raise
        return VERSION  # of the newer one, every reader says what is wrong


def migrate_if_old(path: Path) -> bool:
    """Convert a gallery of format 1 where it is; whether it was one.

    Raises:
        ModelError: it is damaged or foreign; nothing was changed.
        PermissionError: its folder may not be written.
    """
    if read_manifest(path, KIND, VERSION)["version"] != 1:
        return False
    with file_lock(path / _LOCK, path, LOCK_TIMEOUT):
        facts = read_manifest(path, KIND, VERSION)
        if facts["version"] == 1:  # nobody else converted it meanwhile
            _migrate(path, facts)
    with suppress(OSError):
        (path / _LOCK).unlink()
    return True


def _migrate(path: Path, facts: dict[str, Any]) -> None:
    state, codes, items, problems = _read(path, facts)
    building, store = Store(path / "1.new"), Store(path / "1")
    for unfinished in (building, store):  # of a conversion that was killed: no manifest names it
        shutil.rmtree(unfinished.path, ignore_errors=True)
    model = path / _MODEL
    make_store(building, state, model if model.is_dir() else None)
    building.path.rename(store.path)
    with attach(store) as writer:
        writer.commit(Changes(seen=problems))
        rows = zip(items, codes, strict=True)
        writer.commit_all(Item(item["id"], code.tobytes(), tuple(item["labels"])) for item, code in rows)
        writer.publish(path)
    for name in (_CODES, _ITEMS, _SKIPPED):
        with suppress(OSError):
            (path / name).unlink()
    shutil.rmtree(model, ignore_errors=True)


def _read(path: Path, facts: dict[str, Any]) -> tuple[State, Codes, list[dict[str, Any]], list[Seen]]:
    """What a gallery of format 1 holds; every file's sha256 has been compared."""
    try:
        if set(facts["files"]) != {_CODES, _ITEMS, _SKIPPED}:
            raise ValueError(f"files {sorted(facts['files'])}")
        bits = check_bits(facts["bits"])
        codes = np.frombuffer((path / _CODES).read_bytes(), dtype=np.uint8).reshape(-1, width(bits))
        items = [json.loads(line) for line in (path / _ITEMS).read_bytes().splitlines()]
        if not len(codes) == len(items) == facts["count"]:
            raise ValueError(f"{len(codes)} codes, {len(items)} items, count {facts['count']}")
        for item in items:
            _texts(item["id"], *item["labels"])
        codes = check_codes(codes, bits)
        problems = [_problem(*row) for row in json.loads((path / _SKIPPED).read_bytes())]
        model, root, created_by = _texts(facts["model"], facts["root"], facts["created_by"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        # Every hash was right, so this is not damage: something else than anglehash made it.
        raise ModelError(f"{path} is not a gallery that anglehash wrote: {error!r}") from error
    state = State(bits=bits, model=model, root=root, created_by=created_by)
    return state, codes, items, problems


def _problem(name: Any, reason: Any, detail: Any) -> Seen:
    _texts(name, reason, detail)
    return Seen(name, reason, detail)


def _texts(*values: Any) -> tuple[str, ...]:
    for value in values:
        if not isinstance(value, str):
            raise TypeError(f"text was expected, not {value!r}")
    return values
