"""Decoding in worker processes: in order, beside the caller's own work, and safe from what kills a decoder.

An image that hangs costs its time limit, one that kills its process twice is given up; either is refused
like any other bad image, and the next one gets a new process. Workers whose parent was killed end by
themselves.
"""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future
from contextlib import closing
from itertools import islice
from queue import SimpleQueue
from threading import Event, Thread
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from anglehash.data.dataset import ImageStore
from anglehash.data.images.decoding import Pixels, Preprocessing
from anglehash.data.images.worker import Function, Worker
from anglehash.errors import ConfigError, ImageError

Rows = Sequence[int] | NDArray[np.integer[Any]]

FEW = 32
"""Fewer images than this are done in the caller's process: starting another takes longer."""

AHEAD = 256
"""Images that are being worked on, or whose results wait to be taken."""

TIMEOUT = 30.0
"""Seconds that a worker may take for one image."""


def default_workers() -> int:
    """One worker for each core but the caller's, 1 to 8: more only wait for memory and disk."""
    return max(1, min(8, (os.cpu_count() or 1) - 1))


class Prepared(NamedTuple):
    """Some consecutive rows, ready for a network.

    Attributes:
        rows: ``(m,)`` those that could be read, in the order asked for.
        pixels: ``(m, size, size, 3)`` ``uint8``.
        problems: ``(row, reason, detail)`` of the others.
        notes: ``(row, note)`` of what was wrong with images but passed over.
    """

    rows: NDArray[np.int64]
    pixels: Pixels
    problems: list[tuple[int, str, str]]
    notes: list[tuple[int, str]]


def prepare(
    images: ImageStore,
    rows: Rows,
    preprocessing: Preprocessing,
    *,
    batch: int = 64,
    workers: int | None = None,
    timeout: float = TIMEOUT,
) -> Generator[Prepared, None, None]:
    """Read and preprocess images, ``batch`` rows at a time, in their order; see :func:`map_images`."""
    settings = {"preprocessing": preprocessing.to_dict()}
    results = map_images(images, rows, _prepared, settings=settings, workers=workers, timeout=timeout)
    with closing(results):
        while part := list(islice(results, batch)):
            yield _collect(part, preprocessing.size)


def _prepared(data: bytes | Pixels, preprocessing: dict[str, Any]) -> bytes:
    pixels, notes = Preprocessing.from_dict(preprocessing).noted(data)
    return pixels.tobytes() + json.dumps(notes).encode()


def _collect(part: list[tuple[int, bytes | ImageError]], size: int) -> Prepared:
    length = size * size * 3
    rows, problems, notes = [], [], []
    stack = bytearray()
    for row, result in part:
        if isinstance(result, ImageError):
            problems.append((row, result.reason, result.detail))
            continue
        rows.append(row)
        stack += result[:length]
        notes += [(row, note) for note in json.loads(result[length:])]
    pixels = np.frombuffer(stack, dtype=np.uint8).reshape(-1, size, size, 3)
    return Prepared(np.array(rows, dtype=np.int64), pixels, problems, notes)


def map_images(
    images: ImageStore,
    rows: Rows,
    function: Function,
    *,
    settings: dict[str, Any] | None = None,
    workers: int | None = None,
    timeout: float = TIMEOUT,
) -> Generator[tuple[int, bytes | ImageError], None, None]:
    """Apply a function to images, in worker processes.

    Args:
        images: where the images are; read from several threads.
        rows: which, in the order in which the results are wanted.
        function: ``function(data, **settings)`` gives bytes or raises :class:`ImageError`; a function at
            the top of a module that can be imported. It gets an image's encoded bytes, in a worker; or its
            pixels, right here, since there is nothing left to decode.
        settings: JSON values.
        workers: processes; 0 works in this one, as happens anyway for fewer than :data:`FEW` rows and on
            Windows. Then nothing can be done about a decoder that hangs or dies.
        timeout: seconds that a worker may take for one image.

    Yields:
        ``(row, result)``, the result being bytes or the :class:`ImageError` that was raised.

    Raises:
        ConfigError: ``workers`` or ``function`` cannot be used.
        RuntimeError: the function raised something else, or a worker does not start.
    """
    settings = settings or {}
    workers = default_workers() if workers is None else workers
    if workers < 0:
        raise ConfigError(f"workers must be 0 or more, got {workers}")

    def here(data: bytes | Pixels) -> bytes:
        return function(data, **settings)

    if workers == 0 or len(rows) < FEW or os.name != "posix":
        yield from ((row, _result(images, row, here)) for row in map(int, rows))
        return
    pool = [Worker(function, settings, timeout) for _ in range(workers)]
    yield from _in_order(images, rows, here, pool)


def _in_order(
    images: ImageStore, rows: Rows, here: Callable[[bytes | Pixels], bytes], pool: list[Worker]
) -> Iterator[tuple[int, bytes | ImageError]]:
    """The results of the workers, in the order of the rows; a thread for each worker waits on its pipes."""
    todo: SimpleQueue[tuple[int, Future[bytes | ImageError]] | None] = SimpleQueue()
    stopped = Event()

    def work(worker: Worker) -> None:
        def apply(data: bytes | Pixels) -> bytes:
            return worker.apply(data) if isinstance(data, bytes) else here(data)

        while (task := todo.get()) and not stopped.is_set():
            row, future = task
            try:
                future.set_result(_result(images, row, apply))
            except BaseException as error:
                future.set_exception(error)
        worker.close()

    # Daemons: Python would not end before other threads do, even when Ctrl-C has ended the caller.
    threads = [Thread(target=work, args=(worker,), daemon=True) for worker in pool]
    for thread in threads:
        thread.start()
    pending: deque[tuple[int, Future[bytes | ImageError]]] = deque()
    try:
        for row in map(int, rows):
            pending.append((row, Future()))
            todo.put(pending[-1])
            if len(pending) == AHEAD:
                yield _first(pending)
        while pending:
            yield _first(pending)
    finally:
        stopped.set()
        for worker in pool:
            worker.stop()
            todo.put(None)
        for thread in threads:
            thread.join()


def _first(pending: deque[tuple[int, Future[bytes | ImageError]]]) -> tuple[int, bytes | ImageError]:
    row, future = pending.popleft()
    return row, future.result()


def _result(images: ImageStore, row: int, apply: Callable[[bytes | Pixels], bytes]) -> bytes | ImageError:
    try:
        return apply(images.read(row))
    except ImageError as error:
        return ImageError(error.reason, error.detail)  # without the traceback, which holds on to the image
