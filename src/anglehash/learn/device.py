"""Which processor torch finds here."""

from __future__ import annotations

import torch


def device_name() -> str:
    """The processor that torch could use, for people.

    >>> isinstance(device_name(), str)
    True
    """
    if torch.cuda.is_available():
        return f"cuda: {torch.cuda.get_device_name()}"
    return f"cpu, {torch.get_num_threads()} threads"
