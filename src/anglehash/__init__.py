"""Supervised deep hashing for image retrieval: labelled images in, searchable binary codes out.

Importing this package is light: torch is loaded when a name that needs it is first used.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from anglehash.errors import AnglehashError

os.environ.setdefault(
    "ORT_DISABLE_TELEMETRY", "1"
)  # ONNX Runtime would keep a device id; nothing here reports

if TYPE_CHECKING:
    from anglehash.codes import hamming, pack, unpack
    from anglehash.config import TrainConfig
    from anglehash.data.protocols import make_split
    from anglehash.data.sources.open import open_dataset
    from anglehash.data.split import RetrievalSplit
    from anglehash.encode.bundle import Bundle
    from anglehash.gallery.gallery import Gallery
    from anglehash.methods.losses.angular import AngularHashLoss
    from anglehash.training.hasher import Hasher

_HOMES = {
    "AngularHashLoss": "anglehash.methods.losses.angular",
    "Bundle": "anglehash.encode.bundle",
    "Gallery": "anglehash.gallery.gallery",
    "Hasher": "anglehash.training.hasher",
    "RetrievalSplit": "anglehash.data.split",
    "TrainConfig": "anglehash.config",
    "hamming": "anglehash.codes",
    "make_split": "anglehash.data.protocols",
    "open_dataset": "anglehash.data.sources.open",
    "pack": "anglehash.codes",
    "unpack": "anglehash.codes",
}

__all__ = [
    "AnglehashError",
    "AngularHashLoss",
    "Bundle",
    "Gallery",
    "Hasher",
    "RetrievalSplit",
    "TrainConfig",
    "hamming",
    "make_split",
    "open_dataset",
    "pack",
    "unpack",
]


def __getattr__(name: str) -> Any:
    """Import the home of a public name when it is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module 'anglehash' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
