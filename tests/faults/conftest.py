"""Shared by the fault tests: how many trials, a model of what a gallery should hold, and processes to kill.

``ANGLEHASH_LONG=1`` runs the long mode whose numbers are in docs/reliability.md.
"""

from __future__ import annotations

import hashlib
import os
import random
import signal
import sqlite3
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import pytest

from anglehash import files
from anglehash.encode.encoder import Encoding
from anglehash.gallery.gallery import Gallery
from anglehash.gallery.store.items import Item
from anglehash.gallery.store.writer import Changes

LONG = bool(os.environ.get("ANGLEHASH_LONG"))


class Trials(Protocol):
    def __call__(self, short: int, long: int) -> range: ...


@pytest.fixture
def trials() -> Trials:
    """How often to try: a few times in every run of the suite, or many times in the long mode."""
    return lambda short, long: range(long if LONG else short)


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    """An empty gallery of 16 bits."""
    none = np.zeros((0, 2), np.uint8)
    Gallery.create(tmp_path / "g", codes=none, ids=[], labels=[], bits=16, model_id="m").close()
    return tmp_path / "g"


class Script:
    """A reproducible series of commits, and what the gallery holds after each of them."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._names = list[str]()
        self._seed = seed
        self.held: list[dict[str, bytes]] = [{}]
        self.commits: list[Changes] = []

    def commit(self, number: int) -> Changes:
        """The commit of this number, from 1."""
        while len(self.commits) < number:
            self._extend()
        return self.commits[number - 1]

    def after(self, number: int) -> dict[str, bytes]:
        """Ids to codes after ``commits`` commits."""
        if number:
            self.commit(number)
        return self.held[number]

    def _extend(self) -> None:
        rng, held = self._random, dict(self.held[-1])
        fresh = {f"{self._seed}/{len(self.held)}/{i}" for i in range(rng.choice([1, 3, 40]))}
        again = set(rng.sample(sorted(held), min(len(held), rng.choice([0, 0, 5]))))
        gone = set(rng.sample(sorted(held), min(len(held), rng.choice([0, 0, 7])))) - again
        items = [
            Item(name, rng.randbytes(2), ("x",), {"n": len(self.held)}) for name in sorted(fresh | again)
        ]
        for name in gone:
            del held[name]
        held |= {item.id: item.code for item in items}
        self.commits.append(Changes(items, sorted(gone)))
        self.held.append(held)


@pytest.fixture(scope="session")
def script() -> Callable[[int], Script]:
    return Script


def content(path: Path) -> dict[str, bytes]:
    """What a gallery holds, by its rows; the codes that are searched are the same."""
    with Gallery.open(path) as gallery:
        held = {stored.item.id: stored.item.code for stored in gallery}
        assert gallery.codes.tobytes() == b"".join(held.values())
        if held:
            name, code = next(iter(held.items()))
            hits = gallery.search(np.frombuffer(code, np.uint8)[None], radius=0)[0]
            assert name in [hit.id for hit in hits]
        return held


@pytest.fixture
def held() -> Callable[[Path], dict[str, bytes]]:
    return content


@pytest.fixture
def forked() -> Iterator[Callable[[Callable[[Any], None]], tuple[int, Any]]]:
    """Run a function in a child process: its id, and a pipe to read what the function writes into its own end."""
    children: list[int] = []
    pipes = []

    def fork(work: Callable[[Any], None]) -> tuple[int, Any]:
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reading)
            try:
                with os.fdopen(writing, "w") as pipe:
                    work(pipe)
                os._exit(0)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
        os.close(writing)
        children.append(pid)
        pipes.append(os.fdopen(reading))
        return pid, pipes[-1]

    yield fork
    for pipe in pipes:
        pipe.close()
    for pid in children:
        try:
            os.kill(pid, 9)
            os.waitpid(pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass


CHANGING = {
    "os.rename",
    "os.remove",
    "os.rmdir",
    "os.mkdir",
    "os.truncate",
    "os.chmod",
    "os.link",
    "os.symlink",
}
STATEMENTS = ("BEGIN IMMEDIATE", "COMMIT", "INSERT", "UPDATE", "DELETE", "CREATE", "PRAGMA")


def watch(before: Callable[[str], None]) -> None:
    """From now on, and for the rest of this process, call ``before`` ahead of whatever changes a file or folder.

    Python itself tells of calls and of files that are opened to be written; of SQLite every statement is heard that
    writes. Syncs and writes to open files are caught where they are called.
    """

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in CHANGING:
            before(event)
        elif event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR):
            before("open to write")

    for name in ("fsync", "write"):
        real = getattr(os, name)

        def caught(*args: Any, name: str = name, real: Any = real) -> Any:
            before(f"os.{name}")
            return real(*args)

        setattr(os, name, caught)
    connect = sqlite3.connect

    def connected(*args: Any, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*args, **options)
        connection.set_trace_callback(lambda text: before(text) if text.startswith(STATEMENTS) else None)
        return connection

    sqlite3.connect = connected  # type: ignore[assignment]
    exchange = files._exchange

    def exchanged(one: Path, other: Path) -> bool:
        before("exchange")
        return exchange(one, other)

    files._exchange = exchanged
    sys.addaudithook(hook)


class Run(NamedTuple):
    """What became of work that was watched.

    Attributes:
        writes: what was written, as far as it came.
        error: of the work, in one line; empty where it came to its end or was killed.
    """

    writes: list[str]
    error: str


@pytest.fixture
def killed_at() -> Callable[[Callable[[], object], int], Run]:
    """Run work in a child process that is killed before its write of this number, from 1; 0 for never."""

    def run(work: Callable[[], object], number: int) -> Run:
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            write = os.write
            count = 0

            def before(what: str) -> None:
                nonlocal count
                count += 1
                write(writing, f"{what[:60]!r}\n".encode())
                if count == number:
                    os.kill(os.getpid(), signal.SIGKILL)

            try:
                watch(before)
                work()
                os._exit(0)
            except BaseException as error:
                write(writing, f"!{error!r}".replace("\n", " ").encode() + b"\n")
                os._exit(1)
        os.close(writing)
        with os.fdopen(reading) as pipe:
            lines = pipe.read().splitlines()
        os.waitpid(pid, 0)
        return Run([line for line in lines if line[0] != "!"], "".join(x[1:] for x in lines if x[0] == "!"))

    return run


@pytest.fixture
def beside() -> Callable[[Callable[[], object], Callable[[], object]], Run]:
    """Run work in a child process that waits before each of its writes until ``look`` has looked."""

    def run(work: Callable[[], object], look: Callable[[], object]) -> Run:
        reading, writing = os.pipe()
        waiting, going = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reading)
            os.close(going)
            read, write = os.read, os.write

            def before(what: str) -> None:
                write(writing, f"{what[:60]!r}\n".encode())
                if not read(waiting, 1):
                    os._exit(1)  # the parent has failed

            try:
                watch(before)
                work()
                os._exit(0)
            except BaseException as error:
                write(writing, f"!{error!r}".replace("\n", " ").encode() + b"\n")
                os._exit(1)
        os.close(writing)
        os.close(waiting)
        writes, problem = [], ""
        try:
            with os.fdopen(reading) as pipe:
                for line in pipe:
                    if line[0] == "!":
                        problem = line[1:]
                        continue
                    writes.append(line.strip())
                    look()
                    os.write(going, b".")
        finally:
            os.close(going)
            os.waitpid(pid, 0)
        return Run(writes, problem)

    return run


class FakeEncoder:
    """Codes of 16 bits from the bytes of a file; bytes that begin with "bad" are refused."""

    bits, level = 16, None

    def __init__(self, name: str) -> None:
        self.id = name

    def code(self, data: bytes) -> bytes:
        return hashlib.sha256(self.id.encode() + data).digest()[:2]

    def encode(self, images: Any, *, rows: Any, **_: Any) -> Encoding:
        done, codes, problems = [], [], []
        for row in rows.tolist():
            data = images.read(row)
            if data.startswith(b"bad"):
                problems.append((row, "empty", "it is bad"))
            else:
                done.append(row)
                codes.append(self.code(data))
        packed = np.frombuffer(b"".join(codes), np.uint8).reshape(-1, 2)
        none = np.zeros((len(done), 0), np.float32)
        return Encoding(np.array(done, np.int64), packed, none, none, problems, [])


@pytest.fixture
def fake_encoder() -> type[FakeEncoder]:
    """What :func:`fake_models` opens."""
    return FakeEncoder


@pytest.fixture
def fake_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Models ``m`` and ``n`` whose encoders are fake: no picture is decoded, so files may hold anything."""
    from anglehash.encode import load as encoders
    from anglehash.gallery import build as galleries
    from anglehash.gallery import ingest
    from anglehash.gallery import reindex as reindexing
    from anglehash.manifest import read_manifest, write_manifest

    def open_fake(path: Path, **_: Any) -> FakeEncoder:
        return FakeEncoder(read_manifest(path, "model", 2)["id"])

    for module in (encoders, galleries, reindexing):
        monkeypatch.setattr(module, "open_encoder", open_fake)
    for module in (ingest, reindexing):
        monkeypatch.setattr(module, "keys_of", lambda images, rows: {row: {} for row in rows.tolist()})
    found = {}
    for name in ("m", "n"):
        found[name] = tmp_path / "models" / name
        found[name].mkdir(parents=True)
        (found[name] / "weights").write_bytes(name.encode() * 100)
        write_manifest(found[name], "model", 2, {"id": name, "bits": 16})
    return found
