"""Codes as a file: ``codes.npz``, in the one form that all commands write it."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from anglehash.codes import Codes
from anglehash.files import write_atomic


def write_codes(
    path: Path, codes: Codes, ids: Sequence[str], bits: int, more: Mapping[str, Any] | None = None
) -> None:
    """Write codes and their ids as one ``.npz`` file, whole or not at all.

    Args:
        path: the file.
        codes: ``(n, ceil(bits / 8))`` packed.
        ids: one for each code.
        bits: length of a code.
        more: further arrays by name.
    """
    buffer = io.BytesIO()
    names = np.array(ids, dtype=np.str_)
    np.savez(buffer, codes=codes, ids=names, bits=np.int64(bits), **(more or {}))
    write_atomic(path, buffer.getvalue())
