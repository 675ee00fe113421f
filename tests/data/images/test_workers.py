from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from anglehash.data.dataset import Arrays, Encoded
from anglehash.data.images.decoding import TRUNCATED, Preprocessing
from anglehash.data.images.worker import Function
from anglehash.data.images.workers import AHEAD, FEW, default_workers, map_images, prepare
from anglehash.errors import ConfigError, ImageError

FAULTY = '''
import os, signal, sys, time
from pathlib import Path
from anglehash.errors import ImageError


def act(data, folder="."):
    """Do what the image says."""
    word = data.decode().split()[0]
    if word == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if word == "exit":
        os._exit(7)
    if word == "hang":
        time.sleep(60)
    if word == "once" and not (Path(folder) / "dead").exists():
        (Path(folder) / "dead").touch()
        os._exit(7)
    if word == "refuse":
        raise ImageError("damaged", "as reported")
    if word == "fail":
        raise ZeroDivisionError("a bug")
    if word == "number":
        return 7
    if word == "print":
        print("on standard output"), os.write(1, b"and"), os.write(2, b"on standard error")
    if word == "pid":
        return str(os.getpid()).encode()
    return data.upper()
'''


@pytest.fixture
def act(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Function]:
    """A function that does what the image says; its module exists only in this test's folder."""
    (tmp_path / "faulty.py").write_text(FAULTY)
    monkeypatch.syspath_prepend(tmp_path)
    import faulty  # type: ignore[import-not-found]

    yield faulty.act
    del sys.modules["faulty"]


@dataclass
class Words:
    """Images that are words; remembers which were read."""

    words: list[str]
    read_rows: list[int] = field(default_factory=list)  # noted by read()

    def __len__(self) -> int:
        return len(self.words)

    def read(self, row: int) -> bytes:
        self.read_rows.append(row)
        if self.words[row] == "absent":
            raise ImageError("unreadable-file", "it vanished")
        if self.words[row] == "slow":
            time.sleep(0.6)
        return f"{self.words[row]} {row}".encode()


def words(count: int = FEW, **special: str) -> Words:
    """``count`` harmless words, but for some: ``r5="die"``."""
    return Words([special.get(f"r{row}", "fine") for row in range(count)])


def results(images: Words, function: Function, **options: Any) -> dict[int, bytes | str]:
    """What each row gave: bytes, or the reason of the error. Also checks the order."""
    pairs = list(map_images(images, range(len(images)), function, **options))
    assert [row for row, _ in pairs] == list(range(len(images)))
    return {row: r.reason if isinstance(r, ImageError) else r for row, r in pairs}


def others_are_fine(found: dict[int, bytes | str]) -> bool:
    return all(r == f"FINE {row}".encode() for row, r in found.items() if isinstance(r, bytes))


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False


def ends_within(seconds: float, pid: int) -> bool:
    deadline = time.monotonic() + seconds
    while is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not is_running(pid)


# --- faults ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2])
def test_faulty_images_cost_themselves_alone(act: Function, workers: int) -> None:
    images = words(40, r0="die", r7="hang", r8="exit", r20="refuse", r21="absent", r39="die")
    found = results(images, act, workers=workers, timeout=0.5)
    assert others_are_fine(found)
    assert {row: r for row, r in found.items() if isinstance(r, str)} == {
        0: "decoder-died",
        7: "decoder-timeout",
        8: "decoder-died",
        20: "damaged",
        21: "unreadable-file",
        39: "decoder-died",
    }


def test_the_details_say_what_happened(act: Function) -> None:
    found = dict(map_images(words(r1="die", r2="exit", r3="hang"), range(FEW), act, timeout=0.5, workers=1))
    assert [str(found[row]) for row in (1, 2, 3)] == [
        "decoder-died: decoding ended its process twice (signal 9)",
        "decoder-died: decoding ended its process twice (exit code 7)",
        "decoder-timeout: not done within 0.5 s",
    ]


def test_the_time_limit_holds_for_the_decoder_and_not_for_the_disk(act: Function) -> None:
    assert results(words(r5="slow"), act, workers=1, timeout=0.3)[5] == b"SLOW 5"


def test_the_time_limit_holds_in_a_program_that_ignores_alarms(act: Function) -> None:
    before = signal.signal(signal.SIGALRM, signal.SIG_IGN)
    try:
        assert results(words(r5="hang"), act, workers=1, timeout=0.3)[5] == "decoder-timeout"
    finally:
        signal.signal(signal.SIGALRM, before)


