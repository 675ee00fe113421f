"""No space, no rights: nothing half there, exit codes of their own, and the gallery continues once there is room."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import anglehash
from anglehash.data.dataset import Problem
from anglehash.data.sources.open import list_images
from anglehash.gallery.gallery import Gallery
from anglehash.gallery.ingest import removable
from anglehash.gallery.store import writer as writing
from anglehash.gallery.store.items import Item
from anglehash.gallery.store.opening import open_writer
from anglehash.gallery.store.sources import Source
from anglehash.gallery.store.verify import verify
from anglehash.gallery.store.writer import Changes

NOBODY = 65534


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 2 MB; skipped where it may not be mounted."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small disk cannot be mounted here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def fill(path: Path, script: Any, *, most: int = 2000) -> tuple[int, OSError]:
    """Commit until the disk is full: how many commits returned, and what the next one said."""
    number = 0
    try:
        with open_writer(path) as writer:
            while number < most:
                writer.commit(script.commit(number + 1))
                number += 1
    except OSError as error:
        return number, error
    raise AssertionError("the disk was never full")


def test_a_full_disk(small_disk: Path, script: Any, held: Callable[[Path], dict[str, bytes]]) -> None:
    none = np.zeros((0, 2), np.uint8)
    path = small_disk / "g"
    Gallery.create(path, codes=none, ids=[], labels=[], bits=16, model_id="m").close()
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(1_200_000))
    story = script(1)
    number, error = fill(path, story)
    assert error.errno in (28, 5)
    assert number > 3
    ballast.unlink()
    assert held(path) in (story.after(number), story.after(number + 1))
    now = number if held(path) == story.after(number) else number + 1
    with open_writer(path) as writer:
        writer.commit(story.commit(now + 1))
    assert held(path) == story.after(now + 1)
    assert verify(path) == []


def test_a_full_disk_is_no_reason_to_stop_answering(
    small_disk: Path, script: Any, held: Callable[[Path], dict[str, bytes]], caplog: pytest.LogCaptureFixture
) -> None:
    none = np.zeros((0, 2), np.uint8)
    path = small_disk / "g"
    Gallery.create(path, codes=none, ids=[], labels=[], bits=16, model_id="m").close()
    story = script(1)
    with pytest.MonkeyPatch.context() as patch, open_writer(path) as writer:
        patch.setattr(writing, "TAIL", 0)
        for number in range(1, 30):
            writer.commit(story.commit(number))
        free = shutil.disk_usage(small_disk).free
        (small_disk / "ballast").write_bytes(bytes(max(0, free - 8192)))
    assert "searching continues" in caplog.text  # the segments did not fit; the commits had
    assert held(path) == story.after(29)
    (small_disk / "ballast").unlink()
    with open_writer(path):
        pass
    assert held(path) == story.after(29)
    assert verify(path) == []


def test_a_limit_on_the_size_of_files(
    empty: Path, script: Any, forked: Any, held: Callable[[Path], dict[str, bytes]], trials: Any
) -> None:
    """The same, without the right to mount: writes fail with EFBIG at another place each time."""
    story, known = script(2), 0
    for trial in trials(6, 60):

        def write(pipe: Any, known: int = known, trial: int = trial) -> None:
            size = (empty / "1" / "items.db").stat().st_size + 4096 * (3 + 5 * trial % 40)
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
            writing.TAIL = 50
            number = known
            try:
                with open_writer(empty) as writer:
                    while number < known + 40:
                        writer.commit(story.commit(number + 1))
                        number += 1
                        pipe.write(f"{number}\n")
                        pipe.flush()
            except OSError:
                pipe.write("full\n")

        pid, pipe = forked(write)
        lines = pipe.read().split()
        os.waitpid(pid, 0)
        reported = [int(line) for line in lines if line != "full"]
        known = reported[-1] if reported else known
        found = held(empty)
        assert found in (story.after(known), story.after(known + 1))
        known += found != story.after(known)
        assert verify(empty) == []


@pytest.fixture
def as_nobody(forked: Any) -> Callable[[Callable[[], Any]], tuple[int, str]]:
    """Run a function as a user without rights, for root may write anywhere: its exit code and output.

    What it needs must be imported already: that user may not even read Python's library.
    """
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    source = Path(anglehash.__file__).parent
    if not all(folder.stat().st_mode & 0o001 for folder in (source, *source.parents)):
        pytest.skip("other users may not enter this checkout's folder, and commands are looked up in it")

    def run(work: Callable[[], Any]) -> tuple[int, str]:
        def child(pipe: Any) -> None:
            for stream in (1, 2):
                os.dup2(pipe.fileno(), stream)
            sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            try:
                work()
            except SystemExit as end:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(int(end.code or 0))
            sys.stdout.flush()

        pid, pipe = forked(child)
        output = pipe.read()
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), output

    return run


@pytest.fixture
def readable(empty: Path, script: Any) -> Path:
    """A gallery that everybody may read and only its owner write."""
    with open_writer(empty) as writer:
        writer.commit(script(1).commit(1))
    for folder in (empty, *empty.parents):
        if folder.stat().st_uid == os.geteuid() and str(folder).startswith("/tmp/"):
            folder.chmod(0o755)
    for entry in empty.rglob("*"):
        entry.chmod(0o755 if entry.is_dir() else 0o644)
    return empty


def test_who_may_only_read_can_search(readable: Path, as_nobody: Any) -> None:
    def search() -> None:
        with Gallery.open(readable) as gallery:
            print(len(gallery.search(gallery.codes[:1], 1)[0]), gallery.refresh())

    search()  # imports what is needed
    assert as_nobody(search) == (0, "1 False\n")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["remove", "G", "1/1/0"], 77), (["list", "G"], 0), (["verify", "G"], 0), (["repair", "G"], 0)],
    ids=["remove", "list", "verify", "repair"],
)
def test_exit_codes_without_rights(
    readable: Path, as_nobody: Any, arguments: list[str], code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from anglehash.cli.main import main

    def command() -> None:
        main()

    words = [str(readable) if word == "G" else word for word in arguments]
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(sys, "argv", ["anglehash", "remove", "/nowhere", "x"])
    with pytest.raises(SystemExit):
        main()  # imports what is needed
    monkeypatch.setattr(sys, "argv", ["anglehash", "list", str(readable)])
    with pytest.raises(SystemExit):
        main()
    for name in ("verify", "repair"):
        import_module(f"anglehash.gallery.store.{name}")
    monkeypatch.setattr(sys, "argv", ["anglehash", *words])
    ended, output = as_nobody(command)
    assert ended == code, output
    assert "Traceback" not in output
    if code:
        assert f"no permission: {readable}" in output


def test_a_folder_that_may_not_be_read_keeps_its_items(tmp_path: Path) -> None:
    (tmp_path / "p" / "cat").mkdir(parents=True)
    images = list_images(_with_image(tmp_path / "p"))
    ids = ["cat/1.jpg", "dog.png", "gone.png"]
    assert removable(ids, Source("p"), images) == ["cat/1.jpg", "gone.png"]
    unread = images.with_problems([Problem("cat", "unreadable-file", "Permission denied")])
    assert removable(ids, Source("p"), unread) == ["gone.png"]
    nothing = images.with_problems([Problem(".", "unreadable-file", "Input/output error")])
    assert removable(ids, Source("p"), nothing) == []


def _with_image(folder: Path) -> Path:
    Image.new("RGB", (20, 20)).save(folder / "dog.png")
    return folder


def test_what_is_written_is_not_acknowledged_before_it_is_on_disk(
    empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The receipt is synced after the commit, and ``commit`` returns after that."""
    order: list[str] = []
    real = os.fsync

    def fsync(handle: int) -> None:
        order.append("receipt")
        real(handle)

    with open_writer(empty) as writer:
        assert writer.connection.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
        assert writer.connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        monkeypatch.setattr(os, "fsync", fsync)
        writer.commit(Changes([Item("a", b"12")]))
        order.append("returned")
    assert order[:2] == ["receipt", "returned"]
