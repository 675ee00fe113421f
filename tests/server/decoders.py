"""Decoders with errors in them, for workers; little is imported, for each worker imports it too."""

from __future__ import annotations

import os
import signal
import time

from anglehash.errors import ImageError


def hostile(data: bytes) -> bytes:
    """What a decoder with an error in it does; run in a worker."""
    _, _, data = data.partition(b"\n")  # before it stands how the image is to be prepared
    if data == b"kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if data == b"hang":
        time.sleep(60)
    if data == b"bug":
        raise ZeroDivisionError
    raise ImageError("damaged", "no")


def dawdle(data: bytes) -> bytes:
    """A slow decoder; run in a worker."""
    time.sleep(0.3)
    raise ImageError("damaged", "no")
