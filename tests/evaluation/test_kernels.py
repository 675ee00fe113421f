from __future__ import annotations

from typing import Any

import numpy as np

from anglehash.evaluation import kernels


def test_popcount_counts_all_64_bits() -> None:
    words = np.array([0, 1, 2**63, 2**64 - 1], dtype=np.uint64)
    out = np.empty(4, dtype=np.uint16)
    kernels._distances(np.zeros(1, dtype=np.uint64), words[None], out)
    assert out.tolist() == [0, 1, 1, 64]
    kernels._distances(words[3:].repeat(2), np.array([words, words[::-1]]), out)  # two words each
    assert out.tolist() == [64, 126, 126, 64]


def test_shared_labels_are_counted_in_every_word() -> None:
    a, b = np.array([0b1011, 2**63], dtype=np.uint64), np.array([0b0011, 2**63 + 1], dtype=np.uint64)
    assert kernels._shared(a, b) == 3


def test_a_kernel_compiles_where_no_cache_can_be_written() -> None:
    source: dict[str, Any] = {}
    exec("def double(x): return 2 * x", source)  # a function without a file has no place for a cache
    assert kernels.kernel(source["double"])(21) == 42
