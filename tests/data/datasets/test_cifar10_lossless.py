from __future__ import annotations

from pathlib import Path

import numpy as np

from anglehash.data.datasets.cifar10 import load as load_cifar10
from anglehash.data.datasets.cifar10_lossless import load
from anglehash.data.images.decoding import decode


def test_the_first_training_images_in_the_official_order(real_images: Path) -> None:
    data, jpeg = load(real_images), load_cifar10(real_images)
    assert len(data) == 4_000
    assert set(data.parts) == {"train"}
    np.testing.assert_array_equal(data.labels, jpeg.labels[:4_000])
    assert data.ids[17] == "cifar10-lossless/train/0017"
    for row in (0, 1_234, 3_999):
        exact, lossy = (decode(d.images.read(row)).pixels.astype(int) for d in (data, jpeg))  # type: ignore[arg-type]
        assert exact.shape == (32, 32, 3)
        assert 0 < np.abs(exact - lossy).mean() < 12  # the same picture, and not the same bytes
