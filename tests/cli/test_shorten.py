"""Nested models, cut to their first bits by the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from anglehash.training.hasher import Hasher

PIXELS = np.random.default_rng(0).integers(0, 256, (24, 16, 16, 3), dtype=np.uint8)
QUICK = {"epochs": 2, "hidden": 8, "folds": 2, "code_hidden": 8, "code_epochs": 2}


def trained(path: Path, **loss: Any) -> Hasher:
    short: dict[str, Any] = {"bits": 32, "backbone": "tiny", "image_size": 12, "settings": {"epochs": 1}}
    made = Hasher(method="posterior", loss=QUICK | loss, likeness=0, **short)
    made.fit(list(PIXELS), ["a", "b"] * 12).save(path)
    return made


@pytest.fixture(scope="module")
def nested(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Hasher]:
    path = tmp_path_factory.mktemp("models") / "long"
    return path, trained(path, nested=32)


def test_a_short_model_gives_the_first_bits(
    nested: tuple[Path, Hasher], tmp_path: Path, anglehash: Any
) -> None:
    path, long = nested
    done = anglehash("shorten", path, "--bits", 12, "-o", tmp_path / "short", "--json")
    assert (done.code, done.json["bits"], done.json["of"]) == (0, 12, 32)
    short = Hasher.load(tmp_path / "short")
    assert short.bits == 12
    assert np.array_equal(short.transform(list(PIXELS)), long.transform(list(PIXELS))[:, :12])
    assert short.model_.class_vectors.shape == (0, 12)
    assert any("validation_map" in record for record in long.model_.log)
    assert not any("validation_map" in record for record in short.model_.log)  # that is of the whole code
    assert done.json["id"] == short.model_.id != long.model_.id
    Image.fromarray(PIXELS[0]).save(tmp_path / "0.png")
    (tmp_path / "photos").mkdir()
    (tmp_path / "0.png").rename(tmp_path / "photos" / "0.png")
    assert anglehash("index", tmp_path / "short", tmp_path / "photos", "-o", tmp_path / "g").code == 0
    assert anglehash("shorten", tmp_path / "short", "--bits", 8, "-o", tmp_path / "shorter").code == 0


def test_what_cannot_be_shortened_is_refused(
    nested: tuple[Path, Hasher], tmp_path: Path, anglehash: Any
) -> None:
    path, out = nested[0], tmp_path / "out"
    done = anglehash("shorten", path, "--bits", 32, "-o", out)
    assert (done.code, done.err) == (1, "Error: the model has 32 bits: bits must be in 8..31, got 32\n")
    assert "bits must be a whole number in 4..1024" in anglehash("shorten", path, "--bits", 3, "-o", out).err
    assert "bits must be in 8..31, got 7" in anglehash("shorten", path, "--bits", 7, "-o", out).err
    trained(tmp_path / "plain")
    done = anglehash("shorten", tmp_path / "plain", "--bits", 8, "-o", out)
    assert "only nested codes can be shortened" in done.err
    assert "--likeness 0 and nested = 128" in done.err
    assert not out.exists()
    taken = anglehash("shorten", path, "--bits", 8, "-o", path)
    assert taken.code == 1
    assert Hasher.load(path).bits == 32
