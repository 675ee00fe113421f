"""One service's part in a folder that several services use: what it owns, and what one of them does at a time.

The system frees the locks of a process that was killed.
"""

from __future__ import annotations

import os
import secrets
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from anglehash.files import hold
from anglehash.server.errors import busy


class SharedFolder:
    """The folder, as one of the services uses it.

    Args:
        folder: it is made when it is needed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.incoming = folder, folder / "incoming"
        self._own: tuple[Path, IO[str]] | None = None
        self._worker: IO[str] | None = None
        self._lock = threading.Lock()

    def receive(self) -> Path:
        """A new folder for the files of one request."""
        self.incoming.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._lock:
            while self._own is None:
                self._own = self._claim(self.incoming / secrets.token_hex(8))
        folder = self._own[0] / secrets.token_hex(8)
        folder.mkdir(mode=0o700)
        return folder

    def clear(self) -> None:
        """Remove what services were receiving that have ended; what others receive stays."""
        for path in self.incoming.glob("*"):
            if path.suffix == ".lock":
                continue
            lock = path.with_name(f"{path.name}.lock")
            if not lock.exists():
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
                continue
            with lock.open("a+") as held:
                if hold(held) is None:
                    shutil.rmtree(path, ignore_errors=True)
                    lock.unlink(missing_ok=True)

    def close(self) -> None:
        """Let others clear and work."""
        if self._own:
            shutil.rmtree(self._own[0], ignore_errors=True)
            self._own[0].with_name(f"{self._own[0].name}.lock").unlink(missing_ok=True)
            self._own[1].close()
        self.rest()

    def work(self) -> bool:
        """Whether this service does the jobs of the folder: one at a time does, until it ends.

        A folder that it may not write to is another's.
        """
        if self._worker is None and self.folder.is_dir() and os.access(self.folder, os.W_OK):
            lock = (self.folder / "jobs.lock").open("a+")
            if hold(lock) is not None:
                lock.close()
                return False
            self._worker = lock
        return self._worker is not None

    def rest(self) -> None:
        """Let another service do the jobs."""
        if self._worker is not None:
            self._worker.close()
            self._worker = None

    @contextmanager
    def in_order(self, seconds: float) -> Iterator[None]:
        """Change the gallery while no other job or removal does: engines have no lock of their own.

        Raises:
            RefusalError: 503, another one takes longer than this.
        """
        if not self.folder.is_dir():
            yield
            return
        deadline = time.monotonic() + seconds
        with (self.folder / "order.lock").open("a+") as lock:
            while hold(lock) is not None:
                if time.monotonic() > deadline:
                    raise busy("images are being added: come again in a moment")
                time.sleep(0.05)
            yield

    def _claim(self, folder: Path) -> tuple[Path, IO[str]] | None:
        lock = folder.with_name(f"{folder.name}.lock").open("a+")
        if hold(lock) is not None or not os.fstat(lock.fileno()).st_nlink:  # another service clears just now
            lock.close()
            return None
        folder.mkdir(mode=0o700)
        return folder, lock
