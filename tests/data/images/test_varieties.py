"""Every lawful PNG, BMP, JPEG and GIF comes out as its 8-bit twin, or is refused as ``unsupported-format``."""

from __future__ import annotations

import io
import struct
import zlib
from collections import Counter
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from anglehash.data.images.decoding import UNREAD_TEXT, Limits, Preprocessing, decode
from anglehash.data.images.pillow import reads_heic
from anglehash.errors import ImageError
from tests.data.images.png_and_bmp_files import (
    GREY,
    GREY_ALPHA,
    PALETTE,
    RGB,
    RGBA,
    chunk,
    write_bmp,
    write_png,
)

ROW, COLUMN = np.mgrid[0:17, 0:21]
PICTURE = np.stack(
    [COLUMN * 255 / 20, ROW * 255 / 16, (COLUMN + ROW) * 255 / 36], axis=2
)  # 0..255, not rounded
ALPHA = (20 - COLUMN)[:, :, None] * 255 / 20
MARKED = (5, 7)  # the pixel whose colour is the transparent one

Meant = NDArray[np.float64]  # (h, w, 3), 0..255


def whole(values: Any, bits: int) -> NDArray[np.int64]:
    return np.asarray(np.rint(np.asarray(values) / 255 * (2**bits - 1)), dtype=np.int64)


def over_white(colours: Any, alpha: Any) -> Meant:
    return np.asarray(colours * alpha / 255 + 255 - alpha, dtype=float)


def colours_of_palette(count: int) -> NDArray[np.int64]:
    n = np.arange(count)
    return np.stack([n * 37 % 256, n * 91 % 256, (n * 11 + 5) % 256], axis=1)


def read(data: bytes) -> NDArray[np.uint8] | None:
    """The pixels; nothing where the variety is not read. Any other refusal is an error."""
    try:
        return decode(data).pixels
    except ImageError as error:
        if error.reason != "unsupported-format":
            raise
        return None


# --- PNG -------------------------------------------------------------------------------------------------

PNG_KINDS = [
    *((GREY, bits, key) for bits in (1, 2, 4, 8, 16) for key in (0, 1)),
    *((RGB, bits, key) for bits in (8, 16) for key in (0, 1)),
    *((PALETTE, bits, key) for bits in (1, 2, 4, 8) for key in (0, 1)),
    *((kind, bits, 0) for kind in (GREY_ALPHA, RGBA) for bits in (8, 16)),
]  # fmt: skip


def png_twin(kind: int, bits: int, key: int) -> tuple[NDArray[np.int64], bytes, Meant]:
    """Samples, the chunks that go with them, and what they mean."""
    top = 2**bits - 1
    if kind == PALETTE:
        colours = colours_of_palette(2**bits)
        samples = ((ROW * 21 + COLUMN) % 2**bits)[:, :, None]
        meant = colours[samples[:, :, 0]].astype(float)
        chunks = chunk(b"PLTE", colours.astype(np.uint8).tobytes())
        if not key:
            return samples, chunks, meant
        alphas = np.append(
            np.arange(top) * 50 % 256, 255
        )  # the last one is left out of the file, so it is opaque
        chunks += chunk(b"tRNS", alphas[:top].astype(np.uint8).tobytes())
        return samples, chunks, over_white(meant, alphas[samples[:, :, 0]][:, :, None])
    if kind in (GREY_ALPHA, RGBA):
        colours = PICTURE if kind == RGBA else PICTURE[:, :, 2:]
        samples = whole(np.concatenate([colours, ALPHA], axis=2), bits)
        meant = np.broadcast_to(samples[:, :, :-1] * 255 / top, PICTURE.shape)
        return samples, b"", over_white(meant, samples[:, :, -1:] * 255 / top)
    samples = whole(PICTURE if kind == RGB else PICTURE[:, :, 2:], bits)
    if bits == 16:
        samples[5, 8] = samples[MARKED] + 1  # differs in its low bits alone
    meant = np.broadcast_to(samples * 255 / top, PICTURE.shape).astype(float)
    if not key:
        return samples, b"", meant
    marked = samples[MARKED]
    chunks = chunk(b"tRNS", b"".join(struct.pack(">H", int(value)) for value in marked))
    return samples, chunks, np.where((samples == marked).all(axis=2, keepdims=True), 255.0, meant)


