"""One worker process, both ends of it: :class:`Worker` in the parent, :func:`main` in the child.

The child is a fresh Python that knows nothing of the script that started it, so no script needs an
``if __name__`` guard. They talk through pipes in frames of a kind, a length and a payload: the parent sends
a JOB (a function's name and its settings) and then images; the child answers READY once, and then RESULT,
REFUSED or FAILED to each image. Nothing is ever unpickled.
"""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import IO, Any

from anglehash.errors import ConfigError, ImageError

Function = Callable[..., bytes]

_HEADER = struct.Struct("<cQ")
_JOB, _READY, _IMAGE, _RESULT, _REFUSED, _FAILED = (b"J", b"O", b"I", b"R", b"X", b"F")

# The child sees the modules that the parent sees; -P keeps a json.py of the current folder out before that.
_CHILD = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from anglehash.data.images.worker import main; main()"
)


class _DiedError(Exception):
    """The process ended; the argument is its exit code."""


class Worker:
    """A process that applies a function to one image at a time; started when needed, also after a death.

    Args:
        function: at the top of a module that can be imported; ``function(data, **settings)`` gives bytes
            or raises :class:`ImageError`.
        settings: JSON values.
        timeout: seconds for one image.

    Raises:
        ConfigError: the function cannot be found by its name.
    """

    def __init__(self, function: Function, settings: dict[str, Any], timeout: float) -> None:
        module, name = function.__module__, function.__qualname__
        if module == "__main__" or getattr(sys.modules.get(module), name, None) is not function:
            raise ConfigError(f"{module}.{name} cannot run in workers: only functions of a module can")
        self._name = f"{module}.{name}"
        self._timeout = timeout
        self._job = json.dumps({"function": [module, name], "settings": settings, "timeout": timeout})
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = False
        self._lock = threading.Lock()  # stop() comes from another thread

    def apply(self, data: bytes) -> bytes:
        """The function's result for one image.

        Raises:
            ImageError: the function raised it, or the image took too long or killed its process twice.
            RuntimeError: the function raised something else, or the process does not start.
        """
        for _ in range(2):  # the first death may be the late effect of another image
            try:
                return self._ask(data)
            except _DiedError as death:
                code = death.args[0]
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        raise ImageError("decoder-died", f"decoding ended its process twice ({how})")

    def stop(self) -> None:
        """Kill the process and start no other; a thread in :meth:`apply` comes back."""
        with self._lock:
            self._stopped = True
            if self._process:
                self._process.kill()

    def close(self) -> None:
        """Free what the process held; no thread may be in :meth:`apply`."""
        if self._process:
            _bury(self._process)

    def _ask(self, data: bytes) -> bytes:
        process = self._process or self._start()
        with _CLOCK.limit(process, self._timeout) as late:
            try:
                kind, payload = self._exchange(process, _IMAGE, data)
            except _DiedError:
                if late.is_set():
                    raise ImageError("decoder-timeout", f"not done within {self._timeout:g} s") from None
                raise
        if kind == _REFUSED:
            raise ImageError(*json.loads(payload))
        if kind == _FAILED:
            raise RuntimeError(f"{self._name} failed in a worker:\n{payload.decode()}")
        return payload

    def _start(self) -> subprocess.Popen[bytes]:
        path = json.dumps([entry for entry in sys.path if isinstance(entry, str)])
        with self._lock:
            if self._stopped:
                raise _DiedError(0)
            self._process = process = subprocess.Popen(  # noqa: S603  # ourselves
                [sys.executable, "-P", "-c", _CHILD, path],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,  # Ctrl-C is for the parent alone
            )
        try:
            self._exchange(process, _JOB, self._job.encode())
        except _DiedError as death:
            if self._stopped:
                raise
            raise RuntimeError(f"an image worker does not start (exit code {death.args[0]})") from None
        return process

    def _exchange(self, process: subprocess.Popen[bytes], kind: bytes, payload: bytes) -> tuple[bytes, bytes]:
        """Send one frame and wait for the answer."""
        try:
            _send(_pipe(process.stdin), kind, payload)
            return _receive(_pipe(process.stdout))
        except (EOFError, BrokenPipeError):
            with self._lock:
                self._process = None
            raise _DiedError(_bury(process)) from None


class _Clock:
    """Kills processes that take too long, whatever C code they are in; one thread for all of them."""

    TICK = 0.05  # seconds

    def __init__(self) -> None:
        self._running: dict[int, tuple[float, subprocess.Popen[bytes], threading.Event]] = {}
        self._some = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    @contextmanager
    def limit(self, process: subprocess.Popen[bytes], seconds: float) -> Iterator[threading.Event]:
        """Kill a process if the block takes longer than this; the event says so."""
        with self._lock:
            if self._thread is None or not self._thread.is_alive():  # the first, or we were forked
                self._thread = threading.Thread(target=self._watch, name="anglehash-clock", daemon=True)
                self._thread.start()
        late = threading.Event()
        self._running[id(late)] = time.monotonic() + seconds, process, late
        self._some.set()
        try:
            yield late
        finally:
            self._running.pop(id(late), None)

    def _watch(self) -> None:
        while True:
            self._some.wait()
            self._some.clear()
            while self._running:
                now = time.monotonic()
                for end, process, late in list(self._running.values()):
                    if now >= end:
                        late.set()
                        process.kill()
                time.sleep(self.TICK)


_CLOCK = _Clock()


def _bury(process: subprocess.Popen[bytes]) -> int:
    """End a process, free its pipes and return its exit code."""
    process.kill()
    with suppress(BrokenPipeError):  # by what was not sent yet
        _pipe(process.stdin).close()
    _pipe(process.stdout).close()
    return process.wait()


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None, "the process was started with pipes"
    return stream


def _send(stream: IO[bytes], kind: bytes, payload: bytes = b"") -> None:
    stream.write(_HEADER.pack(kind, len(payload)))
    stream.write(payload)
    stream.flush()


def _receive(stream: IO[bytes]) -> tuple[bytes, bytes]:
    kind, length = _HEADER.unpack(_read(stream, _HEADER.size))
    return kind, _read(stream, length)


def _read(stream: IO[bytes], length: int) -> bytes:
    data = stream.read(length)
    if len(data) < length:
        raise EOFError
    return data


def main() -> None:
    """The life of a worker: do the job for each image that comes in, until the parent closes the pipe."""
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    job = json.loads(_receive(requests)[1])
    module, name = job["function"]
    function = getattr(import_module(module), name)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):  # C libraries print about damaged images
        os.dup2(nowhere, stream)
    _send(answers, _READY)
    with suppress(EOFError):
        while True:
            _, data = _receive(requests)
            _alarm(job["timeout"] + 1)  # the clock is the parent's, unless that was killed
            answer = _answer(function, data, job["settings"])
            _alarm(0)
            _send(answers, *answer)


def _alarm(seconds: float) -> None:
    """End this process after so long, whatever C code it is in, where the system can do that; 0: do not."""
    if hasattr(signal, "setitimer"):
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, seconds)


def _answer(function: Function, data: bytes, settings: dict[str, Any]) -> tuple[bytes, bytes]:
    try:
        result = function(data, **settings)
        if not isinstance(result, bytes):
            raise TypeError(f"a function for workers returns bytes, not {type(result).__name__}")
        return _RESULT, result
    except ImageError as error:
        return _REFUSED, json.dumps([error.reason, error.detail]).encode()
    except Exception:  # a bug: the parent reports it
        return _FAILED, traceback.format_exc().encode(errors="backslashreplace")
