"""Every lawful TIFF comes out as its 8-bit twin, or is refused as ``unsupported-format``."""

from __future__ import annotations

import io
import itertools
import logging
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from anglehash.data.images.decoding import Preprocessing, decode
from anglehash.errors import ImageError
from tests.data.images.tiff_files import FLOAT, SIGNED, UNSIGNED, Layout, Samples, write_tiff

ROW, COLUMN = np.mgrid[0:17, 0:21]
PICTURE = np.stack(
    [COLUMN * 255 / 20, ROW * 255 / 16, (COLUMN + ROW) * 255 / 36], axis=2
)  # 0..255, not rounded
ALPHA = (20 - COLUMN)[:, :, None] * 255 / 20

GREY_NEGATIVE, GREY, RGB, PALETTE, CMYK, YCBCR = 0, 1, 2, 3, 5, 6


class Twin(NamedTuple):
    """What is stored, and the ``(h, w, 3)`` picture that it means, 0..255."""

    samples: Samples
    palette: NDArray[np.uint16] | None
    picture: NDArray[np.float64]


def stored(values: NDArray[np.float64], layout: Layout) -> tuple[Samples, NDArray[np.float64]]:
    """Values of 0..255 in the file's numbers, and what is left of them there."""
    if layout.kind == FLOAT:
        return values / 255, values
    top = 2.0**layout.bits - 1
    whole = np.floor(values / 255 * top) if layout.bits == 64 else np.rint(values / 255 * top)
    numbers = np.where(whole >= 2.0**63, 2**63, 0).astype(np.uint64) + (whole % 2.0**63).astype(np.uint64)
    if layout.kind == SIGNED:
        return (numbers - np.uint64(2 ** (layout.bits - 1))).view(np.int64), whole / top * 255
    return numbers, whole / top * 255


def twin(layout: Layout) -> Twin:
    palette = None
    match layout.photometric:
        case 0 | 1:
            colours = PICTURE[:, :, 2:]
            samples, meant = stored(255 - colours if layout.photometric == 0 else colours, layout)
            meant = np.repeat(255 - meant if layout.photometric == 0 else meant, 3, axis=2)
        case 2:
            samples, meant = stored(PICTURE, layout)
        case 3:
            count = 2**layout.bits
            samples = ((ROW * 21 + COLUMN) % count)[:, :, None]
            numbers = np.arange(count)
            colours = np.stack([numbers * 37 % 256, numbers * 91 % 256, (numbers * 11 + 100) % 256], axis=1)
            palette, meant = (colours * 257).astype(np.uint16), colours[samples[:, :, 0]].astype(float)
        case 5:
            ink = np.concatenate([255 - PICTURE, np.broadcast_to(ROW[:, :, None] * 3.0, ALPHA.shape)], axis=2)
            samples, left = stored(ink, layout)
            meant = (255 - left[:, :, :3]) * (255 - left[:, :, 3:]) / 255
        case _:
            luma = np.rint(PICTURE.mean(axis=2))
            samples = np.stack([luma, np.full_like(luma, 100), np.full_like(luma, 150)], axis=2).astype(
                np.int64
            )
            blue, red = 100 - 128, 150 - 128
            offsets = (1.402 * red, -0.344136 * blue - 0.714136 * red, 1.772 * blue)
            meant = np.clip(np.stack([luma + offset for offset in offsets], axis=2), 0, 255)
    if layout.extra is None:
        return Twin(samples, palette, meant)
    alpha, left = stored(ALPHA, layout)
    over = meant * left / 255 + 255 - left
    if layout.extra == 1:
        samples, _ = stored((meant * left / 255)[:, :, : samples.shape[2]], layout)
    return Twin(np.concatenate([samples, alpha], axis=2), palette, over if layout.extra else meant)


def kinds(*depths: tuple[int, tuple[int, ...]]) -> list[tuple[int, int]]:
    return [(kind, bits) for kind, many in depths for bits in many]


