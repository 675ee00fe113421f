"""Bounds on what clients can make the service do: threads and their queues, memory for bodies, requests a second."""

from __future__ import annotations

import asyncio
import random
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import ParamSpec, TypeVar

from anglehash.server.errors import RefusalError, busy

P = ParamSpec("P")
T = TypeVar("T")


def spread(seconds: float) -> float:
    """A deadline of at most ``seconds``, and of at least three quarters of them.

    Slow senders that came together must not end together: the others would notice.
    """
    return seconds * random.uniform(0.75, 1)


class Pool:
    """Some threads, and a bounded number of calls that wait for them.

    Args:
        name: of its work, for the message.
        threads: calls at a time.
        waiting: calls that may wait.
    """

    def __init__(self, name: str, threads: int, waiting: int) -> None:
        self._name = name
        self._most = threads + waiting
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=f"anglehash-{name}")
        self.pending = 0

    async def run(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of a call in one of the threads.

        Raises:
            RefusalError: 503, too many wait already.
        """
        with self.place():
            return await self.run_in_place(function, *args, **kwargs)

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold a place in the queue, for several calls one after the other.

        Raises:
            RefusalError: 503, too many wait already.
        """
        if self.pending >= self._most:
            raise busy(f"{self.pending} requests wait for {self._name} already: come again in a second")
        self.pending += 1
        try:
            yield
        finally:
            self.pending -= 1

    async def run_in_place(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of a call, by a caller who holds a place."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, lambda: function(*args, **kwargs))

    def close(self) -> None:
        """Start nothing more, and wait for what is under way."""
        self._executor.shutdown(cancel_futures=True)


class FairPool:
    """Threads in which clients take turns, however many calls each of them has waiting.

    Where the queue is full, a call takes the place of the last one of the client with the longest queue.
    It belongs to the event loop: no locks.

    Args:
        name: of its work, for the message.
        threads: calls at a time.
        waiting: calls that may wait.
    """

    def __init__(self, name: str, threads: int, waiting: int) -> None:
        self._name = name
        self._threads = self._free = threads
        self._most = threads + waiting
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=f"anglehash-{name}")
        self._turns: OrderedDict[object, deque[asyncio.Future[None]]] = OrderedDict()

    @property
    def pending(self) -> int:
        """Calls that wait or are worked on."""
        return self._threads - self._free + sum(map(len, self._turns.values()))

    async def run(self, client: object, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of a call, when it is the client's turn; a caller who is cancelled loses the place.

        Raises:
            RefusalError: 503, too many wait already.
        """
        await self._turn(client)
        loop = asyncio.get_running_loop()
        call = self._executor.submit(lambda: function(*args, **kwargs))
        # Not when the caller goes away: a thread is free when its call has ended.
        call.add_done_callback(lambda _: _in_loop(loop, self._next))
        return await asyncio.wrap_future(call)

    def close(self) -> None:
        """Start nothing more, and wait for what is under way."""
        self._executor.shutdown(cancel_futures=True)

    async def _turn(self, client: object) -> None:
        if self._free:
            self._free -= 1
            return
        if self.pending >= self._most:
            self._make_room(client)
        turn = asyncio.get_running_loop().create_future()
        self._turns.setdefault(client, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # its turn had come
                self._next()
            raise
        finally:
            with suppress(KeyError, ValueError):  # it is not there any more, unless it was cancelled
                self._turns[client].remove(turn)
                self._clean(client)

    def _next(self) -> None:
        """Give a thread that is free to the client whose turn it is."""
        for client, turns in self._turns.items():
            turn = turns.popleft()
            self._turns.move_to_end(client)
            self._clean(client)
            if turn.done():  # cancelled just now
                self._next()
            else:
                turn.set_result(None)
            return
        self._free += 1

    def _make_room(self, client: object) -> None:
        greedy = max(self._turns, key=lambda other: len(self._turns[other]), default=client)
        own = len(self._turns.get(client, ()))
        if greedy == client or len(self._turns[greedy]) <= own + 1:
            raise busy(f"{self.pending} requests wait for {self._name} already: come again in a second")
        self._turns[greedy].pop().set_exception(busy("other clients wait too: come again in a second"))
        self._clean(greedy)

    def _clean(self, client: object) -> None:
        if not self._turns[client]:
            del self._turns[client]


def _in_loop(loop: asyncio.AbstractEventLoop, function: Callable[[], None]) -> None:
    with suppress(RuntimeError):  # the loop has ended
        loop.call_soon_threadsafe(function)


class Budget:
    """Bytes of bodies that may be in memory at once, over all requests.

    What counts is what has come, not what was announced: slow senders take up next to nothing.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.used = 0

    def take(self, count: int) -> None:
        """Take bytes; whoever does gives them back.

        Raises:
            RefusalError: 503, fewer are left.
        """
        if self.used + count > self._most:
            raise busy("too many uploads are in memory already: come again in a second")
        self.used += count

    def give_back(self, count: int) -> None:
        """Give bytes back."""
        self.used -= count


class Space:
    """Bytes that files which are sent may take up on disk.

    Args:
        measure: the bytes that are there.
        most: bytes at most; ``None`` for no bound.
    """

    def __init__(self, measure: Callable[[], int], most: int | None) -> None:
        self._measure, self._most = measure, most
        self._used = 0

    def measure(self) -> None:
        """Look at what is there: other services and removals change it."""
        if self._most is not None:
            self._used = self._measure()

    def take(self, count: int) -> None:
        """Take bytes; they are free again at the next measurement, if nothing was kept.

        Raises:
            RefusalError: 507, fewer than that are left.
        """
        if self._most is None:
            return
        if self._used + count > self._most:
            raise RefusalError(
                507, "quota", f"images that were sent may take {self._most:,} bytes: see --upload-quota",
                hang_up=True,
            )  # fmt: skip
        self._used += count


class Buckets:
    """A token bucket for each client: a steady rate, and a burst of it at the start.

    >>> buckets = Buckets(rate=1, burst=2)
    >>> [buckets.wait("a", now=0.0), buckets.wait("a", now=0.0), buckets.wait("a", now=0.0), buckets.wait("b", now=0.0)]
    [0.0, 0.0, 1.0, 0.0]
    >>> buckets.wait("a", now=1.0)
    0.0
    """

    MOST = 10_000
    """Clients that are remembered."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate, self._burst = rate, burst
        self._levels: dict[object, tuple[float, float]] = {}  # tokens and when they were counted

    def wait(self, client: object, now: float | None = None) -> float:
        """Take a token: 0, or the seconds until there is one."""
        now = time.monotonic() if now is None else now
        tokens, then = self._levels.pop(client, (self._burst, now))
        tokens = min(self._burst, tokens + (now - then) * self._rate)
        allowed = tokens >= 1
        self._levels[client] = (tokens - allowed, now)  # the dict is in the order of last use
        if len(self._levels) > self.MOST:
            del self._levels[next(iter(self._levels))]
        return 0.0 if allowed else (1 - tokens) / self._rate
