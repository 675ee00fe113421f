"""What a folder may hold: names of every kind, links in circles, pipes, vanished and damaged files; and signals."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from anglehash.cli.main import cli
from anglehash.gallery.build import Images, add, build, sync
from anglehash.gallery.gallery import Gallery
from anglehash.gallery.store.verify import verify
from anglehash.models.model import Model

NAMES = [
    b"plain.png",
    b"caf\xe9.png",  # Latin-1: no UTF-8
    "caf\u00e9.png".encode(),  # é as one character
    unicodedata.normalize("NFD", "caf\u00e9.png").encode(),  # é as two: another file
    "🦊.png".encode(),
    b"new\nline\t.png",
    b"quote\"'$(x);&.png",
    b"<img onerror=alert(1)>.png",
    b"-rf.png",
    b"x" * 251 + b".png",  # 255 bytes, the longest there is
    b"\xff\xfe.png",
    "\u202egnp.exe.png".encode(),  # written from right to left
    b" leading and trailing .png",
    b"%2e%2e%2f.png",
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for c in "ab":
        (folder / "photos" / c).mkdir(parents=True)
        for i in range(6):
            write_image(folder / "photos" / c / f"{i}.png", 10 * ord(c) + i)
    arguments = ["train", str(folder / "photos"), "-o", str(folder / "m"), "--bits", "16"]
    assert (
        cli.main(
            [*arguments, "--backbone", "tiny", "--image-size", "12", "--epochs", "1"], standalone_mode=False
        )
        == 0
    )
    return folder / "m"


def write_image(path: Path, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (14, 12, 3), dtype=np.uint8)
    with path.open("wb") as file:
        Image.fromarray(pixels).save(file, format="PNG")


def codes(path: Path) -> dict[bytes, bytes]:
    with Gallery.open(path) as gallery:
        return {os.fsencode(name): bytes(code) for name, code in zip(gallery.ids, gallery.codes, strict=True)}


def right(model: Path, folder: Path, names: list[bytes]) -> dict[bytes, bytes]:
    from anglehash.data.dataset import Encoded

    loaded = Model.load(model)
    blobs = {name: (folder / os.fsdecode(name)).read_bytes() for name in names}
    return {name: loaded.encode(Encoded([blob])).codes.tobytes() for name, blob in blobs.items()}


@pytest.fixture
def odd(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "photos"
    (folder / "deep" / "er").mkdir(parents=True)
    for seed, name in enumerate(NAMES):
        write_image(folder / os.fsdecode(name), seed)
    write_image(folder / "deep" / "er" / "1.png", 100)
    yield folder
    shutil.rmtree(folder)


def test_names_come_back_byte_for_byte(model: Path, odd: Path, tmp_path: Path) -> None:
    build(model, Images(data=str(odd)), tmp_path / "g")
    expected = right(model, odd, [*NAMES, b"deep/er/1.png"])
    assert codes(tmp_path / "g") == expected
    moved = os.fsdecode(b"deep/m\xf6ved.png")
    (odd / os.fsdecode(NAMES[1])).rename(odd / moved)
    (odd / os.fsdecode(NAMES[4])).unlink()
    done = sync(tmp_path / "g", Images(data=str(odd)))
    assert (done.renamed, done.removed, done.unchanged, done.added) == (1, 1, len(NAMES) - 1, 0)
    code = expected.pop(NAMES[1])
    del expected[NAMES[4]]
    assert codes(tmp_path / "g") == {**expected, os.fsencode(moved): code}
    assert verify(tmp_path / "g") == []


def test_the_command_line_takes_and_shows_any_name(model: Path, odd: Path, tmp_path: Path) -> None:
    build(model, Images(data=str(odd)), tmp_path / "g")
    run = [sys.executable, "-m", "anglehash"]
    listed = subprocess.run([*run, "list", str(tmp_path / "g")], capture_output=True, check=True).stdout
    assert b"\x1b" not in listed
    assert listed.count(b"\n") == 1 + len(NAMES) + 1  # a header, and a line for each
    command = [
        *map(os.fsencode, run),
        b"remove",
        os.fsencode(tmp_path / "g"),
        b"--",
        NAMES[1],
        NAMES[8],
        NAMES[5],
    ]
    subprocess.run(command, capture_output=True, check=True)
    assert codes(tmp_path / "g").keys() == {*NAMES, b"deep/er/1.png"} - {NAMES[1], NAMES[8], NAMES[5]}


def test_what_is_not_a_file_is_reported_and_never_opened(model: Path, odd: Path, tmp_path: Path) -> None:
    build(model, Images(data=str(odd)), tmp_path / "g")
    os.mkfifo(odd / "pipe.png")
    (odd / "circle").symlink_to(odd)
    (odd / "a.png").symlink_to("b.png")
    (odd / "b.png").symlink_to("a.png")
    (odd / "zero.png").symlink_to("/dev/zero")
    (odd / "gone.png").symlink_to("nowhere.png")
    listening = socket.socket(socket.AF_UNIX)
    here = os.getcwd()
    os.chdir(odd)  # a socket's name is short
    listening.bind("socket.png")
    os.chdir(here)
    done = sync(tmp_path / "g", Images(data=str(odd)))
    listening.close()
    reasons = {problem.id: problem.reason for problem in done.problems}
    assert reasons == {
        "pipe.png": "not-a-file",
        "circle": "link-loop",
        "a.png": "link-loop",
        "b.png": "link-loop",
        "zero.png": "not-a-file",
        "gone.png": "unreadable-file",
        "socket.png": "not-a-file",
    }
    assert (done.unchanged, done.removed) == (len(NAMES) + 1, 0)
    assert {name for name, _, _ in Gallery.open(tmp_path / "g").problems} == reasons.keys()


def test_a_file_that_fails_shifts_no_neighbour(model: Path, odd: Path, tmp_path: Path) -> None:
    for place, name in enumerate(["0.png", "m.png", "zz.png"]):
        whole = odd / os.fsdecode(NAMES[0])
        (odd / name).write_bytes(whole.read_bytes()[: 60 + place])
    done = build(model, Images(data=str(odd)), tmp_path / "g")
    assert sorted(problem.id for problem in done.problems) == ["0.png", "m.png", "zz.png"]
    assert codes(tmp_path / "g") == right(model, odd, [*NAMES, b"deep/er/1.png"])


def test_a_file_that_vanishes_or_changes_while_it_is_read(
    model: Path, odd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = Model.encode

    def meddle(self: Model, images: Any, **options: Any) -> Any:
        (odd / os.fsdecode(NAMES[0])).unlink(missing_ok=True)
        write_image(odd / os.fsdecode(NAMES[4]), 4000)
        return encode(self, images, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Model, "encode", meddle)
        done = build(model, Images(data=str(odd)), tmp_path / "g")
    assert {problem.reason for problem in done.problems} == {"unreadable-file"}
    names = [name for name in [*NAMES, b"deep/er/1.png"] if name not in (NAMES[0], NAMES[4])]
    assert codes(tmp_path / "g") == right(model, odd, names)
    assert add(tmp_path / "g", Images(data=str(odd))).added == 1  # the changed one, as it is now
    assert codes(tmp_path / "g") == right(model, odd, [*names, NAMES[4]])


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_after_the_batch_and_the_next_call_goes_on(
    model: Path, tmp_path: Path, number: int, code: int
) -> None:
    photos, out = tmp_path / "many", tmp_path / "g"
    photos.mkdir()
    for i in range(2500):
        write_image(photos / f"{i:04d}.png", i)
    command = [sys.executable, "-m", "anglehash", "index", str(model), str(photos), "-o", str(out)]
    heard = signal.signal(signal.SIGINT, signal.default_int_handler)  # tests in the background may ignore it
    try:
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    finally:
        signal.signal(signal.SIGINT, heard)
    work = tmp_path / "g.indexing"
    while process.poll() is None and not _generation(work):
        time.sleep(0.01)
    process.send_signal(number)
    _, said = process.communicate(timeout=120)
    if process.returncode == 0:
        pytest.skip("it was done before the signal came")
    assert process.returncode == code, said
    assert "Traceback" not in said
    assert not out.exists()
    with Gallery.open(work) as unfinished:
        done = len(unfinished)
    assert 0 < done < 2500
    again = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True)
    assert f'"unchanged": {done}, ' in again.stdout
    assert len(codes(out)) == 2500
    assert verify(out) == []


def _generation(work: Path) -> int:
    try:
        return int.from_bytes((work / "1" / "receipt").read_bytes()[:8], "little")
    except OSError:
        return 0
