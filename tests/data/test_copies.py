from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from anglehash.data.copies import copies_of
from anglehash.data.dataset import Arrays, Encoded
from anglehash.data.images.decoding import decode


def scenes(n: int) -> NDArray[np.uint8]:
    """Smooth pictures of 40 x 60 pixels: what JPEG keeps."""
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (n, 5, 6, 3), dtype=np.uint8)
    return np.stack([np.asarray(Image.fromarray(one).resize((60, 40))) for one in small])


def test_a_copy_is_a_crop_at_the_old_size() -> None:
    pixels = scenes(3)
    images, originals = copies_of(Arrays(pixels), np.arange(3))
    assert originals.tolist() == [0, 1, 2]
    for row, blob in enumerate(images.blobs):
        copy = Image.open(BytesIO(blob))
        assert (copy.format, copy.size) == ("JPEG", (60, 40))
        found = decode(blob).pixels.astype(int)
        # 85 % of 60 and 40 are 51 and 34: one of 10 x 7 places gives this copy, save for JPEG's losses
        whole = Image.fromarray(pixels[row])
        apart = [
            np.abs(np.asarray(whole.crop((x, y, x + 51, y + 34)).resize((60, 40))).astype(int) - found).mean()
            for x in range(10)
            for y in range(7)
        ]
        assert min(apart) < 6 < np.median(apart) / 2
        assert np.abs(pixels[row].astype(int) - found).mean() > 2 * min(apart)


def test_draws_and_places_are_a_function_of_seed_and_pixels() -> None:
    pixels, rows = scenes(50), np.arange(10, 50)
    once, again, other = (copies_of(Arrays(pixels), rows, seed=seed, count=8) for seed in (0, 0, 1))
    assert once.images.blobs == again.images.blobs
    assert np.array_equal(once.originals, again.originals)
    assert not np.array_equal(once.originals, other.originals)
    assert len(set(once.originals)) == 8
    assert once.originals.min() >= 10
    assert (np.diff(once.originals) > 0).all()
    alone = copies_of(Arrays(pixels[once.originals[3:4]]), np.arange(1))
    assert alone.images.blobs == once.images.blobs[3:4]


def test_files_are_copied_as_their_pixels_and_unreadable_ones_left_out() -> None:
    pixels = scenes(2)
    file = BytesIO()
    Image.fromarray(pixels[0]).save(file, "PNG")
    images, originals = copies_of(Encoded([b"no image", file.getvalue()]), np.arange(2))
    assert originals.tolist() == [1]
    assert images.blobs == copies_of(Arrays(pixels[:1]), np.arange(1)).images.blobs
    assert copies_of(Encoded([b"no image"]), np.arange(1)).originals.tolist() == []


@pytest.mark.parametrize("size", [(8, 8), (1, 9)])
def test_tiny_images(size: tuple[int, int]) -> None:
    images, originals = copies_of(Arrays(np.zeros((1, *size, 3), np.uint8)), np.arange(1))
    assert len(originals) == (min(size) >= 8)  # a side below 8 is refused, as everywhere
    assert len(images) == len(originals)
