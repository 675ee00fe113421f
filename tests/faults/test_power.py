"""A power cut at any call, with whatever was not synced lost, torn or in another order: the acknowledged is there.

strace records every call that changes a file or a folder. :class:`Disk` repeats them, and keeps apart what a
sync has made certain and what has only been asked for. At a cut, of the latter any part may be there: each write to
a file or not, up to any sector of 512 bytes, in any order; of the changes in a folder the first few, each folder for
itself. A sync of a file says nothing of its name: that is what a sync of its folder is for. This is what POSIX
leaves open, and more than most file systems do.

Not recorded are writes through mapped memory: of a gallery those of SQLite's ``-shm`` file, which holds nothing that a
cut should leave; it comes back as noise.
"""

from __future__ import annotations

import os
import pickle
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from random import Random
from typing import Any, NamedTuple

import numpy as np
import pytest

from anglehash.gallery.gallery import Gallery
from anglehash.gallery.store import writer as writing
from anglehash.gallery.store.items import Item
from anglehash.gallery.store.opening import open_writer
from anglehash.gallery.store.verify import verify
from anglehash.gallery.store.writer import Changes

COMMITS = 45
SECTOR = 512
CALLS = (
    "openat,open,creat,write,pwrite64,lseek,ftruncate,rename,renameat,renameat2,unlink,unlinkat,rmdir,mkdir,"
    "mkdirat,fsync,fdatasync,writev,pwritev,truncate,fallocate,link,linkat,symlink,sendfile,copy_file_range"
)
_LINE = re.compile(r"(\d+) +(\w+)\((.*)\) += (-?\d+)")
_TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_HANDLE = re.compile(r"^(\d+)<((?:\\x[0-9a-f]{2})*)>")


class Call(NamedTuple):
    """One call that succeeded."""

    process: int
    name: str
    arguments: str
    result: int

    @property
    def texts(self) -> list[bytes]:
        """The texts among its arguments."""
        return [bytes.fromhex(text.replace("\\x", "")) for text in _TEXT.findall(self.arguments)]

    @property
    def handle(self) -> tuple[int, PurePosixPath]:
        """The open file that is its first argument: number and path."""
        found = _HANDLE.match(self.arguments)
        assert found, self
        return int(found[1]), PurePosixPath(
            bytes.fromhex(found[2].replace("\\x", "")).decode("utf-8", "replace")
        )


def calls(trace: Path) -> Iterator[Call]:
    """The calls of a trace that succeeded, in order."""
    for line in trace.read_text().splitlines():
        found = _LINE.match(line)
        if found and not found[4].startswith("-"):
            yield Call(int(found[1]), found[2], found[3], int(found[4]))


