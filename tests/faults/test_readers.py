"""One writer and many readers at once: every answer is that of one whole generation."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anglehash.errors import ModelError
from anglehash.gallery.gallery import Gallery
from anglehash.gallery.store import writer as writing
from anglehash.gallery.store.opening import open_writer
from anglehash.gallery.store.verify import verify


def write(path: Path, story: Any, end: float) -> None:
    """Commits, segments, merges and purges without a pause; commit n makes generation n + the number of purges."""
    writing.TAIL, writing.LONG_TAIL = 16, 64
    number = 0
    while time.monotonic() < end:
        with open_writer(path, lock_timeout=60) as writer:
            for _ in range(10):
                number += 1
                writer.commit(story.commit(number))


def read(path: Path, story: Any, end: float, reopen: bool) -> int:
    """Look again and again; what is seen must be what some commit left, and never an older one than before."""
    reader, last, answers = Gallery.open(path), 0, 0
    while time.monotonic() < end:
        if reopen:
            reader.close()
            reader = Gallery.open(path)
        else:
            reader.refresh()
        held = {stored.item.id: stored.item.code for stored in reader} if reopen else None
        last, after = commit_of(reader, story, last, held)
        if after:
            name, code = next(iter(after.items()))
            hits = reader.search(np.frombuffer(code, np.uint8)[None], radius=0)[0]
            # a purge in between makes the search answer from a newer generation, where the item may be gone
            number, answered = commit_of(reader, story, last, None)
            assert len(hits) == list(answered.values()).count(code)
            assert not reopen or number != last or name in [hit.id for hit in hits]
            last = number
        answers += 1
    return answers


def commit_of(
    reader: Gallery, story: Any, first: int, held: dict[str, bytes] | None
) -> tuple[int, dict[str, bytes]]:
    """The commit that left what a reader sees, not before ``first``: they are numbered by what they left, in order."""
    codes = sorted(codes_of(reader.codes.tobytes()))
    for number in range(first, first + 2000):
        after = story.after(number)
        if (held is None or held == after) and codes == sorted(after.values()):
            return number, after
    raise AssertionError("this is not a generation")


def codes_of(data: bytes) -> list[bytes]:
    return [data[i : i + 2] for i in range(0, len(data), 2)]


@pytest.mark.parametrize("reopen", [False, True], ids=["refresh", "reopen"])
def test_a_writer_and_many_readers(empty: Path, script: Any, forked: Any, trials: Any, reopen: bool) -> None:
    readers, seconds = (32, 60) if len(trials(0, 1)) else (3, 2)
    end = time.monotonic() + seconds

    def writing_child(pipe: Any) -> None:
        write(empty, script(9), end)

    def reading_child(pipe: Any) -> None:
        pipe.write(str(read(empty, script(9), end, reopen)))

    children = [forked(writing_child), *(forked(reading_child) for _ in range(readers))]
    reported = [pipe.read() for _, pipe in children]
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid, _ in children]
    assert codes == [0] * (readers + 1)
    assert all(int(answers) > 0 for answers in reported[1:])
    print(f"{readers} readers, {seconds} s, {sum(map(int, reported[1:]))} answers")
    assert verify(empty) == []


def test_two_writers_at_once(empty: Path, script: Any, forked: Any, held: Any) -> None:
    def child(seed: int) -> Any:
        def work(pipe: Any) -> None:
            for number in range(1, 15):
                with open_writer(empty, lock_timeout=60) as writer:
                    writer.commit(script(seed).commit(number))

        return work

    pids = [forked(child(seed))[0] for seed in (1, 2)]
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids] == [0, 0]
    assert held(empty) == script(1).after(14) | script(2).after(14)
    assert verify(empty) == []


def test_a_dead_writers_lock_is_not_a_lock(empty: Path, script: Any, forked: Any, held: Any) -> None:
    def die(pipe: Any) -> None:
        with open_writer(empty):
            os._exit(9)

    pid, _ = forked(die)
    os.waitpid(pid, 0)
    (empty / "1" / "lock").write_text(str(os.getppid()))  # a number that somebody else has by now
    with open_writer(empty, lock_timeout=0) as writer:
        writer.commit(script(1).commit(1))
    assert held(empty) == script(1).after(1)


def test_leftovers_of_a_crash_are_no_obstacle(empty: Path, script: Any, held: Any) -> None:
    with open_writer(empty) as writer:
        writer.commit(script(1).commit(1))
    leftovers = [
        empty / ".manifest.json.x.tmp",
        empty / "1" / "codes" / ".s.x.tmp",
        empty / "1" / ".receipt.x.tmp",
    ]
    for path in leftovers:
        path.write_bytes(b"half")
    (empty / "0").mkdir()
    assert held(empty) == script(1).after(1)
    with open_writer(empty):
        pass
    assert not any(path.exists() for path in (*leftovers, empty / "0"))
    assert held(empty) == script(1).after(1)


def test_a_moved_gallery_and_another_working_directory(
    empty: Path, script: Any, held: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_writer(empty) as writer:
        writer.commit(script(1).commit(1))
    place = empty.parent / os.fsdecode(b"caf\xe9 ?#%20") / "x"
    place.mkdir(parents=True)
    empty.rename(place / "g")
    monkeypatch.chdir(place)
    assert held(Path("g")) == script(1).after(1)
    with open_writer(Path("g")) as writer:
        writer.commit(script(1).commit(2))
    monkeypatch.chdir("/")
    assert held(place / "g") == script(1).after(2)
    with pytest.raises(ModelError, match="no folder"):
        Gallery.open(empty)