def test_errors_do_not_hold_on_to_the_image(act: Function) -> None:
    for workers in (0, 1):
        error = dict(map_images(words(r5="refuse"), range(FEW), act, workers=workers))[5]
        assert isinstance(error, ImageError)
        assert error.__traceback__ is None
        assert error.__context__ is None


def test_an_image_is_believed_guilty_only_the_second_time(act: Function, tmp_path: Path) -> None:
    found = results(words(r5="once"), act, settings={"folder": str(tmp_path)}, workers=1)
    assert found[5] == b"ONCE 5"
    assert (tmp_path / "dead").exists()


def test_a_bug_in_the_function_is_reported_as_one(act: Function) -> None:
    with pytest.raises(RuntimeError, match=r"(?s)faulty.act failed in a worker.*ZeroDivisionError: a bug"):
        results(words(r5="fail"), act, workers=1)
    with pytest.raises(RuntimeError, match="returns bytes, not int"):
        results(words(r5="number"), act, workers=1)


def test_what_a_decoder_prints_goes_nowhere(act: Function, capfd: pytest.CaptureFixture[str]) -> None:
    assert results(words(r5="print"), act, workers=1)[5] == b"PRINT 5"
    assert capfd.readouterr() == ("", "")


def test_a_worker_that_cannot_start_is_an_error(act: Function, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(RuntimeError, match=r"does not start \(exit code 1\)"):
        results(words(), act, workers=1)


# --- who works where -------------------------------------------------------------------------------------


def test_many_encoded_images_are_done_elsewhere_and_few_here(act: Function) -> None:
    many, few = words(FEW, r3="pid"), words(FEW - 1, r3="pid")
    assert results(many, act, workers=1)[3] != str(os.getpid()).encode()
    assert results(few, act, workers=1)[3] == str(os.getpid()).encode()
    assert results(many, act, workers=0)[3] == str(os.getpid()).encode()
    assert results(words(0), act) == {}


def test_pixels_are_done_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "Popen", None)  # no process can be started
    pixels = np.random.default_rng(0).integers(0, 256, (70, 8, 8, 3), dtype=np.uint8)
    parts = list(prepare(Arrays(pixels), range(70), Preprocessing(size=8), workers=2))
    assert [len(part.rows) for part in parts] == [64, 6]
    np.testing.assert_array_equal(np.concatenate([part.pixels for part in parts]), pixels)


@pytest.mark.parametrize("workers", [-1, 1])
def test_what_cannot_be_done_is_refused(workers: int) -> None:
    def local(data: bytes) -> bytes:
        return data

    with pytest.raises(ConfigError, match="workers"):
        results(words(), local, workers=workers)


def test_default_workers_leave_a_core_to_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = []
    for cores in (None, 1, 2, 4, 64):
        monkeypatch.setattr(os, "cpu_count", lambda cores=cores: cores)
        counts.append(default_workers())
    assert counts == [1, 1, 1, 3, 8]


# --- memory, interruption and the end --------------------------------------------------------------------


def test_no_more_images_are_read_than_can_be_held(act: Function) -> None:
    images = words(3 * AHEAD)
    run = map_images(images, range(len(images)), act, workers=2)
    next(run)
    time.sleep(0.5)
    assert len(images.read_rows) <= AHEAD
    run.close()


@pytest.mark.parametrize("ending", ["close", "interrupt"])
def test_workers_end_with_the_run(act: Function, ending: str) -> None:
    images = words(2 * AHEAD, r0="pid", r1="hang")
    run = map_images(images, range(len(images)), act, workers=1)
    pid = int(bytes(next(run)[1]))  # type: ignore[arg-type]
    assert is_running(pid)
    assert os.getpgid(pid) != os.getpgid(0)  # Ctrl-C goes to a whole group
    started = time.monotonic()
    if ending == "close":
        run.close()
    else:
        with pytest.raises(KeyboardInterrupt):
            run.throw(KeyboardInterrupt)
    assert not is_running(pid)
    assert time.monotonic() - started < 5


def script(folder: Path, lines: str) -> subprocess.Popen[str]:
    """A user's script without a guard around what it does, beside a file that no worker may import."""
    folder.mkdir()
    (folder / "script.py").write_text(lines)
    (folder / "json.py").write_text("raise SystemExit('imported from the current folder')")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-P", "script.py"]
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True)


