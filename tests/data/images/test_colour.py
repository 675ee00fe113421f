from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from anglehash.data.images.decoding import Limits, Preprocessing, decode

# 40 wide, 32 high, smooth, and different under every turn and mirror image
ROW, COLUMN = np.mgrid[0:32, 0:40]
PIXELS = np.stack([6 * COLUMN, 7 * ROW, 3 * COLUMN + 2 * ROW], axis=2).astype(np.uint8)
PICTURE = Image.fromarray(PIXELS)

LOSSLESS: dict[str, dict[str, Any]] = {
    "PNG": {},
    "TIFF": {"compression": "tiff_lzw"},
    "WEBP": {"lossless": True},
}


def encode(image: Image.Image = PICTURE, format: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def exif(orientation: int) -> bytes:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags.tobytes()


# --- modes: golden pixels --------------------------------------------------------------------------------


def flat(mode: str, value: Any) -> Image.Image:
    return Image.new(mode, (8, 8), value)


PALETTE = Image.new("P", (8, 8), 1)
PALETTE.putpalette([1, 2, 3, 40, 50, 60])


@pytest.mark.parametrize(
    ("data", "rgb"),
    [
        (encode(flat("1", 1)), (255, 255, 255)),
        (encode(flat("L", 70)), (70, 70, 70)),
        (encode(PALETTE), (40, 50, 60)),
        (encode(PALETTE, transparency=0), (40, 50, 60)),
        (encode(PALETTE, transparency=1), (255, 255, 255)),
        (encode(PALETTE, "GIF", transparency=1), (255, 255, 255)),
        # 153 / 255 = 0.6: 0.6 * 40 + 0.4 * 255 = 126, 0.6 * 50 + 102 = 132, 0.6 * 60 + 102 = 138
        (encode(PALETTE, transparency=b"\xff\x99"), (126, 132, 138)),
        (encode(flat("RGBA", (200, 100, 0, 153))), (222, 162, 102)),
        (encode(flat("RGBA", (200, 100, 0, 0))), (255, 255, 255)),
        (encode(flat("LA", (100, 153))), (162, 162, 162)),
        (encode(flat("RGBA", (200, 100, 0, 153)), "WEBP", lossless=True), (222, 162, 102)),
        (encode(flat("L", 70), transparency=70), (255, 255, 255)),
        (encode(flat("RGB", (9, 8, 7)), transparency=(9, 8, 7)), (255, 255, 255)),
        # (255 - 55) * (255 - 51) / 255 = 160, (255 - 105) * 0.8 = 120, (255 - 155) * 0.8 = 80
        (encode(flat("CMYK", (55, 105, 155, 51)), "TIFF"), (160, 120, 80)),
    ],
)
def test_every_mode_has_a_defined_colour(data: bytes, rgb: tuple[int, int, int]) -> None:
    pixels = decode(data).pixels
    assert pixels.shape == (8, 8, 3)
    assert {tuple(map(int, p)) for p in pixels.reshape(-1, 3)} == {rgb}


def test_a_cmyk_jpeg_is_not_inverted() -> None:
    pixels = decode(encode(flat("CMYK", (55, 105, 155, 51)), "JPEG", quality=100)).pixels
    assert abs(pixels.astype(int) - (160, 120, 80)).max() <= 2


def test_alpha_lies_over_the_chosen_background() -> None:
    # 0.6 * (200, 100, 0) + 0.4 * (0, 50, 100)
    data = encode(flat("RGBA", (200, 100, 0, 153)))
    assert decode(data, background=(0, 50, 100)).pixels[0, 0].tolist() == [120, 80, 40]
    assert Preprocessing(size=8, background=(0, 50, 100))(data)[0, 0].tolist() == [120, 80, 40]


def test_a_tiff_with_alpha_multiplied_in() -> None:
    data = bytearray(encode(flat("LA", (60, 153)), "TIFF"))
    unassociated = (338).to_bytes(2, "little") + b"\x03\0\1\0\0\0\2"  # the tag ExtraSamples
    assert data.count(unassociated) == 1
    data = data.replace(unassociated, unassociated[:-1] + b"\1")  # 60 is 0.6 * 100 now
    assert decode(bytes(data)).pixels[0, 0].tolist() == [162, 162, 162]


DEEP = np.tile(np.linspace(0, 65535, 256).astype(np.uint16), (8, 1))  # 0, 257, 514 ...


@pytest.mark.parametrize(
    "data",
    [
        encode(Image.fromarray(DEEP)),
        encode(Image.fromarray(DEEP), "TIFF"),
        encode(Image.fromarray(DEEP), "TIFF", compression="tiff_lzw"),
        encode(Image.fromarray(DEEP.astype(">u2")), "TIFF"),
        encode(Image.fromarray((DEEP / 65535).astype(np.float32)), "TIFF"),
        encode(Image.fromarray((DEEP * 9.0 - 7e4).astype(np.float32)), "TIFF"),
        encode(Image.fromarray(DEEP.astype(np.int32) - 40000), "TIFF"),
    ],
    ids=["png", "tiff", "lzw", "big-endian", "float 0..1", "float", "signed"],
)
def test_deep_grey_is_scaled_and_keeps_its_levels(data: bytes) -> None:
    expected = np.repeat(np.tile(np.arange(256), (8, 1))[:, :, None], 3, axis=2)
    assert abs(decode(data, limits=Limits(max_aspect=99)).pixels.astype(int) - expected).max() <= 1


def test_a_float_image_in_0_to_1_is_not_stretched() -> None:
    values = np.full((8, 8), 0.2, dtype=np.float32)
    values[0] = (0.4, np.nan, np.inf, -np.inf, 0.2, 0.2, 0.2, 0.2)
    pixels = decode(encode(Image.fromarray(values), "TIFF")).pixels[:, :, 0]
    assert pixels[0, :5].tolist() == [102, 0, 255, 0, 51]


def test_a_flat_float_image_outside_0_to_1_is_black() -> None:
    assert not decode(encode(Image.new("F", (8, 8), 7.5), "TIFF")).pixels.any()


def test_a_12_bit_tiff_uses_its_whole_range() -> None:
    # One strip of 8 rows of 8 pixels, 12 bits each: pairs of 0xFFF and 0x800.
    tags = [(256, 8), (257, 8), (258, 12), (259, 1), (262, 1), (273, 8), (277, 1), (278, 8), (279, 96)]
    strip = b"\xff\xf8\x00" * 32
    entries = b"".join(
        tag.to_bytes(2, "little") + b"\3\0\1\0\0\0" + value.to_bytes(4, "little") for tag, value in tags
    )
    directory = len(tags).to_bytes(2, "little") + entries + bytes(4)
    data = b"II*\0" + (8 + len(strip)).to_bytes(4, "little") + strip + directory
    assert decode(data).pixels[0, :2, 0].tolist() == [255, 128]


# --- orientation -----------------------------------------------------------------------------------------

# What a camera stores, so that its orientation tag turns it into PIXELS.
STORED = {
    1: PIXELS,
    2: PIXELS[:, ::-1],
    3: PIXELS[::-1, ::-1],
    4: PIXELS[::-1],
    5: PIXELS.transpose(1, 0, 2),
    6: PIXELS.transpose(1, 0, 2)[::-1],
    7: PIXELS.transpose(1, 0, 2)[::-1, ::-1],
    8: PIXELS.transpose(1, 0, 2)[:, ::-1],
}


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("format", LOSSLESS)
def test_every_orientation_gives_the_upright_pixels(format: str, orientation: int) -> None:
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation]))
    data = encode(stored, format, exif=exif(orientation), **LOSSLESS[format])
    np.testing.assert_array_equal(decode(data).pixels, PIXELS)
    np.testing.assert_array_equal(Preprocessing(size=16)(data), Preprocessing(size=16)(PIXELS))
    opened = Image.open(io.BytesIO(data))
    np.testing.assert_array_equal(Preprocessing(size=16)(opened), Preprocessing(size=16)(PIXELS))


def test_a_jpeg_is_turned_like_its_pixels() -> None:
    turned = decode(encode(format="JPEG", exif=exif(6))).pixels
    np.testing.assert_array_equal(turned, np.rot90(decode(encode(format="JPEG")).pixels, k=-1))


@pytest.mark.parametrize(
    "damaged", [b"Exif\0\0nonsense", exif(6)[:-9], exif(6)[:12], exif(9)], ids=["text", "cut", "empty", "9"]
)
def test_damaged_exif_data_are_ignored_with_a_note(damaged: bytes) -> None:
    decoded = decode(encode(format="JPEG", exif=damaged))
    np.testing.assert_array_equal(decoded.pixels, decode(encode(format="JPEG")).pixels)
    assert decoded.notes or damaged == exif(9)  # a number that is not an orientation is not damage