@pytest.mark.parametrize(("kind", "bits", "key"), PNG_KINDS)
@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("split", [0, 7])
def test_a_png_is_right(kind: int, bits: int, key: int, interlaced: bool, split: int) -> None:
    samples, chunks, meant = png_twin(kind, bits, key)
    data = write_png(samples, bits, kind, interlaced=interlaced, chunks=chunks, split=split)
    assert abs(decode(data).pixels - meant).max() <= (2 if kind in (GREY_ALPHA, RGBA) else 1.01)


@pytest.mark.parametrize(
    ("kind", "bits", "key"), [k for k in PNG_KINDS if k[0] in (GREY, RGB, RGBA) and not k[2]]
)
def test_another_decoder_finds_the_png_that_was_written(kind: int, bits: int, key: int) -> None:
    cv2 = pytest.importorskip("cv2", reason="the second decoder of PNG and BMP is OpenCV")
    samples, chunks, _ = png_twin(kind, bits, key)
    for interlaced in (False, True):
        data = write_png(samples, bits, kind, interlaced=interlaced, chunks=chunks)
        found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        expected = samples if bits >= 8 else samples * 255 // (2**bits - 1)
        order = {1: [0], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[samples.shape[2]]
        np.testing.assert_array_equal(found.reshape(samples.shape), expected[:, :, order])


def test_a_transparent_colour_survives_preprocessing_and_orientation() -> None:
    samples, chunks, meant = png_twin(RGB, 16, 1)
    turn = Image.Exif()
    turn[0x0112] = 3
    data = write_png(
        samples, 16, RGB, chunks=chunks + chunk(b"eXIf", turn.tobytes().removeprefix(b"Exif\0\0"))
    )
    assert abs(decode(data).pixels - meant[::-1, ::-1]).max() <= 1.01
    fresh = Image.open(io.BytesIO(data))
    np.testing.assert_array_equal(Preprocessing(size=16)(fresh), Preprocessing(size=16)(data))


@pytest.mark.parametrize("name", [b"zTXt", b"iTXt", b"iCCP"])
def test_a_png_with_much_text_is_read(name: bytes) -> None:
    samples, _, meant = png_twin(RGB, 8, 0)
    start = {b"zTXt": b"note\0\0", b"iTXt": b"note\0\1\0\0\0", b"iCCP": b"icc\0\0"}[name]
    text = chunk(name, start + zlib.compress(bytes(3_000_000)))
    whole_file = write_png(samples, 8, RGB, chunks=text)
    behind = write_png(samples, 8, RGB)
    behind = behind[:-12] + text + behind[-12:]
    for data in (whole_file, behind) if name != b"iCCP" else (whole_file,):
        decoded = decode(data)
        assert abs(decoded.pixels - meant).max() <= 1
        assert decoded.notes == (UNREAD_TEXT,)


# --- BMP -------------------------------------------------------------------------------------------------


def ramps(bits: int) -> dict[str, NDArray[np.int64]]:
    steps = np.arange(2**bits)
    grey = np.repeat((steps * 255 // (2**bits - 1))[:, None], 3, axis=1)
    return {"colour": colours_of_palette(2**bits), "ramp": grey, "negative": 255 - grey} | {
        "indices": np.repeat(steps[:, None], 3, axis=1)
    }


@pytest.mark.parametrize("header", [12, 40, 52, 56, 64, 108, 124])
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_a_bmp_with_a_palette_is_right_or_unsupported(header: int, bits: int) -> None:
    palettes = ramps(bits)
    if header > 12:  # it tells how many colours there are
        palettes |= {
            "two": np.array([[0] * 3, [255] * 3]),
            "three": np.array([[0] * 3, [1] * 3, [2] * 3])[: 2**bits],
        }
    outcomes: Counter[str] = Counter()
    for (name, palette), top_down in (
        (p, t) for p in palettes.items() for t in (False, True) if header > 12 or not t
    ):
        samples = ((ROW * 3 + COLUMN) % len(palette))[:, :, None]
        run_lengths = {8: [1], 4: [2]}.get(bits, []) if header > 12 and not top_down else []
        for compression in (0, *run_lengths):
            data = write_bmp(
                samples, bits, palette=palette, header=header, top_down=top_down, compression=compression
            )
            pixels = read(data)
            if pixels is None:
                outcomes["refused"] += 1
                continue
            np.testing.assert_array_equal(pixels, palette[samples[:, :, 0]], err_msg=f"{name} {compression}")
            outcomes["right"] += 1
    assert outcomes["right"] >= 3 * (bits != 2)


MASKS = [
    (16, (0xF800, 0x7E0, 0x1F)), (16, (0x7C00, 0x3E0, 0x1F)), (16, (0xF00, 0xF0, 0xF)),
    (16, (0xF00, 0xF0, 0xF, 0xF000)), (16, (0x7C00, 0x3E0, 0x1F, 0x8000)), (24, (0xFF0000, 0xFF00, 0xFF)),
    (24, (0xFF, 0xFF00, 0xFF0000)),
    (32, (0xFF0000, 0xFF00, 0xFF)), (32, (0xFF, 0xFF00, 0xFF0000)), (32, (0xFF0000, 0xFF00, 0xFF, 0xFF000000)),
    (32, (0xFF, 0xFF00, 0xFF0000, 0xFF000000)), (32, (0xFF000000, 0xFF0000, 0xFF00, 0xFF)),
    (32, (0x3FF00000, 0xFFC00, 0x3FF)), (32, (0xFF0000, 0xFF00, 0xFF, 0x7F000000)), (32, (0x1F0000, 0x1F00, 0x1F)),
]  # fmt: skip


def packed(masks: tuple[int, ...]) -> tuple[NDArray[np.int64], Meant]:
    """Pixels of these bit fields, and what they mean."""
    pixels, bands = np.zeros(ROW.shape, dtype=np.int64), []
    for mask, values in zip(masks, np.moveaxis(np.concatenate([PICTURE, ALPHA], axis=2), 2, 0), strict=False):
        shift = (mask & -mask).bit_length() - 1
        top = mask >> shift
        numbers = np.rint(values / 255 * top).astype(np.int64)
        pixels |= numbers << shift
        bands.append(numbers * 255 / top)
    meant = np.stack(bands[:3], axis=2)
    return pixels[:, :, None], over_white(meant, bands[3][:, :, None]) if len(bands) > 3 else meant


@pytest.mark.parametrize("header", [40, 52, 56, 108, 124])
@pytest.mark.parametrize(("bits", "masks"), MASKS)
def test_a_bmp_of_bit_fields_is_right_or_unsupported(header: int, bits: int, masks: tuple[int, ...]) -> None:
    samples, meant = packed(masks)
    compression = 6 if header == 40 and len(masks) == 4 else 3
    if header == 52 and len(masks) == 4:
        pytest.skip("this header has no room for alpha")
    for top_down in (False, True):
        data = write_bmp(
            samples, bits, masks=masks, compression=compression, header=header, top_down=top_down
        )
        pixels = read(data)
        assert pixels is None or abs(pixels - meant).max() <= (9 if bits == 16 else 1.01)


@pytest.mark.parametrize("header", [12, 40, 108, 124])
@pytest.mark.parametrize(
    ("bits", "masks"),
    [(24, (0xFF0000, 0xFF00, 0xFF)), (32, (0xFF0000, 0xFF00, 0xFF)), (16, (0x7C00, 0x3E0, 0x1F))],
)
def test_a_plain_bmp_is_right(header: int, bits: int, masks: tuple[int, ...]) -> None:
    samples, meant = packed(masks)
    if header == 12 and bits != 24:
        pytest.skip("this header knows no such depth")
    assert abs(decode(write_bmp(samples, bits, header=header)).pixels - meant).max() <= 1.01


def test_a_bmp_that_is_cut_is_truncated() -> None:
    samples, _ = packed((0xFF0000, 0xFF00, 0xFF))
    with pytest.raises(ImageError) as caught:
        decode(write_bmp(samples, 32, masks=(0xFF0000, 0xFF00, 0xFF), compression=3)[:-300])
    assert caught.value.reason == "truncated"


# --- JPEG and GIF ----------------------------------------------------------------------------------------


def jpeg(size: tuple[int, int] = (40, 32), **options: Any) -> bytes:
    file = io.BytesIO()
    Image.linear_gradient("L").resize(size).convert("RGB").save(file, "JPEG", **options)
    return file.getvalue()


def with_frame(marker: int, bits: int, components: int | None = None) -> bytes:
    data = bytearray(jpeg())
    at = data.index(b"\xff\xc0")
    data[at + 1], data[at + 4] = marker, bits
    if components is not None:
        data[at + 9] = components
    return bytes(data)


@pytest.mark.parametrize(
    "data",
    [
        with_frame(0xC1, 12),
        with_frame(0xC3, 16),
        with_frame(0xC5, 8),
        with_frame(0xF7, 8),
        with_frame(0xCB, 8),
        with_frame(0xC0, 8, 2),
    ],
    ids=["12 bits", "lossless 16 bits", "hierarchical", "JPEG-LS", "lossless arithmetic", "two components"],
)  # fmt: skip
def test_a_jpeg_of_a_kind_that_is_not_read_is_unsupported(data: bytes) -> None:
    with pytest.raises(ImageError) as caught:
        decode(data)
    assert caught.value.reason == "unsupported-format"


@pytest.mark.parametrize("draft", [None, 64])
def test_a_jpeg_above_the_limit_is_decoded_at_half_its_size(draft: int | None) -> None:
    data, limits = jpeg((400, 300)), Limits(max_pixels=60_000)
    decoded = decode(data, draft=draft, limits=limits)
    assert decoded.pixels.shape == ((150, 200, 3) if draft is None else (75, 100, 3))
    assert decoded.notes == ("400x300: decoded at 1/2 of its size",)
    np.testing.assert_array_equal(decode(data, draft=150).pixels, decode(data, limits=limits).pixels)


@pytest.mark.parametrize(
    ("data", "limit"),
    [
        (jpeg((400, 300)), 29_999),
        (jpeg((400, 300), progressive=True), 60_000),
        (jpeg((400, 300), progressive=True), 119_999),
    ],
    ids=["more than four times", "progressive", "barely"],
)
def test_a_jpeg_that_would_fill_the_memory_is_too_large(data: bytes, limit: int) -> None:
    with pytest.raises(ImageError) as caught:
        decode(data, limits=Limits(max_pixels=limit))
    assert caught.value.reason == "too-large"


def test_a_photograph_of_108_megapixels_is_decoded() -> None:
    file = io.BytesIO()
    Image.new("L", (12_000, 9_000), 77).save(file, "JPEG", quality=30)
    assert Preprocessing(size=64)(file.getvalue()).mean() == pytest.approx(77, abs=1)


def gif(transparent: int | None) -> bytes:
    """A frame of 8 x 8 in a screen of 16 x 16."""
    palette = np.array([[10, 20, 30], [200, 0, 0], [0, 200, 0], [0, 0, 200]], dtype=np.uint8).tobytes()
    control = b"" if transparent is None else b"\x21\xf9\4\1\0\0" + bytes([transparent]) + b"\0"
    codes = [code for _ in range(32) for code in (4, 1, 2)] + [5]  # cleared before it outgrows 3 bits
    bits = "".join(f"{code:03b}"[::-1] for code in codes)
    packed_codes = bytes(int(bits[at : at + 8][::-1], 2) for at in range(0, len(bits), 8))
    image = (
        b"," + struct.pack("<4HB", 4, 4, 8, 8, 0) + b"\2" + bytes([len(packed_codes)]) + packed_codes + b"\0"
    )
    return b"GIF89a" + struct.pack("<HHBBB", 16, 16, 0xF1, 3, 0) + palette + control + image + b";"


@pytest.mark.parametrize("transparent", [None, 2])
def test_what_a_gif_frame_does_not_cover_is_transparent(transparent: int | None) -> None:
    pixels = decode(gif(transparent)).pixels
    assert pixels[0, 0].tolist() == pixels[15, 15].tolist() == [255, 255, 255]
    assert pixels[4, 4].tolist() == [200, 0, 0]
    assert pixels[4, 5].tolist() == ([0, 200, 0] if transparent is None else [255, 255, 255])


# --- HEIC ------------------------------------------------------------------------------------------------


def test_heic_is_read_by_an_extra_or_names_it() -> None:
    if not reads_heic():
        with pytest.raises(ImageError, match=r"anglehash\[heic\]") as caught:
            decode(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40))
        assert caught.value.reason == "unsupported-format"
        return
    with pytest.raises(ImageError) as caught:  # no header that can be read, but this decoder is asked
        decode(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40))
    assert caught.value.reason in ("damaged", "not-an-image", "truncated")
