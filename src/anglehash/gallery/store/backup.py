"""Backups: a gallery as one file, and back.

A backup is a tar file: ``backup.json`` with the sha256 of each member, then ``items.db`` and the files of the
model. Segments are not in it; they are rebuilt. It is taken from one generation while writers go on, and it
is read as if a stranger had written it: only members that ``backup.json`` names, and only into the new folder.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import re
import sqlite3
import tarfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, NamedTuple

from anglehash.errors import ModelError
from anglehash.files import new_file, new_folder, refuse_existing, sha256_file, sha256_json
from anglehash.gallery.store.database import State, connect, read_state
from anglehash.gallery.store.layout import KIND, Receipt, Store, acknowledge, read_receipt, read_steadily
from anglehash.gallery.store.opening import attach
from anglehash.gallery.store.reader import Snapshot, load
from anglehash.gallery.store.sqlite import sqlite_errors
from anglehash.gallery.store.verify import Fault, examine, model_faults, verify
from anglehash.manifest import is_a

_FORMAT, _VERSION = "anglehash-backup", 1
_INDEX, _DATABASE, _MODEL = "backup.json", "items.db", "model"
_MAX_INDEX = 16 * 2**20
_BLOCK = 1 << 20
_FACTS = ("generation", "live", "bits", "model")
_HEADERS = {"path", "size", "hdrcharset"}
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

    def write(store: Store, _: Receipt) -> State:
        with closing((found := load(path)).connection), new_file(output) as file:
            state = _write_all(found, file)
            if found.store != store or read_receipt(path)[0] != store:
                raise FileNotFoundError(
                    f"{store.path} is replaced"
                )  # with its model, perhaps before all was read
            return state

    state = read_steadily(path, write)
    return {"backup": str(output), "items": state.live, "generation": state.generation}


def _write_all(found: Snapshot, file: IO[bytes]) -> State:
    """Write the truth and the model of one generation into a file; its state."""
    copy, model = Path(file.name + ".db"), found.store.model
    try:
        state = _copy(found, copy)
        members = {_DATABASE: copy} | {
            f"{_MODEL}/{member.relative_to(model).as_posix()}": member
            for member in sorted(model.rglob("*"))
            if member.is_file()
        }
        facts = {name: getattr(state, name) for name in _FACTS}
        files = {name: {"sha256": sha256_file(p), "size": p.stat().st_size} for name, p in members.items()}
        _write(file, {"format": _FORMAT, "version": _VERSION, **facts, "files": files}, members)
        return state
    finally:
        copy.unlink(missing_ok=True)


def _copy(found: Snapshot, copy: Path) -> State:
    """One generation of the truth as a file, after all of it was found whole: no backup holds damage."""
    with sqlite_errors(copy), closing(sqlite3.connect(copy)) as target:
        found.connection.backup(target)  # in one step
        state = read_state(target, copy)
        own = replace(found.receipt, generation=state.generation, count=state.live)
        faults = [
            *examine(target, found.store, state, own),
            *model_faults(found.store, state.model, state.bits),
        ]
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
        ModelError: no backup, of another format, damaged, or made up by somebody else.
        OutputExistsError: there is something at ``output``.
    """
    refuse_existing(output, force=force, ours=is_a(KIND))
    try:
        with tarfile.open(file, "r:") as tar, new_folder(output, force=force, ours=is_a(KIND)) as folder:
            members, store = _members(tar, file), Store(folder / "1")
            store.make()
            index = _index(tar, next(members, None), file)
            _extract(tar, members, index.files, store)
            try:
                _finish(folder, store, index)
            except ModelError as error:
                raise _HostileError(str(error).replace(f"{folder}{os.sep}", "")) from error
    except ModelError:
        raise
    except (_HostileError, tarfile.TarError, EOFError, *_UNEXPECTED) as error:
        reason = "".join(c if c.isprintable() else "?" for c in str(error))[:300]
        raise ModelError(f"{file} is damaged, or not a backup that anglehash wrote: {reason}") from error


class _HostileError(Exception):
    """A backup is not what this library writes."""


_UNEXPECTED = (
    sqlite3.Error,
    ValueError,
    TypeError,
    ArithmeticError,
    LookupError,
    RecursionError,
    MemoryError,
)
"""What libraries may raise at bytes that somebody has made up: nothing was written yet, so it is refused."""


class _Index(NamedTuple):
    """What a backup says of itself.

    Attributes:
        facts: generation, number of items, bits and model.
        files: size and sha256 of each member, by name.
    """

    facts: dict[str, Any]
    files: dict[str, tuple[int, str]]


