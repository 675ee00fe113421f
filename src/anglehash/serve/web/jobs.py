"""Uploads into the gallery."""

from __future__ import annotations

from pathlib import Path

from anglehash.serve.web.collection import Searchable
from anglehash.serve.web.eyes import Eyes


class Jobs:
    """To come."""

    def __init__(self, gallery: Searchable, eyes: Eyes, folder: Path | None) -> None: ...

    def start(self) -> None:
        """To come."""

    def stop(self, limit: float) -> None:
        """To come."""
