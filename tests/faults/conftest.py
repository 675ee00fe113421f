"""Shared by the fault tests: how many trials, a model of what a gallery should hold, and processes to kill.

``ANGLEHASH_LONG=1`` runs the long mode whose numbers are in docs/reliability.md.
"""

from __future__ import annotations

import os
import random
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pytest

from anglehash.search.gallery import Gallery
from anglehash.search.store.items import Item
from anglehash.search.store.writer import Changes

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
        """Ids to codes after so many commits."""
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
