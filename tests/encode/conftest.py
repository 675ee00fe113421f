"""A small model, trained once, and its bundle, exported once: that takes seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from anglehash import Hasher
from anglehash.data.dataset import Arrays
from anglehash.training.export_bundle import Trial, export_bundle

SIZE, BITS = 16, 12


def noise(n: int, seed: int = 0) -> list[NDArray[np.uint8]]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (20, 24, 3), dtype=np.uint8) for _ in range(n)]


@pytest.fixture(scope="package")
def hasher() -> Hasher:
    settings = {"epochs": 1, "hidden": 8, "batch_norm": True}
    hasher = Hasher(bits=BITS, method="posterior", backbone="tiny", image_size=SIZE, settings=settings)
    return hasher.fit(noise(20), ["a", "b"] * 10)


@pytest.fixture(scope="package")
def model(hasher: Hasher, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "m"
    hasher.save(path)
    return path


@pytest.fixture(scope="package")
def exported(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bundles") / "b"
    export_bundle(model, path, Trial.of_images("noise", Arrays(noise(60, seed=1))))
    return path
