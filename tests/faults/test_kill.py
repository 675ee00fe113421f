"""kill -9, at any moment and between any two steps: what was acknowledged is there, and nothing by halves."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from anglehash.gallery.gallery import Gallery
from anglehash.gallery.store import writer as writing
from anglehash.gallery.store.layout import read_receipt
from anglehash.gallery.store.opening import open_writer
from anglehash.gallery.store.verify import verify


def write_for_ever(path: Path, script: Any, first: int, pipe: Any) -> None:
    """Commits one after the other; each number is reported once it has returned. Segments are written often."""
    writing.TAIL, writing.LONG_TAIL = 8, 64
    number = first
    while True:
        with open_writer(path) as writer:
            for _ in range(5):
                writer.commit(script.commit(number))
                pipe.write(f"{number}\n")
                pipe.flush()
                number += 1


def test_kill_at_any_moment(
    empty: Path, script: Any, held: Callable[[Path], dict[str, bytes]], forked: Any, trials: Any
) -> None:
    story, known = script(1), 0
    rng = random.Random(0)
    for _ in trials(25, 1000):
        if known > 60:  # a new one, lest the story grow too long
            story, known = script(rng.randrange(10**9)), 0
            with open_writer(empty) as writer:
                writer.commit(writing.Changes(remove=writer.ids()))
        pid, pipe = forked(lambda out, at=known + 1, story=story: write_for_ever(empty, story, at, out))
        time.sleep(rng.uniform(0.0, 0.12))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        reported = [int(line) for line in pipe.read().splitlines()]
        pipe.close()
        acknowledged = reported[-1] if reported else known
        found = held(empty)
        # one more may be on disk: killed after the commit and before it was reported
        assert found in (story.after(acknowledged), story.after(acknowledged + 1))
        known = acknowledged if found == story.after(acknowledged) else acknowledged + 1
        assert verify(empty) == []


STEPS = ("os.replace", "os.fsync", "os.write", "os.unlink", "os.rename")


def die_at(step: int, patch: pytest.MonkeyPatch) -> list[str]:
    """Let the process die, without any cleaning up, before the call of this number that touches the disk."""
    calls: list[str] = []
    for name in STEPS:
        real = getattr(os, name.removeprefix("os."))

        def watched(*args: Any, name: str = name, real: Any = real, **options: Any) -> Any:
            calls.append(name)
            if len(calls) == step:
                os._exit(42)
            return real(*args, **options)

        patch.setattr(name, watched)
    return calls


@pytest.mark.parametrize("crowded", [False, True], ids=["merge", "purge"])
def test_kill_before_each_step_of_a_swap(
    tmp_path: Path, empty: Path, script: Any, held: Any, forked: Any, crowded: bool
) -> None:
    """Segments are merged, the manifest is swapped, old segments go and, where it is crowded, dead rows too."""
    story = script(3)
    with pytest.MonkeyPatch.context() as patch, open_writer(empty) as writer:
        patch.setattr(writing, "TAIL", 4)
        for number in range(1, 20):
            writer.commit(story.commit(number))
            writer.publish(empty)
    if crowded:
        with open_writer(empty) as writer:
            names = sorted(story.after(19))
            writer.commit(writing.Changes(remove=names[: len(names) // 2]))
    before = held(empty)
    step = 0
    while True:
        step += 1
        copy = tmp_path / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(empty, copy)

        def swap(pipe: Any, step: int = step, copy: Path = copy) -> None:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(writing, "TAIL", 0)
                with open_writer(copy) as writer:
                    writer.commit(story.commit(20) if not crowded else writing.Changes())
                    die_at(step, patch)
                    writer.publish(copy)
                    pipe.write("done")

        pid, pipe = forked(swap)
        ended = pipe.read()
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert code == (0 if ended else 42)
        expected = before if crowded else story.after(20)
        reader = Gallery.open(copy)
        assert {stored.item.id: stored.item.code for stored in reader} == expected
        with open_writer(copy):  # the next writer tidies up
            pass
        assert held(copy) == expected
        assert verify(copy) == []
        assert not list(copy.rglob("*.tmp"))
        named = {segment["name"] for segment in read_receipt(copy)[1].segments}
        assert {p.name for p in (copy / "1" / "codes").iterdir()} == named
        if ended:
            break
    assert step > 5
