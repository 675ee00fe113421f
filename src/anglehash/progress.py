"""Progress of long work, by tqdm on standard error: rate, time left, what was skipped."""

from __future__ import annotations

import sys
from collections.abc import Callable
from threading import RLock
from typing import Any, TextIO

Progress = Callable[[str, int, int, str], None]
"""``progress(stage, done, total, note)``: how far a named stage has come."""

_FORMAT = "{desc} {n_fmt}/{total_fmt}, {rate_fmt}, {elapsed} < {remaining}{postfix}"


def silent(stage: str, done: int, total: int, note: str = "") -> None:
    """A :data:`Progress` that says nothing."""


def in_notebook() -> bool:
    """Whether this runs in a Jupyter kernel.

    >>> in_notebook()
    False
    """
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return shell is not None and "IPKernelApp" in getattr(shell, "config", {})


def usual() -> Progress:
    """What a call from Python reports to by default: a bar in a notebook, nobody elsewhere."""
    return Console() if in_notebook() else silent


class Console:
    """A :data:`Progress` for people: a bar on a terminal or in a notebook, a line every few seconds elsewhere."""

    def __init__(self, stream: TextIO | None = None, *, every: float = 5.0) -> None:
        self._stream = stream or sys.stderr
        self._lines = not (self._stream.isatty() or in_notebook())
        self._every = every if self._lines else 0.1
        self._bar: Any = None
        self._stage = ""

    def __call__(self, stage: str, done: int, total: int, note: str = "") -> None:
        """Show the state of a stage; a new name or a step back starts a new stage."""
        if stage != self._stage or done < self._bar.n:
            self._end()
            self._stage, self._bar = stage, self._begin(stage, done, total)
        self._bar.set_postfix_str(note, refresh=False)
        self._bar.update(done - self._bar.n)
        if done >= total:
            self._end()

    def _begin(self, stage: str, done: int, total: int) -> Any:
        from tqdm.auto import tqdm

        kind = _lines_of(tqdm) if self._lines else tqdm
        kind.monitor_interval = 0  # no thread of its own
        kind.set_lock(RLock())  # the default one takes a semaphore, which a killed process leaves behind
        form = {} if in_notebook() else {"bar_format": _FORMAT, "file": self._stream}
        return kind(desc=stage, initial=done, total=total, mininterval=self._every, delay=1e-9, **form)

    def _end(self) -> None:
        if self._bar is not None:
            self._bar.refresh()
            self._bar.disable = self._lines  # a line is complete; a bar ends its own
            self._bar.close()
        self._bar, self._stage = None, ""


def _lines_of(bar: Any) -> Any:
    """The class of bars ``bar`` with a line of its own for each state, where a log keeps what is written."""

    class Lines(bar):  # type: ignore[misc]
        @staticmethod
        def status_printer(file: TextIO) -> Callable[[str], None]:
            def show(text: str) -> None:
                file.write(f"{text}\n")
                file.flush()

            return show

    return Lines
