from __future__ import annotations

import sys

import numpy as np
import pytest

from anglehash.data.datasets.digits import load
from anglehash.errors import MissingExtraError


def test_the_scans_of_scikit_learn_in_its_order() -> None:
    from sklearn.datasets import load_digits

    data, scans = load(), load_digits()
    assert len(data) == 1797
    assert data.labels.argmax(axis=1).tolist() == scans.target.tolist()
    assert data.ids[:2] == ("digits/0000", "digits/0001")
    assert list(data.ids) == sorted(data.ids)
    pixels = np.stack([data.images.read(row) for row in range(100)])
    assert pixels.shape == (100, 8, 8, 3)
    assert pixels.dtype == np.uint8
    assert (pixels == pixels[..., :1]).all()  # grey
    np.testing.assert_array_equal(pixels[..., 0], np.round(scans.images[:100] * 255 / 16))


def test_the_grey_levels_span_a_byte() -> None:
    data = load()
    pixels = np.stack([data.images.read(row) for row in range(len(data))])
    assert len(np.unique(pixels)) == 17
    assert (pixels.min(), pixels.max()) == (0, 255)


def test_without_scikit_learn_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(MissingExtraError, match=r"anglehash\[train\]"):
        load()
