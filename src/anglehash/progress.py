"""Progress of long work, on standard error: rate, time left, what was skipped."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TextIO

Report = Callable[[str, int, int, str], None]
"""``report(stage, done, total, note)``: how far a named stage has come."""


def silent(stage: str, done: int, total: int, note: str = "") -> None:
    """A :data:`Report` that says nothing."""


class Console:
    """A :data:`Report` for people: one moving line on a terminal, a line every few seconds elsewhere."""

    def __init__(self, stream: TextIO | None = None, *, every: float = 5.0) -> None:
        self._stream = stream or sys.stderr
        self._moving = self._stream.isatty()
        self._every = 0.1 if self._moving else every
        self._stage = ""
        self._started = self._last = 0.0
        self._first = 0

    def __call__(self, stage: str, done: int, total: int, note: str = "") -> None:
        """Show the state of a stage; a new name or a step back starts a new stage."""
        now = time.monotonic()
        if stage != self._stage:
            self._stage, self._started, self._last, self._first = stage, now, now, done
            if done < total:
                return
        if now - self._last < self._every and done < total:
            return
        self._last = now
        line = progress_line(stage, done, total, now - self._started, first=self._first, note=note)
        finished = done >= total
        if self._moving:
            self._stream.write(f"\r\x1b[2K{line}" + ("\n" if finished else ""))
        else:
            self._stream.write(line + "\n")
        self._stream.flush()
        if finished:
            self._stage = ""


def progress_line(
    stage: str, done: int, total: int, seconds: float, *, first: int = 0, note: str = ""
) -> str:
    """One line of progress.

    >>> progress_line("features", 250, 1000, 10.0)
    'features 250/1000, 25.0/s, 30 s left'
    >>> progress_line("features", 1000, 1000, 10.0, note="2 skipped")
    'features 1000/1000, 100.0/s, 10 s, 2 skipped'
    """
    parts = [f"{stage} {done}/{total}"]
    if seconds > 0 and done > first:
        rate = (done - first) / seconds
        parts.append(f"{rate:.1f}/s")
        parts.append(f"{(total - done) / rate:.0f} s left" if done < total else f"{seconds:.0f} s")
    if note:
        parts.append(note)
    return ", ".join(parts)
