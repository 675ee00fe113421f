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
    from anglehash.data.dataset import Dataset
    from anglehash.data.protocols import make_split
    from anglehash.data.sources.open import list_images, open_dataset
    from anglehash.data.split import RetrievalSplit
    from anglehash.encode.bundle import Bundle
    from anglehash.encode.load import open_encoder
    from anglehash.evaluation import metrics
    from anglehash.evaluation.evaluate_model import evaluate_model
    from anglehash.gallery.filters import Filter
    from anglehash.gallery.gallery import Gallery
    from anglehash.gallery.opening import open_gallery
    from anglehash.index import make_index
    from anglehash.methods import losses
    from anglehash.methods.losses.angular import AngularHashLoss
    from anglehash.models.model import Model
    from anglehash.training.fit import fit
    from anglehash.training.hasher import Hasher

_HOMES = {
    "AngularHashLoss": "anglehash.methods.losses.angular",
    "Bundle": "anglehash.encode.bundle",
    "Dataset": "anglehash.data.dataset",
    "Filter": "anglehash.gallery.filters",
    "Gallery": "anglehash.gallery.gallery",
    "Hasher": "anglehash.training.hasher",
    "Model": "anglehash.models.model",
    "RetrievalSplit": "anglehash.data.split",
    "TrainConfig": "anglehash.config",
    "evaluate_model": "anglehash.evaluation.evaluate_model",
    "fit": "anglehash.training.fit",
    "hamming": "anglehash.codes",
    "list_images": "anglehash.data.sources.open",
    "losses": "anglehash.methods",
    "make_index": "anglehash.index",
    "make_split": "anglehash.data.protocols",
    "metrics": "anglehash.evaluation",
    "open_dataset": "anglehash.data.sources.open",
    "open_encoder": "anglehash.encode.load",
    "open_gallery": "anglehash.gallery.opening",
    "pack": "anglehash.codes",
    "unpack": "anglehash.codes",
}

__all__ = [
    "AnglehashError",
    "AngularHashLoss",
    "Bundle",
    "Dataset",
    "Filter",
    "Gallery",
    "Hasher",
    "Model",
    "RetrievalSplit",
    "TrainConfig",
    "evaluate_model",
    "fit",
    "hamming",
    "list_images",
    "losses",
    "make_index",
    "make_split",
    "metrics",
    "open_dataset",
    "open_encoder",
    "open_gallery",
    "pack",
    "unpack",
]


def __getattr__(name: str) -> Any:
    """Import the home of a public name when it is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module 'anglehash' has no attribute {name!r}")
    home = import_module(_HOMES[name])
    return getattr(home, name) if hasattr(home, name) else import_module(f"{_HOMES[name]}.{name}")


def __dir__() -> list[str]:
    return sorted(__all__)