def _members(tar: tarfile.TarFile, file: Path) -> Iterator[tarfile.TarInfo]:
    """Plain files only, whose bytes are all in the archive, one after the other: none is mostly holes.

    Raises:
        _HostileError: a member of another kind.
    """
    left = file.stat().st_size
    while (member := tar.next()) is not None:
        plain = member.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and not member.issparse()
        if not plain or not set(member.pax_headers) <= _HEADERS:
            raise _HostileError(f"{member.name!r} in it is not a plain file")
        left -= member.size  # or one that claims the bytes of those that follow
        if member.size < 0 or left < 0:
            raise _HostileError(f"{member.name!r} in it claims {member.size} bytes, more than there are")
        yield member


def _index(tar: tarfile.TarFile, first: tarfile.TarInfo | None, file: Path) -> _Index:
    """What the first member says of the others, once its seal is found right."""
    stream = tar.extractfile(first) if first and first.name == _INDEX else None
    if stream is None or first is None or first.size > _MAX_INDEX:
        raise ModelError(f"{file} is not a backup of a gallery: it does not begin with {_INDEX}")
    try:
        index = json.loads(stream.read())
        seal = index.pop("seal")
        if index["format"] != _FORMAT or seal != sha256_json(index):
            raise ValueError
        version = index["version"]
        facts = {name: index[name] for name in _FACTS}
        files = {name: (entry["size"], entry["sha256"]) for name, entry in index["files"].items()}
        if _DATABASE not in files or not all(type(size) is int for size, _ in files.values()):
            raise ValueError
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ModelError(f"{file} is damaged: its {_INDEX} does not match its seal") from None
    if version != _VERSION:
        newer = type(version) is int and version > _VERSION
        remedy = "upgrade anglehash" if newer else "make another backup"
        raise ModelError(f"{file} has the backup format {version}, this anglehash reads {_VERSION}: {remedy}")
    return _Index(facts, files)


def _extract(
    tar: tarfile.TarFile,
    members: Iterator[tarfile.TarInfo],
    files: dict[str, tuple[int, str]],
    store: Store,
) -> None:
    missing = set(files)
    for member in members:
        if member.name not in missing:
            raise _HostileError(f"it holds {member.name!r}, which its {_INDEX} does not name")
        missing.remove(member.name)
        size, sha256 = files[member.name]
        target, stream = _target(member.name, store), tar.extractfile(member)
        if stream is None or member.size != size:
            raise _HostileError(f"{member.name!r} in it is not what was written")
        digest = hashlib.sha256()
        with _create(target) as out:
            while block := stream.read(_BLOCK):
                digest.update(block)
                out.write(block)
        if digest.hexdigest() != sha256:
            raise _HostileError(f"{member.name!r} in it is not what was written")
    if missing:
        raise _HostileError(f"it is cut: {min(missing)!r} is missing")


def _target(name: str, store: Store) -> Path:
    if name == _DATABASE:
        return store.database
    first, *rest = name.split("/")
    if (
        first != _MODEL
        or not rest
        or any(part in ("", ".", "..") or not _PART.fullmatch(part) for part in rest)
    ):
        raise _HostileError(f"it holds {name!r}, which does not belong in a gallery")
    return store.model.joinpath(*rest)


def _create(target: Path) -> IO[bytes]:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        return target.open("xb")
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO):
            raise
        raise _HostileError(f"it holds a file that cannot be made: {target.name[:100]!r}") from error


def _finish(folder: Path, store: Store, index: _Index) -> None:
    """Segments, receipt and manifest, from the truth; all that verify compares is compared before and after.

    Raises:
        ModelError: something is wrong.
    """
    with closing(connect(store.database)) as connection, sqlite_errors(store.database):
        state = read_state(connection, store.database)
        if index.facts != {name: getattr(state, name) for name in _FACTS}:
            raise ModelError(f"its {_INDEX} does not say what {_DATABASE} holds")
        own = Receipt(
            store=store.number, generation=state.generation, last_row=0, count=state.live,
            bits=state.bits, model=state.model,
        )  # fmt: skip
        acknowledge(store, state.generation)
        _refuse(examine(connection, store, state, own))
    with attach(store) as writer:
        writer.publish(folder)
    _refuse(verify(folder))


def _refuse(faults: list[Fault]) -> None:
    if faults:
        raise ModelError(faults[0].detail)
