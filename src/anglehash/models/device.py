"""The processor that torch computes on, and with how many threads."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from anglehash.errors import ConfigError


@contextmanager
def torch_threads(number: int) -> Iterator[None]:
    """Let torch compute with ``number`` threads, and with the caller's number again afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def training_device(name: str) -> torch.device:
    """Where a network learns: ``cpu``, or ``cuda``, of which each of several processes takes its own.

    Raises:
        ConfigError: no GPU, or none for this process.

    >>> training_device("cpu")
    device(type='cpu')
    """
    if name == "cpu":
        return torch.device("cpu")
    own, count = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if own >= count:
        raise ConfigError(
            f"device 'cuda' needs a GPU for each process and a torch that can use it, and finds {count}: leave out "
            "--device, or start fewer processes"
        )
    return torch.device("cuda", own)


def encoding_device(name: str) -> str:
    """Where a model encodes that learned on ``name``: there, or on the CPU of a machine that has no such device.

    >>> encoding_device("cpu")
    'cpu'
    """
    return name if name == "cpu" or torch.cuda.is_available() else "cpu"


@contextmanager
def own_generators(device: torch.device) -> Iterator[None]:
    """Leave torch's global generators, those of the CPU and of ``device``, as they were."""
    with torch.random.fork_rng(devices=[] if device.type == "cpu" else [device]):
        yield


def device_name() -> str:
    """The processor that torch could use, for people.

    >>> isinstance(device_name(), str)
    True
    """
    if torch.cuda.is_available():
        return f"cuda: {torch.cuda.get_device_name()}"
    return f"cpu, {torch.get_num_threads()} threads"