SCRIPT = """
from anglehash.data.images.workers import map_images
import faulty
print("started", flush=True)

class Images:
    def read(self, row): return b"pid" if row == 0 else b"hang"

run = map_images(Images(), range(40), faulty.act, workers=1, timeout=TIMEOUT)
for row, result in run:
    print(result.decode() if row == 0 else result.reason, flush=True)
    if row == LAST: raise SystemExit(5)
"""


@pytest.mark.usefixtures("act")
def test_a_script_needs_no_guard(tmp_path: Path) -> None:
    with script(tmp_path / "user", SCRIPT.replace("TIMEOUT", "0.3").replace("LAST", "2")) as process:
        lines = process.communicate(timeout=20)[0].split()
    assert lines[0] == "started"
    assert lines[2:] == ["decoder-timeout", "decoder-timeout"]
    assert process.returncode == 5
    assert ends_within(2, int(lines[1]))


@pytest.mark.usefixtures("act")
def test_a_script_can_end_while_an_image_hangs(tmp_path: Path) -> None:
    with script(tmp_path / "user", SCRIPT.replace("TIMEOUT", "9").replace("LAST", "0")) as process:
        started, pid = process.communicate(timeout=5)[0].split()
    assert (started, process.returncode) == ("started", 5)
    os.kill(int(pid), signal.SIGKILL)  # else it would end by itself after 9 seconds


@pytest.mark.usefixtures("act")
def test_workers_of_a_killed_parent_end_by_themselves(tmp_path: Path) -> None:
    with script(tmp_path / "user", SCRIPT.replace("TIMEOUT", "1.5").replace("LAST", "2")) as process:
        assert process.stdout
        assert process.stdout.readline() == "started\n"
        pid = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
    assert is_running(pid)  # it hangs, and nobody is left to end it
    assert ends_within(10, pid)


# --- prepare ---------------------------------------------------------------------------------------------


def jpeg(value: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30), (value, 2 * value, 255 - value)).save(buffer, "JPEG")
    return buffer.getvalue()


def prepared(
    blobs: list[bytes], rows: NDArray[np.int64], preprocess: Preprocessing, workers: int
) -> list[tuple[Any, ...]]:
    parts = prepare(Encoded(blobs), rows, preprocess, batch=10, workers=workers)
    return [(p.rows.tolist(), p.pixels.tobytes(), p.problems, p.notes) for p in parts]


def test_prepared_images_are_those_of_preprocessing_one_by_one() -> None:
    blobs = [jpeg(3 * i) for i in range(40)]
    blobs[4], blobs[9], blobs[17] = b"", b"text", blobs[17][:-2]
    rows = np.random.default_rng(0).permutation(40)
    preprocess = Preprocessing(size=16, allow_truncated=True)
    parts = list(prepare(Encoded(blobs), rows, preprocess, batch=10, workers=1))
    kept = [int(row) for row in rows if row not in (4, 9)]
    assert np.concatenate([part.rows for part in parts]).tolist() == kept
    pixels = np.concatenate([part.pixels for part in parts])
    np.testing.assert_array_equal(pixels, np.stack([preprocess(blobs[row]) for row in kept]))
    assert sorted((row, reason) for part in parts for row, reason, _ in part.problems) == [
        (4, "empty"),
        (9, "not-an-image"),
    ]
    assert [note for part in parts for note in part.notes] == [(17, TRUNCATED)]
    assert [len(part.rows) + len(part.problems) for part in parts] == [10, 10, 10, 10]
    assert parts[0].pixels.flags.writeable  # torch warns otherwise
    assert prepared(blobs, rows, preprocess, workers=1) == prepared(blobs, rows, preprocess, workers=0)


def test_a_batch_without_a_good_image_is_still_reported() -> None:
    (part,) = prepare(Encoded([b"text"] * 3), [0, 1, 2], Preprocessing(size=16))
    assert part.pixels.shape == (0, 16, 16, 3)
    assert part.rows.dtype == np.int64
    assert len(part.problems) == 3


def test_real_images_are_prepared_alike_in_workers_and_here(real_images: Path) -> None:
    import pyarrow.parquet as pq

    column = pq.ParquetFile(real_images / "coco" / "coco256.parquet")
    blobs = next(column.iter_batches(batch_size=FEW, columns=["image"])).column("image").to_pylist()
    rows = np.arange(FEW)
    preprocess = Preprocessing(size=128)
    assert prepared(blobs, rows, preprocess, workers=1) == prepared(blobs, rows, preprocess, workers=0)
