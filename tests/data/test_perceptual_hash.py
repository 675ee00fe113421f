"""Signatures against ImageHash itself, and near copies against a loop over all pairs."""

from __future__ import annotations

import io
from pathlib import Path

import imagehash
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from anglehash.data.dataset import Encoded
from anglehash.data.image_hash import sign
from anglehash.data.perceptual_hash import (
    SIGNATURE,
    Signatures,
    across_parts,
    are_near,
    hash_distances,
    near_copies,
    signature_of,
)


def scene(seed: int, side: int = 96) -> Image.Image:
    """A picture with shapes of all sizes, as a photograph has them: smoothed noise, stretched to full contrast."""
    noise = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(noise).filter(ImageFilter.GaussianBlur(4)), dtype=np.float64)
    smooth = (smooth - smooth.min()) / np.ptp(smooth) * 255
    return Image.fromarray(smooth.astype(np.uint8))


def file_of(image: Image.Image, kind: str = "PNG", **options: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def signed(*images: Image.Image) -> Signatures:
    return np.frombuffer(b"".join(signature_of(np.asarray(image)) for image in images), SIGNATURE)


def test_a_signature_holds_size_hash_and_thumbnail() -> None:
    image = scene(0, 128).resize((128, 64))
    data = file_of(image, "JPEG", quality=90)
    (found,) = sign(Encoded([data])).signatures
    pixels = Image.open(io.BytesIO(data))
    assert (found["width"], found["height"], found["bytes"]) == (128, 64, len(data))
    small = pixels.resize((64, 64), Image.Resampling.BICUBIC, reducing_gap=3.0)
    assert (np.unpackbits(found["hash"]) == imagehash.phash(small, 16).hash.ravel()).all()
    means = np.asarray(small, dtype=np.float64).reshape(8, 8, 8, 8, 3).mean(axis=(1, 3))  # over 8 x 8 blocks
    assert np.abs(found["thumbnail"] - means).max() <= 0.5
    assert len(found.tobytes()) == 236


@pytest.mark.parametrize("side", [8, 3000])
def test_images_of_one_colour_have_signatures(side: int) -> None:
    black, white = signed(Image.new("RGB", (side, 8)), Image.new("RGB", (side, 8), "white"))
    assert (black["thumbnail"] == 0).all()
    assert (white["thumbnail"] == 255).all()
    assert not are_near(black[None], white[None])[0]


def test_resized_and_recompressed_images_are_near_and_others_are_not() -> None:
    image = scene(1, 256)
    again = [
        image.resize((100, 100), Image.Resampling.BILINEAR),
        image.resize((700, 500), Image.Resampling.BICUBIC),
        Image.open(io.BytesIO(file_of(image, "JPEG", quality=30))),
        Image.open(io.BytesIO(file_of(image, "WEBP", quality=30))),
        image.convert("P", palette=Image.Palette.ADAPTIVE).convert("RGB"),
    ]
    assert are_near(signed(image), signed(*again)).all()
    mirrored = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    others = [image.crop((40, 40, 256, 256)), mirrored, Image.merge("RGB", image.split()[::-1]), scene(2)]
    assert not are_near(signed(image), signed(*others)).any()


def drawn(n: int, seed: int) -> Signatures:
    """Signatures around a few centres, so that some hashes and some thumbnails are near and others not quite."""
    rng = np.random.default_rng(seed)
    centres = signed(*(scene(i) for i in range(3)))
    made: NDArray[np.void] = centres[rng.integers(3, size=n)].copy()
    for one in made:
        flipped = np.zeros(256, np.uint8)
        flipped[rng.permutation(256)[: rng.integers(0, 100)]] = 1
        one["hash"] ^= np.packbits(flipped)
        moved = one["thumbnail"] + rng.normal(rng.integers(-50, 51), rng.integers(0, 10), (8, 8, 3))
        one["thumbnail"] = np.clip(moved, 0, 255)
    return made


def deviation(values: list[float]) -> float:
    mean = sum(values) / len(values)
    return float((sum((value - mean) ** 2 for value in values) / len(values)) ** 0.5)


def is_near(a: np.void, b: np.void) -> bool:
    bits = sum(int(x ^ y).bit_count() for x, y in zip(a["hash"].tolist(), b["hash"].tolist(), strict=True))
    one, other = (x["thumbnail"].ravel().tolist() for x in (a, b))
    off = [x - y for x, y in zip(one, other, strict=True)]
    limit = min(16, max(4, min(deviation(one), deviation(other)) / 2))
    return bits <= 64 and deviation(off) <= limit and abs(sum(off) / 192) <= 40


def test_near_copies_are_those_of_a_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    signatures, others = drawn(40, 0), drawn(12, 1)
    loop = [next((j for j, o in enumerate(others) if is_near(s, o)), -1) for s in signatures]
    assert 5 < loop.count(-1) < 35
    assert max(loop) > 2
    assert near_copies(signatures, others).tolist() == loop
    monkeypatch.setattr("anglehash.data.perceptual_hash._CELLS", 150)  # two at a time
    assert near_copies(signatures, others).tolist() == loop
    assert near_copies(signatures, others[:0]).tolist() == [-1] * 40
    assert hash_distances(signatures[:1], signatures[:1]).tolist() == [0]


def test_the_share_across_parts() -> None:
    pictures = [scene(i) for i in range(5)]
    signatures = signed(*pictures, pictures[3].resize((50, 50)))
    found = across_parts(signatures, np.array([3, 4]), np.array([0, 1, 5]), "abcdef")
    assert found == {"looked_at": 2, "near_copies": 1, "share": 0.5, "first": ["d", "f"]}
    assert across_parts(signatures, np.array([], np.int64), np.array([0]), "abcdef") is None
    assert across_parts(None, np.array([0]), np.array([1]), "ab") is None


def test_the_cache_gives_what_was_computed(tmp_path: Path) -> None:
    images = Encoded([file_of(scene(i)) for i in range(3)])
    cache = tmp_path
    first = sign(images, cache=cache)
    files = sorted(cache.rglob("*.signatures"))
    again = sign(images, np.array([2, 0, 1]), cache=cache)
    assert sorted(cache.rglob("*.signatures")) == files  # nothing was decoded
    assert again.keys.tolist() == first.keys[[2, 0, 1]].tolist()
    assert again.signatures.tobytes() == first.signatures[[2, 0, 1]].tobytes()