WHOLE = (UNSIGNED, (1, 2, 4, 8, 12, 16, 32, 64)), (SIGNED, (8, 16, 32, 64)), (FLOAT, (16, 32, 64))
KINDS = {
    GREY_NEGATIVE: kinds(*WHOLE),
    GREY: kinds(*WHOLE),
    RGB: kinds((UNSIGNED, (2, 4, 8, 16, 32, 64)), (SIGNED, (8, 16, 32)), (FLOAT, (16, 32, 64))),
    PALETTE: kinds((UNSIGNED, (1, 2, 4, 8))),
    CMYK: kinds((UNSIGNED, (8, 16))),
    YCBCR: kinds((UNSIGNED, (8,))),
}
EXTRA = {GREY_NEGATIVE: (None, 0), GREY: (None, 0, 1, 2), RGB: (None, 0, 1, 2), CMYK: (None, 0)}
BASES = [
    (photometric, kind, bits, extra)
    for photometric in KINDS
    for kind, bits in KINDS[photometric]
    for extra in EXTRA.get(photometric, (None,))
]


def layouts(photometric: int, kind: int, bits: int, extra: int | None) -> Iterator[Layout]:
    shapes: list[dict[str, Any]] = [{}, {"rows": 5}, {"tile": 16}, {"fill": 2}, {"big_tiff": True}]
    for compression, planar, big_endian, predictor, shape in itertools.product(
        (1, 5, 8, 32773), (1, 2), (False, True), (1, 2, 3), shapes
    ):
        one_plane = photometric in (GREY_NEGATIVE, GREY, PALETTE) and extra is None
        if shape and (big_endian or predictor > 1 or compression not in (1, 5)):
            continue  # these do not know of each other
        differences = compression in (5, 8) and bits in (8, 16, 32, 64) and "fill" not in shape
        if (planar == 2 and one_plane) or (
            predictor > 1 and not (differences and (predictor == 3) == (kind == FLOAT))
        ):
            continue
        yield Layout(
            photometric=photometric, kind=kind, bits=bits, extra=extra, compression=compression, planar=planar,
            big_endian=big_endian, predictor=predictor, **shape,
        )  # fmt: skip


def tolerance(layout: Layout) -> float:
    """Of 255: rounding; more where 16 bits lose their low half before colours are multiplied."""
    return 3 if layout.extra is not None or layout.photometric in (CMYK, YCBCR) else 1.01


def read(data: bytes) -> NDArray[np.uint8] | None:
    """The pixels; nothing where the variety is not read. Any other refusal is an error."""
    try:
        return decode(data).pixels
    except ImageError as error:
        if error.reason != "unsupported-format":
            raise
        return None


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)


@pytest.mark.parametrize("base", BASES, ids=str)
def test_a_lawful_tiff_is_right_or_unsupported(base: tuple[int, int, int, int | None]) -> None:
    outcomes: Counter[str] = Counter()
    for layout in layouts(*base):
        samples, palette, picture = twin(layout)
        pixels = read(write_tiff(samples, layout, palette))
        if pixels is None:
            outcomes["refused"] += 1
            continue
        assert abs(pixels - picture).max() <= tolerance(layout), layout
        outcomes["right"] += 1
    assert outcomes["right"] or base[:3] not in READ or base[3] is not None, outcomes


READ = {
    *((photometric, UNSIGNED, bits) for photometric in (GREY_NEGATIVE, GREY) for bits in (1, 2, 4, 8, 16)),
    *((PALETTE, UNSIGNED, bits) for bits in (1, 2, 4, 8)),
    *((photometric, UNSIGNED, bits) for photometric in (RGB, CMYK) for bits in (8, 16)),
    (GREY, UNSIGNED, 12), (GREY, UNSIGNED, 32), (GREY, SIGNED, 16), (GREY, SIGNED, 32), (GREY, FLOAT, 32),
    (GREY_NEGATIVE, FLOAT, 32), (YCBCR, UNSIGNED, 8),
}  # fmt: skip
"""Colours, kinds and depths of which the plain layout must be read."""


