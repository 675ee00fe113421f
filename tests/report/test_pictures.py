from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from anglehash.report.pictures import caption, thumbnail, to_png


def test_small_scans_keep_their_pixels() -> None:
    scan = np.random.default_rng(0).integers(0, 256, (8, 8), dtype=np.uint8)
    large = np.asarray(thumbnail(scan, 112))
    assert np.array_equal(large, np.repeat(np.kron(scan, np.ones((14, 14), np.uint8))[:, :, None], 3, axis=2))


@pytest.mark.parametrize("shape", [(8, 8), (1, 500), (500, 1), (300, 200, 3), (112, 112, 3)])
def test_every_size_fits(shape: tuple[int, ...]) -> None:
    image = thumbnail(np.zeros(shape, dtype=np.uint8), 112)
    assert image.mode == "RGB"
    assert max(image.size) == 112
    assert min(image.size) >= 1


def test_caption() -> None:
    assert caption(["\u202egnp.exe"]) == "�gnp.exe"  # a right-to-left override would rewrite the line
    assert caption([""]) == "no label"


def test_to_png_round_trips() -> None:
    image = thumbnail(np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8), 24)
    with Image.open(BytesIO(to_png(image))) as again:
        assert np.array_equal(np.asarray(again), np.asarray(image))
