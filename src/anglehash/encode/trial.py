"""Running a network that came from elsewhere for the first time: in a process of its own, within limits.

Operators of the standard have no bound: a few bytes can ask for a constant of 8 GB, or for a product that takes
hours. So a network runs in a child first, which the system stops when it takes too much memory and the parent when
it takes too long. Only a network that came through is opened in this process; it is remembered by its sha256.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from contextlib import suppress

import numpy as np

from anglehash.data.images.decoding import Pixels, Preprocessing
from anglehash.errors import AnglehashError, ModelError
from anglehash.files import cache_dir, write_atomic

SECONDS = 60.0
"""What loading a network and running it on its probes may take; ours take one or two."""

MEMORY = 2 << 30
"""Bytes that it may take beside five times its own size, where the system can limit them (Linux)."""

_RULES = 1  # raise it where what is tried changes: networks are tried again then
_CHILD = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from anglehash.encode.trial import main; main()"
)


def try_out(network: bytes, pixels: Pixels, preprocessing: Preprocessing, *, bits: int, name: str) -> None:
    """Run a network in a process that may die, unless it came through that before.

    Args:
        network: the content of an ONNX file.
        pixels: ``(n, size, size, 3)`` prepared images to run it on.
        preprocessing: how they were prepared.
        bits: length of a code.
        name: what to call it in messages.

    Raises:
        ModelError: it takes too much memory or time, ends its process, or fails.
    """
    if _is_known(network):
        return
    memory = MEMORY + 5 * len(network)
    job = {
        "path": [entry for entry in sys.path if isinstance(entry, str)],
        "network": len(network), "pixels": pixels.shape, "preprocessing": preprocessing.to_dict(),
        "bits": bits, "name": name, "memory": memory, "seconds": SECONDS,
    }  # fmt: skip
    sent = json.dumps(job).encode() + b"\n" + network + np.ascontiguousarray(pixels).tobytes()
    try:
        done = subprocess.run(  # noqa: S603  # ourselves
            [sys.executable, "-P", "-c", _CHILD, json.dumps(job["path"])],
            input=sent, capture_output=True, timeout=SECONDS, start_new_session=True, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise ModelError(f"{name} takes more than {SECONDS:g} s for {len(pixels)} images: refused") from None
    if done.returncode == 0:
        believe(network)
        return
    said = done.stdout.decode(errors="replace").strip()
    if "bad_alloc" in said or "allocate" in said or not said:
        raise ModelError(
            f"{name} takes more than {memory >> 20:,} MiB of memory, or ends its process "
            f"(exit code {done.returncode}): refused"
        )
    raise ModelError(said)


def believe(network: bytes) -> None:
    """Remember that a network runs within the limits; without a cache nothing is remembered."""
    with suppress(OSError, RuntimeError, AnglehashError):
        write_atomic(cache_dir() / "networks" / _key(network), b"")


def _is_known(network: bytes) -> bool:
    try:
        return (cache_dir() / "networks" / _key(network)).is_file()
    except (OSError, RuntimeError, AnglehashError):
        return False


def _key(network: bytes) -> str:
    import onnxruntime

    rules = f"{_RULES} {SECONDS} {MEMORY} {onnxruntime.__version__} "
    return hashlib.sha256(rules.encode() + hashlib.sha256(network).digest()).hexdigest()


def main() -> None:
    """The life of the child: run the network, and say what is wrong with it."""
    from anglehash.encode.network import BATCH, Network

    job = json.loads(sys.stdin.buffer.readline())
    network = sys.stdin.buffer.read(job["network"])
    pixels: Pixels = np.frombuffer(sys.stdin.buffer.read(), np.uint8).reshape(job["pixels"])
    preprocessing = Preprocessing.from_dict(job["preprocessing"])
    _limit(job["memory"], job["seconds"])
    try:
        running = Network(network, preprocessing, bits=job["bits"], name=job["name"])
        shape = (BATCH, preprocessing.size, preprocessing.size, 3)
        for batch in (
            pixels,
            pixels[:1],
            np.resize(pixels, shape) if len(pixels) else np.zeros(shape, np.uint8),
        ):
            running.logits(batch)
    except (ModelError, MemoryError) as error:
        print(str(error) or "bad_alloc")
        sys.exit(1)


def _limit(memory: int, seconds: float) -> None:
    """Have the system end this process past its limits, also where nobody is left to end it."""
    if sys.platform == "win32":
        return
    import resource

    used = 0
    with suppress(OSError), open("/proc/self/statm", encoding="ascii") as file:
        used = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    limits = {resource.RLIMIT_CPU: int(seconds) + 5}
    if used:
        limits[resource.RLIMIT_AS] = used + memory
    for kind, most in limits.items():
        with suppress(ValueError, OSError):
            resource.setrlimit(kind, (most, resource.getrlimit(kind)[1]))