@pytest.mark.parametrize("base", sorted(READ))
def test_what_is_read_stays_read(base: tuple[int, int, int]) -> None:
    layout = Layout(photometric=base[0], kind=base[1], bits=base[2])
    samples, palette, picture = twin(layout)
    assert abs(decode(write_tiff(samples, layout, palette)).pixels - picture).max() <= tolerance(layout)


@pytest.mark.parametrize("photometric", KINDS)
def test_another_decoder_finds_the_samples_that_were_written(photometric: int) -> None:
    confirmed = 0
    for layout in (layout for base in BASES if base[0] == photometric for layout in layouts(*base)):
        samples, palette, _ = twin(layout)
        try:
            found = tifffile.imread(io.BytesIO(write_tiff(samples, layout, palette)))
        except (ValueError, ImportError, RuntimeError):  # needs a codec that is not installed
            continue
        planes = np.moveaxis(samples, 2, 0) if layout.planar == 2 and samples.shape[2] > 1 else samples
        expected = planes.astype(layout.dtype) if layout.bits % 8 == 0 else planes
        np.testing.assert_array_equal(found.reshape(planes.shape), expected, err_msg=str(layout))
        confirmed += 1
    assert confirmed >= 10


@pytest.mark.parametrize(
    ("mode", "compression"),
    [
        ("1", "group3"),
        ("1", "group4"),
        ("1", "tiff_ccitt"),
        ("RGB", "jpeg"),
        ("L", "jpeg"),
        ("CMYK", "tiff_lzw"),
    ],
)
def test_compressions_that_only_libtiff_writes(mode: str, compression: str) -> None:
    image, file = Image.fromarray(PICTURE.astype(np.uint8)).convert(mode), io.BytesIO()
    image.save(file, "TIFF", compression=compression)
    assert abs(decode(file.getvalue()).pixels - np.asarray(image.convert("RGB"), dtype=float)).mean() < 2


def plain(**settings: Any) -> bytes:
    layout = Layout(photometric=GREY, bits=8, **settings)
    return write_tiff(twin(layout).samples, layout)


def with_tag(data: bytes, tag: int, value: int) -> bytes:
    """The file with another value of one tag of the type SHORT."""
    at = data.rindex(tag.to_bytes(2, "little") + b"\3\0\1\0\0\0")
    return data[: at + 8] + value.to_bytes(2, "little") + data[at + 10 :]


@pytest.mark.parametrize("compression", [34712, 34887, 34925 + 8, 50001, 50002, 50013, 6, 32809])
def test_a_compression_that_is_not_known_is_unsupported(
    compression: int, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ImageError) as caught:
        decode(with_tag(plain(), 259, compression))
    assert caught.value.reason == "unsupported-format"


@pytest.mark.parametrize("photometric", [4, 9, 10, 32803, 32844, 32845, 34892])
def test_colours_that_are_not_known_are_unsupported(photometric: int) -> None:
    with pytest.raises(ImageError) as caught:
        decode(with_tag(plain(), 262, photometric))
    assert caught.value.reason == "unsupported-format"


def test_the_pixels_of_a_damaged_tiff_are_damaged_or_missing(capfd: pytest.CaptureFixture[str]) -> None:
    whole = plain(compression=8)
    for data, reason in ((whole[:8] + bytes(60) + whole[68:], "damaged"), (whole[:60], "truncated")):
        with pytest.raises(ImageError) as caught:
            decode(data)
        assert caught.value.reason == reason


def test_a_tiff_that_somebody_opened_with_pillow_is_read_like_its_file() -> None:
    for base in ((RGB, 16, 2), (GREY_NEGATIVE, 16, 1), (GREY_NEGATIVE, 8, 1)):
        layout = Layout(photometric=base[0], bits=base[1], planar=base[2])
        data = write_tiff(twin(layout).samples, layout)
        opened, loaded = (Image.open(io.BytesIO(data)) for _ in range(2))
        np.testing.assert_array_equal(Preprocessing(size=16)(opened), Preprocessing(size=16)(data))
        loaded.load()
        Preprocessing(size=16)(loaded)  # too late for planes, but no error
