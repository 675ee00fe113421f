"""Shared by every test: one thread, a private cache, and the real images where they are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two busy threads on two cores are slower than one
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("NUMBA_NUM_THREADS", "1")

REAL_IMAGES = Path(os.environ.get("ANGLEHASH_DATA") or Path(__file__).parents[2] / "shared" / "data")


@pytest.fixture(autouse=True)
def _private_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANGLEHASH_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="session")
def real_images() -> Path:
    """The folder of real images; tests that ask for it skip where it is absent."""
    if not REAL_IMAGES.is_dir():
        pytest.skip(f"no real images at {REAL_IMAGES}: set ANGLEHASH_DATA to their folder")
    return REAL_IMAGES
