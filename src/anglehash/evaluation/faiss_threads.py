"""faiss on one thread, for the baselines and the index."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def one_thread() -> Iterator[None]:
    """On a busy machine two OpenMP threads were up to 100 times slower than one: concurrency is the caller's.

    The setting is the calling thread's own, and is put back.
    """
    import faiss

    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)
