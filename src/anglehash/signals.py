"""Ctrl-C and SIGTERM during long work: they are heard at once and obeyed where nothing is half done."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any, Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopping:
    """While it is open, a first signal is only noted; a second one stops at once, as usual.

    Outside the main thread, where Python lets nobody listen, it does nothing.
    """

    def __init__(self) -> None:
        self._before: dict[int, Any] = {}
        self._asked: int | None = None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in _SIGNALS}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def end_if_asked(self) -> None:
        """Stop here, if a signal has come.

        Raises:
            KeyboardInterrupt: Ctrl-C.
            SystemExit: SIGTERM, with the exit code 143.
        """
        if self._asked == signal.SIGINT:
            raise KeyboardInterrupt
        if self._asked is not None:
            raise SystemExit(128 + self._asked)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._asked is not None:
            self.end_if_asked()
        self._asked = number