@dataclass(eq=False)
class File:
    """Bytes that are certain, and changes since: ``(place, bytes)`` or ``(length, None)``."""

    certain: bytearray = field(default_factory=bytearray)
    asked: list[tuple[int, bytes | None]] = field(default_factory=list)

    def sync(self) -> None:
        for change in self.asked:
            _apply(self.certain, *change)
        self.asked = []

    def after_cut(self, rng: Random) -> bytes:
        data, share = bytearray(self.certain), rng.choice([0.0, 0.5, 0.9, 1.0])
        for place, new in self.asked:
            if rng.random() >= share:
                continue
            if new is not None and rng.random() < 0.2:  # torn
                start = place - place % SECTOR
                new = new[: max(0, start + SECTOR * rng.randint(0, 1 + len(new) // SECTOR) - place)]
            _apply(data, place, new)
        return bytes(data)


def _apply(data: bytearray, place: int, new: bytes | None) -> None:
    if new is None:
        data[:] = data[:place].ljust(place, b"\0")
    else:
        data.extend(bytes(max(0, place - len(data))))
        data[place : place + len(new)] = new


@dataclass(eq=False)
class Folder:
    """Names that are certain, the names as they are now, and the changes between; a rename within is one."""

    certain: dict[str, File | Folder] = field(default_factory=dict)
    now: dict[str, File | Folder] = field(default_factory=dict)
    asked: list[dict[str, File | Folder | None]] = field(default_factory=list)

    def change(self, names: dict[str, File | Folder | None]) -> None:
        _rename(self.now, names)
        self.asked.append(names)

    def sync(self) -> None:
        self.certain, self.asked = dict(self.now), []

    def after_cut(self, rng: Random) -> dict[str, File | Folder]:
        names = dict(self.certain)
        for change in self.asked[: rng.randint(0, len(self.asked))]:
            _rename(names, change)
        return names


def _rename(names: dict[str, File | Folder], change: dict[str, File | Folder | None]) -> None:
    for name, node in change.items():
        names.pop(name, None)
        if node is not None:
            names[name] = node


class Disk:
    """The files below one folder, which was there, empty and certain, before the first call."""

    def __init__(self, root: Path) -> None:
        self._root = PurePosixPath(root)
        self.top = Folder()
        self._places: dict[tuple[int, int], int] = {}  # of open files, by process and number

    def apply(self, call: Call) -> bool:
        """Repeat a call; whether it was one that changes these files.

        Raises:
            NotImplementedError: it changes them in a way that is not known here.
        """
        name, key = call.name, (call.process, 0)
        if name in ("open", "openat", "creat"):
            self._places[call.process, call.result] = 0
            return self._open(call)
        if name in ("mkdir", "mkdirat", "rmdir", "unlink", "unlinkat", "rename", "renameat", "renameat2"):
            return self._name(call)
        if _HANDLE.match(call.arguments) is None:
            return False
        number, path = call.handle
        node, key = self._find(path), (call.process, number)
        if name == "lseek":
            self._places[key] = call.result
        if node is None or name == "lseek":
            return False
        if name in ("fsync", "fdatasync"):
            node.sync()
        elif isinstance(node, Folder):
            raise NotImplementedError(call)
        elif name == "write":
            place = self._places.get(key, 0)
            node.asked.append((place, call.texts[0][: call.result]))
            self._places[key] = place + call.result
        elif name == "pwrite64":
            node.asked.append((int(call.arguments.rsplit(",", 1)[1]), call.texts[0][: call.result]))
        elif name == "ftruncate":
            node.asked.append((int(call.arguments.rsplit(",", 1)[1]), None))
        else:
            raise NotImplementedError(call)
        return True

    def _find(self, path: PurePosixPath) -> File | Folder | None:
        if not path.is_relative_to(self._root):
            return None
        node: File | Folder | None = self.top
        for part in path.relative_to(self._root).parts:
            node = node.now.get(part) if isinstance(node, Folder) else None
        return node

    def _folder(self, path: PurePosixPath) -> Folder | None:
        found = self._find(path.parent)
        return found if isinstance(found, Folder) else None

    def _open(self, call: Call) -> bool:
        path = PurePosixPath(call.texts[0].decode("utf-8", "surrogateescape"))
        folder = self._folder(path)
        if folder is None or "O_CREAT" not in call.arguments or path.name in folder.now:
            return False  # nothing here truncates as it opens
        folder.change({path.name: File()})
        return True

    def _name(self, call: Call) -> bool:
        paths = [PurePosixPath(text.decode("utf-8", "surrogateescape")) for text in call.texts]
        if not paths[0].is_absolute() and "<" in call.arguments:  # below an open folder
            folder = re.search(r"<((?:\\x[0-9a-f]{2})+)>", call.arguments)
            assert folder
            paths = [PurePosixPath(bytes.fromhex(folder[1].replace("\\x", "")).decode()) / paths[0]]
        folders = [self._folder(path) for path in paths]
        first = folders[0]
        if first is None:
            return False
        if call.name.startswith("mkdir"):
            first.change({paths[0].name: Folder()})
        elif not call.name.startswith("rename"):
            first.change({paths[0].name: None})
        else:
            node, second = first.now[paths[0].name], folders[1]
            assert second is not None
            if first is second:
                first.change({paths[0].name: None, paths[1].name: node})
            else:
                second.change({paths[1].name: node})
                first.change({paths[0].name: None})
        return True

    def cut(self, target: Path, rng: Random) -> None:
        """Write into an empty folder what may be there after a power cut now."""
        _write(self.top, target, rng)


def _write(folder: Folder, target: Path, rng: Random) -> None:
    for name, node in folder.after_cut(rng).items():
        if isinstance(node, Folder):
            (target / name).mkdir()
            _write(node, target / name, rng)
        elif name.endswith("-shm"):
            (target / name).write_bytes(rng.randbytes(rng.choice([0, 3, 32_768])))
        else:
            (target / name).write_bytes(node.after_cut(rng))


def play(path: Path) -> None:
    """Make a gallery and change it, with segments, merges and purges; each commit is reported when it has returned."""
    writing.TAIL, writing.LONG_TAIL = 16, 64
    none = np.zeros((0, 2), np.uint8)
    Gallery.create(path, codes=none, ids=[], labels=[], bits=16, model_id="m").close()
    os.write(1, b"reported 0\n")
    story: list[Changes] = pickle.loads(sys.stdin.buffer.read())  # our own
    number = 0
    while number < COMMITS:
        with open_writer(path) as writer:
            for _ in range(3):
                number += 1
                writer.commit(story[number - 1])
                os.write(1, b"reported %d\n" % number)


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory, script: Any) -> tuple[Path, list[Call]]:
    """What :func:`play` did: the folder above the gallery, and the calls."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    root = tmp_path_factory.mktemp("power")
    where, file = root / "disk", root / "trace"
    where.mkdir()
    strace = [
        "strace",
        "-f",
        "--seccomp-bpf",
        "-y",
        "-xx",
        "-s",
        "9999999",
        "-e",
        f"trace={CALLS}",
        "-o",
        str(file),
    ]
    commits = pickle.dumps([script(4).commit(number) for number in range(1, COMMITS + 1)])
    done = subprocess.run(
        [*strace, sys.executable, __file__, str(where / "g")], input=commits, capture_output=True, check=False
    )
    if b"ptrace" in done.stderr:
        pytest.skip("processes may not be traced here")
    assert done.returncode == 0, done.stderr.decode()
    return where, list(calls(file))


def test_what_was_acknowledged_survives_a_power_cut(
    trace: tuple[Path, list[Call]], tmp_path: Path, script: Any, held: Callable[[Path], Any], trials: Any
) -> None:
    where, recorded = trace
    story, rng = script(4), Random(0)
    disk = Disk(where)
    changing = [number for number, call in enumerate(recorded) if disk.apply(call) or _is_reported(call)]
    cuts = sorted(rng.choice(changing) for _ in trials(15, 1000))
    disk, reported, done = Disk(where), -1, 0
    lost = 0
    for cut in cuts:
        for call in recorded[done:cut]:
            disk.apply(call)
            reported += _is_reported(call)
        done = cut
        target = tmp_path / "after"
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir()
        disk.cut(target, rng)
        path = target / "g"
        if reported < 0 and not path.exists():
            continue  # nothing was acknowledged yet
        found = held(path)
        known = max(reported, 0)
        assert found in (story.after(known), story.after(known + 1)), f"after call {cut}, {reported} reported"
        lost += found == story.after(known)
        with open_writer(path) as writer:
            writer.commit(Changes([Item("later", b"ab")]))
        assert held(path) == found | {"later": b"ab"}
        assert verify(path) == []
    assert lost > len(cuts) // 2


def _is_reported(call: Call) -> bool:
    return call.name == "write" and b"reported " in b"".join(call.texts[:1])


def test_replaying_all_calls_gives_what_is_on_disk(trace: tuple[Path, list[Call]], tmp_path: Path) -> None:
    where, recorded = trace
    disk = Disk(where)
    for call in recorded:
        disk.apply(call)
    _sync(disk.top)
    disk.cut(tmp_path, Random(0))
    original = {p.relative_to(where): p.read_bytes() for p in where.rglob("*") if p.is_file()}
    replayed = {p.relative_to(tmp_path): p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    lock = Path("g/1/lock")
    assert original.pop(lock)
    replayed.pop(lock)
    assert replayed == original


def _sync(node: File | Folder) -> None:
    node.sync()
    if isinstance(node, Folder):
        for inner in node.now.values():
            _sync(inner)


def test_what_was_not_synced_may_be_lost_and_what_was_is_not(tmp_path: Path) -> None:
    file = File()
    file.asked = [(0, b"a" * 1024), (1024, b"b")]
    file.sync()
    file.asked = [(0, b"x" * 1024), (2000, b"y")]
    seen = {file.after_cut(Random(seed)) for seed in range(2000)}
    old, new, far = b"a" * 1024 + b"b", b"x" * 1024 + b"b", bytes(975) + b"y"
    assert {old, new, old + far, new + far, b"x" * 512 + b"a" * 512 + b"b"} <= seen
    folder = Folder()
    folder.change({"kept": file})
    folder.sync()
    folder.change({"kept": None, "renamed": file})
    folder.change({"later": file})
    names = {tuple(folder.after_cut(Random(seed))) for seed in range(50)}
    assert names == {("kept",), ("renamed",), ("renamed", "later")}


if __name__ == "__main__":
    play(Path(sys.argv[1]))
