"""Backups: a gallery as one file, and back.

A backup is a tar file: ``backup.json`` with the sha256 of each member, then ``items.db`` and the files of the
model. Segments are not in it; they are made anew. It is taken from one generation while writers go on, and it
is read as if a stranger had written it: only members that ``backup.json`` names, and only into the new folder.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import sqlite3
import tarfile
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from anglehash.errors import ModelError
from anglehash.files import new_file, new_folder, refuse_existing, sha256_file, sha256_json
from anglehash.manifest import is_a
from anglehash.search.store.database import State, read_state
from anglehash.search.store.layout import KIND, Store, acknowledge
from anglehash.search.store.opening import attach
from anglehash.search.store.reader import Snapshot, load
from anglehash.search.store.sqlite import sqlite_errors
from anglehash.search.store.verify import examine, model_faults

_FORMAT, _VERSION = "anglehash-backup", 1
_INDEX, _DATABASE, _MODEL = "backup.json", "items.db", "model"
_MAX_INDEX = 16 * 2**20
_BLOCK = 1 << 20
_PART = re.compile(r"[^\\/:\0]+")


def backup(path: Path, output: Path, *, force: bool = False) -> dict[str, Any]:
    """Write a gallery into one file, whole or not at all.

    Args:
        path: the gallery.
        output: the file.
        force: replace a file that is there.

    Returns:
        What is in it, as JSON values.

    Raises:
        ModelError: the gallery is damaged.
        OutputExistsError: there is something at ``output``.
    """
    refuse_existing(output, force=force)
    found = load(path)
    with closing(found.connection), new_file(output) as file:
        copy = Path(file.name + ".db")
        try:
            state = _copy(found, copy)
            model = found.store.model
            members = {_DATABASE: copy} | {
                f"{_MODEL}/{member.relative_to(model).as_posix()}": member
                for member in sorted(model.rglob("*"))
                if member.is_file()
            }
            facts = {name: getattr(state, name) for name in ("generation", "live", "bits", "model")}
            files = {
                name: {"sha256": sha256_file(p), "size": p.stat().st_size} for name, p in members.items()
            }
            _write(file, {"format": _FORMAT, "version": _VERSION, **facts, "files": files}, members)
        finally:
            copy.unlink(missing_ok=True)
    return {"backup": str(output), "items": state.live, "generation": state.generation}


def _copy(found: Snapshot, copy: Path) -> State:
    """One generation of the truth as a file, after all of it was found whole: no backup holds damage."""
    with sqlite_errors(copy), closing(sqlite3.connect(copy)) as target:
        found.connection.backup(target)  # in one step
        state = read_state(target, copy)
        own = replace(found.receipt, generation=state.generation, count=state.live)
        faults = [*examine(target, found.store, state, own), *model_faults(found.store)]
    if faults:
        raise ModelError(f"{faults[0].detail}: nothing was backed up (anglehash verify lists all damage)")
    return state


def _write(file: IO[bytes], index: dict[str, Any], members: dict[str, Path]) -> None:
    text = json.dumps({**index, "seal": sha256_json(index)}, indent=2).encode()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo(_INDEX)
        info.size = len(text)
        tar.addfile(info, io.BytesIO(text))
        for name, member in members.items():
            info = tarfile.TarInfo(name)
            info.size = member.stat().st_size
            with member.open("rb") as stream:
                tar.addfile(info, stream)


def restore(file: Path, output: Path, *, force: bool = False) -> None:
    """Make a gallery from a backup, whole or not at all, after every byte of it has been compared.

    Raises:
        ModelError: no backup, of a newer format, or damaged.
        OutputExistsError: there is something at ``output``.
    """
    refuse_existing(output, force=force, ours=is_a(KIND))
    try:
        with tarfile.open(file, "r:") as tar, new_folder(output, force=force, ours=is_a(KIND)) as folder:
            store = Store(folder / "1")
            store.make()
            _extract(tar, _index(tar, file), store, file)
            _finish(folder, store)
    except (tarfile.TarError, EOFError) as error:
        raise ModelError(f"{file} is no backup, or it is damaged: {error}") from error


def _index(tar: tarfile.TarFile, file: Path) -> dict[str, dict[str, Any]]:
    """What the first member says of the others, once its seal is found right."""
    first = tar.next()
    stream = tar.extractfile(first) if first and first.isreg() and first.name == _INDEX else None
    if stream is None or first is None or first.size > _MAX_INDEX:
        raise ModelError(f"{file} is no backup of a gallery: it does not begin with {_INDEX}")
    try:
        index = json.loads(stream.read())
        seal = index.pop("seal")
        files: dict[str, dict[str, Any]] = index["files"]
        if index["format"] != _FORMAT or seal != sha256_json(index) or _DATABASE not in files:
            raise ValueError
        version = int(index["version"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ModelError(f"{file} is damaged: its {_INDEX} does not match its seal") from None
    if version > _VERSION:
        raise ModelError(
            f"{file} has the backup format {version}, this anglehash reads up to {_VERSION}: upgrade anglehash"
        )
    return files


def _extract(tar: tarfile.TarFile, files: dict[str, dict[str, Any]], store: Store, file: Path) -> None:
    missing = set(files)
    while (member := tar.next()) is not None:
        stream = tar.extractfile(member) if member.isreg() else None
        if stream is None or member.name not in missing:
            raise ModelError(f"{file} holds {member.name!r}, which its {_INDEX} does not name")
        missing.remove(member.name)
        target = _target(member.name, store, file)
        target.parent.mkdir(parents=True, exist_ok=True)
        digest, left = hashlib.sha256(), int(files[member.name]["size"])
        with target.open("xb") as out:
            while block := stream.read(min(_BLOCK, left + 1)):
                left -= len(block)
                if left < 0:
                    break
                digest.update(block)
                out.write(block)
        if left or digest.hexdigest() != files[member.name]["sha256"]:
            raise ModelError(f"{file} is damaged: {member.name} in it is not what was written")
    if missing:
        raise ModelError(f"{file} is cut: {min(missing)} is missing")


def _target(name: str, store: Store, file: Path) -> Path:
    if name == _DATABASE:
        return store.database
    first, *rest = name.split("/")
    if (
        first != _MODEL
        or not rest
        or any(part in ("", ".", "..") or not _PART.fullmatch(part) for part in rest)
    ):
        raise ModelError(f"{file} holds {name!r}, which is no file of a gallery")
    return store.model.joinpath(*rest)


def _finish(folder: Path, store: Store) -> None:
    """Segments, receipt and manifest, from the truth; every row is compared with its crc on the way."""
    with attach(store) as writer:
        acknowledge(store, writer.state.generation)
        writer.publish(folder)
    load(folder).connection.close()
