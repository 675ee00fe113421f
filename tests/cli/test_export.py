"""``export``, and the commands that take its bundle for a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for c, name in enumerate(("cat", "dog")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(20):
            pixels = rng.integers(0, 60, (14, 12, 3)) + 150 * c
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "photos" / name / f"{i:02d}.png")
    return tmp_path / "photos"


def test_a_bundle_stands_for_its_model(photos: Path, tmp_path: Path, anglehash: Any) -> None:
    model, bundle, gallery = tmp_path / "m", tmp_path / "b", tmp_path / "g"
    small = ("--backbone", "tiny", "--image-size", 12, "--epochs", 2, "--bits", 16, "--protocol", "holdout")
    assert anglehash("train", photos, "-o", model, *small).code == 0
    done = anglehash("export", model, "-o", bundle, "--data", photos, "--protocol", "holdout", "--json")
    assert done.code == 0, done.err
    assert done.json["id"] == done.json["model"]
    parity = done.json["parity"]
    assert parity["images"] == 40
    assert parity["fp32"]["equal_bits"] == 1
    assert anglehash("export", model, "-o", bundle).code == 1  # it is there

    options = (photos, "--protocol", "holdout", "--json")
    by_model, by_bundle = (anglehash("evaluate", one, *options).json for one in (model, bundle))
    for key in ("map", "map_convention", "map_logits", "split_hash", "class_codes"):
        assert by_bundle[key] == by_model[key]
    assert parity["model"]["map"] == pytest.approx(by_model["map"])
    assert parity["fp32"]["map"] == pytest.approx(by_model["map"])
    assert by_bundle["map"] == by_model["map"]
    again = anglehash("evaluate", bundle, photos, "--protocol", bundle / "split.json", "--json")
    assert again.json["split_hash"] == by_model["split_hash"]

    assert anglehash("index", bundle, photos, "-o", gallery, "--strict").code == 0
    query = photos / "dog" / "03.png"
    for extra in ((), ("--model", model), ("--model", bundle, "--strict")):
        found = anglehash("search", gallery, query, "-k", 1, *extra, "--json")
        assert found.code == 0, found.err
        assert found.json["results"][0]["distance"] == 0
    other = anglehash("search", gallery, query, "--model", photos)
    assert (other.code, "not an anglehash model" in other.err) == (1, True)
    assert anglehash("verify", gallery).code == 0
    assert anglehash("info", bundle, "--json").json["kind"] == "bundle"


def test_options_that_say_how_to_read_nothing_are_usage_errors(tmp_path: Path, anglehash: Any) -> None:
    done = anglehash("export", tmp_path, "-o", tmp_path / "b", "--protocol", "holdout")
    assert (done.code, "add it" in done.err) == (2, True)
    done = anglehash("export", tmp_path, "-o", tmp_path / "b", "--data", "x", "--split-seed", "1")
    assert (done.code, "needs a --protocol" in done.err) == (2, True)
    (tmp_path / "w.pt").write_bytes(b"\x80")
    done = anglehash("encode", tmp_path / "w.pt", tmp_path, "-o", tmp_path / "c.npz")
    assert (done.code, "never opened" in done.err) == (1, True)
