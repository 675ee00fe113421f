"""What check, train and evaluate say of images that come in series."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes, each twenty frames of one scene that differ in a single pixel."""
    folder = tmp_path_factory.mktemp("series") / "photos"
    for seed, name in enumerate(("cat", "dog")):
        scene = np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        (folder / name).mkdir(parents=True)
        for frame in range(20):
            scene[0, 0] = frame
            Image.fromarray(scene).save(folder / name / f"{frame:02d}.png")
    return folder


def test_parts_of_one_series_are_reported(series: Path, tmp_path: Path, anglehash: Any) -> None:
    line = "4 of 4 {} (100 %) have a near copy in the training part: on images of another series expect less."
    held = {"looked_at": 4, "near_copies": 4, "share": 1.0}
    done = anglehash("check", series)
    assert f"! {line.format('validation images')}" in done.out
    assert held.items() <= anglehash("check", series, "--json").json["near_copies"].items()

    settings = ["--bits", 16, "--backbone", "tiny", "--image-size", 12, "--epochs", 1]
    done = anglehash("train", series, "-o", tmp_path / "all", *settings)
    assert done.out.splitlines()[-1] == line.format("validation images")
    command = ["train", series, "-o", tmp_path / "m", *settings, "--protocol", "holdout"]
    found = anglehash(*command, "--json").json["split"]["near_copies"]
    assert (found["near_copies"], found["share"]) == (found["looked_at"], 1.0)

    command = ["evaluate", tmp_path / "m", series, "--protocol", "holdout"]
    assert anglehash(*command).out.splitlines()[-1] == line.format("queries")
    found = anglehash(*command, "--json").json["near_copies"]
    assert {"part": "train", **held}.items() <= found.items()
    held_out, learned = found["first"]
    assert held_out[:3] == learned[:3]
