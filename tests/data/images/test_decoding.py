from __future__ import annotations

import io
import json
import os
import re
import socket
import subprocess
import sys
import time
import zipfile
import zlib
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageFile

from anglehash.data.images.decoding import (
    REASONS,
    TRUNCATED,
    Limits,
    Preprocessing,
    decode,
    pixel_key,
    read_file,
)
from anglehash.data.images.pillow import FORMATS
from anglehash.errors import ConfigError, ImageError, ModelError

Pixels = NDArray[np.uint8]

# 40 wide, 32 high, smooth, and different under every turn and mirror image
ROW, COLUMN = np.mgrid[0:32, 0:40]
PIXELS = np.stack([6 * COLUMN, 7 * ROW, 3 * COLUMN + 2 * ROW], axis=2).astype(np.uint8)
PICTURE = Image.fromarray(PIXELS)


def encode(image: Image.Image = PICTURE, format: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def reason(data: bytes, **options: Any) -> str:
    with pytest.raises(ImageError) as caught:
        decode(data, **options)
    assert caught.value.reason in REASONS
    assert "\n" not in str(caught.value)
    return caught.value.reason


def exif(orientation: int) -> bytes:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags.tobytes()


# --- formats ---------------------------------------------------------------------------------------------

LOSSLESS: dict[str, dict[str, Any]] = {
    "PNG": {},
    "BMP": {},
    "TIFF": {"compression": "tiff_lzw"},
    "WEBP": {"lossless": True},
}


@pytest.mark.parametrize("format", LOSSLESS)
def test_lossless_formats_give_the_pixels_that_were_written(format: str) -> None:
    decoded = decode(encode(format=format, **LOSSLESS[format]))
    np.testing.assert_array_equal(decoded.pixels, PIXELS)
    assert decoded[1:] == (format, 1, ())


@pytest.mark.parametrize("format", sorted(set(FORMATS) - set(LOSSLESS)))
def test_other_formats_come_close(format: str) -> None:
    decoded = decode(encode(format=format))
    assert abs(decoded.pixels.astype(int) - PIXELS).mean() < 6
    assert decoded[1:] == (format, 1, ())


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "empty"),
        (b"holiday, 2024\n" * 9, "not-an-image"),
        (b"\xff\xd8\xff<html><body>404</body></html>" * 9, "not-an-image"),
        (b"\x89PNG\r\n\x1a\n", "not-an-image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "unsupported-format"),
    ],
)
def test_other_bytes_are_refused(data: bytes, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "Popen", None)  # Ghostscript would be started with it
    assert reason(data) == expected


def test_the_docs_list_every_reason() -> None:
    page = (Path(__file__).parents[3] / "docs" / "images.md").read_text()
    assert re.findall(r"^\| `([a-z-]+)` \|", page, re.MULTILINE) == list(REASONS)


def test_a_jpeg_with_a_zip_at_its_end_is_a_jpeg() -> None:
    jpeg, buffer = encode(format="JPEG"), io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("other.jpg", jpeg)
    np.testing.assert_array_equal(decode(jpeg + buffer.getvalue()).pixels, decode(jpeg).pixels)


# --- truncation and damage -------------------------------------------------------------------------------


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("kept", [0.5, -1, -2])
def test_a_jpeg_without_its_end_is_refused_or_salvaged(kept: float, progressive: bool) -> None:
    whole = encode(PICTURE.resize((400, 320)), "JPEG", progressive=progressive)
    cut = whole[: int(len(whole) * kept) if kept > 0 else int(kept)]
    assert reason(cut) == reason(cut, draft=64) == "truncated"
    truncated = decode(cut, allow_truncated=True)
    assert truncated.notes == (TRUNCATED,)
    if kept < 0:  # nothing but the end marker is missing
        np.testing.assert_array_equal(truncated.pixels, decode(whole).pixels)
    assert not ImageFile.LOAD_TRUNCATED_IMAGES
    assert reason(cut) == "truncated"
    assert Preprocessing(allow_truncated=True).noted(cut)[1] == (TRUNCATED,)


def test_salvage_changes_nothing_for_a_whole_file() -> None:
    assert decode(encode(format="JPEG"), allow_truncated=True).notes == ()


SEEDS = [
    encode(format="JPEG", exif=exif(6)),
    encode(format="JPEG", progressive=True),
    encode(PICTURE.convert("CMYK"), "JPEG"),
    encode(format="PNG", exif=exif(3)),
    encode(PICTURE.convert("P"), transparency=3),
    encode(format="PNG", save_all=True, append_images=[PICTURE.rotate(9)]),
    encode(PICTURE.convert("I;16")),
    encode(format="GIF", save_all=True, append_images=[PICTURE.rotate(9)]),
    encode(format="BMP"),
    encode(format="WEBP", exif=exif(5)),
    encode(format="WEBP", save_all=True, append_images=[PICTURE.rotate(9)]),
    encode(format="AVIF"),
    encode(format="TIFF", save_all=True, append_images=[PICTURE.rotate(9)], exif=exif(8)),
    encode(PICTURE.convert("F"), "TIFF"),
]


@pytest.mark.parametrize("whole", SEEDS)
def test_no_part_of_a_file_passes_for_the_picture(whole: bytes) -> None:
    expected = decode(whole).pixels
    for end in sorted({*range(0, len(whole), max(1, len(whole) // 40)), *range(len(whole) - 30, len(whole))}):
        with suppress(ImageError):
            np.testing.assert_array_equal(decode(whole[:end]).pixels, expected)


CUT = [
    encode(format="PNG"),
    encode(format="GIF"),
    encode(format="BMP"),
    encode(format="JPEG"),
    encode(format="WEBP"),
    encode(format="AVIF"),
    encode(format="TIFF"),
    encode(format="TIFF", compression="tiff_lzw"),
    encode(format="TIFF", compression="jpeg"),
    encode(format="TIFF", compression="tiff_adobe_deflate", big_tiff=True),
]


@pytest.mark.parametrize("whole", CUT)
@pytest.mark.parametrize("kept", [0.3, 0.5, 0.8])
def test_a_file_without_its_end_is_called_so(whole: bytes, kept: float) -> None:
    assert reason(whole[: int(len(whole) * kept)]) == "truncated"


Edits = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=8)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(SEEDS), Edits, st.floats(0.2, 1))
def test_damaged_bytes_are_decoded_or_refused(
    whole: bytes, edits: list[tuple[float, int]], kept: float
) -> None:
    data = bytearray(whole)
    for place, value in edits:
        data[int(place**2 * len(data))] = value  # headers more often than pixels
    damaged = bytes(data[: int(kept * len(data))] if kept < 0.5 else data)
    outcomes = []
    for draft in (None, 8):
        try:
            pixels = decode(damaged, draft=draft).pixels
            assert pixels.dtype == np.uint8
            assert pixels.shape[2:] == (3,)
            outcomes.append("read")
        except ImageError as error:
            outcomes.append(error.reason)
    assert outcomes[0] == outcomes[1]  # a draft is refused just as the whole


# --- sizes -----------------------------------------------------------------------------------------------


def png_of_size(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG that claims a size and holds 2 MB of zeros, packed to 2 kB."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\x02\0\0\0"
    pixels = zlib.compress(bytes(min(height * (3 * width + 1), 2_000_000)))
    parts = [(b"IHDR", header), *chunks, (b"IDAT", pixels), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((1, 1), "too-small"),
        ((7, 8), "too-small"),
        ((1, 20000), "too-small"),
        ((0, 8), "not-an-image"),
        ((8, 161), "too-elongated"),
        ((161, 8), "too-elongated"),
        ((10_000, 8_001), "too-large"),
        ((13_000, 13_000), "too-large"),
        ((20_000, 20_000), "too-large"),
        ((100_000, 100_000), "too-large"),
    ],
)
def test_sizes_that_are_refused_from_the_header(size: tuple[int, int], expected: str) -> None:
    data, seconds = png_of_size(*size), []
    for _ in range(3):  # the machine may be busy
        start = time.perf_counter()
        assert reason(data) == expected
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.05


def test_sizes_at_the_limits_are_decoded() -> None:
    assert decode(png_of_size(8, 160)).pixels.shape == (160, 8, 3)
    assert decode(png_of_size(9, 8)).pixels.shape == (8, 9, 3)
    assert decode(png_of_size(20, 20), limits=Limits(max_pixels=400)).pixels.shape == (20, 20, 3)
    assert reason(png_of_size(20, 20), limits=Limits(max_pixels=399)) == "too-large"


def test_bombs_take_little_memory(tmp_path: Path) -> None:
    (tmp_path / "bomb.png").write_bytes(png_of_size(13_000, 13_000))
    encode(Image.new("1", (10_000, 9_000)), "TIFF", compression="group4")
    (tmp_path / "bomb.tiff").write_bytes(
        encode(Image.new("1", (10_000, 9_000)), "TIFF", compression="group4")
    )
    text = (b"iTXt", b"note\0\1\0\0\0" + zlib.compress(bytes(40_000_000)))
    (tmp_path / "text.png").write_bytes(png_of_size(16, 16, text))
    profile = (b"iCCP", b"icc\0\0" + zlib.compress(bytes(40_000_000)))
    (tmp_path / "profile.png").write_bytes(png_of_size(16, 16, profile))
    script = (
        "import resource, sys\n"
        "from anglehash.data.images.decoding import decode, read_file\n"
        "from anglehash.errors import ImageError\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "before = peak()\n"
        "for path in sys.argv[1:]:\n"
        "    try:\n"
        "        decode(read_file(path))\n"
        "    except ImageError as error:\n"
        "        print(error.reason)\n"
        "print(peak() - before)\n"
    )
    files = [str(tmp_path / name) for name in ("bomb.png", "bomb.tiff", "text.png", "profile.png")]
    answer = subprocess.run(
        [sys.executable, "-c", script, *files], capture_output=True, text=True, check=True
    )
    *reasons, grown = answer.stdout.split()
    assert reasons == ["too-large", "too-large"]  # texts and profiles are passed over
    assert int(grown) < 20_000  # kB
    assert answer.stderr == ""


def test_a_file_of_too_many_bytes_is_not_decoded() -> None:
    data = encode()
    assert reason(data, limits=Limits(max_bytes=len(data) - 1)) == "too-large"
    assert decode(data, limits=Limits(max_bytes=len(data))).format == "PNG"


# --- frames ----------------------------------------------------------------------------------------------


THREE: dict[str, Any] = {"save_all": True, "append_images": [PICTURE.rotate(9), PICTURE.rotate(60)]}


def gif_of_frames(count: int) -> bytes:
    one = encode(format="GIF")
    start = one.index(b",", 13 + 3 * 2 ** ((one[10] & 7) + 1))
    return one[:start] + one[start:-1] * count + b";"


@pytest.mark.parametrize(
    ("data", "frames"),
    [
        (gif_of_frames(2), 0),
        (encode(format="TIFF", **THREE), 0),
        (encode(format="PNG", **THREE), 3),
        (
            encode(
                format="WEBP",
                lossless=True,
                save_all=True,
                append_images=[PICTURE.rotate(9), PICTURE.rotate(60)],
            ),
            3,
        ),
    ],
    ids=["gif", "tiff", "apng", "webp"],
)
def test_the_first_frame_is_decoded_and_the_rest_counted_where_free(data: bytes, frames: int) -> None:
    decoded = decode(data)
    assert decoded.frames == frames
    assert abs(decoded.pixels.astype(int) - PIXELS).mean() < 6


def file_of_frames(format: str, count: int) -> bytes:
    if format == "GIF":
        return gif_of_frames(count)
    return encode(format=format, save_all=True, append_images=[PICTURE, PICTURE.rotate(9)] * (count // 2))


@pytest.mark.parametrize(("format", "count"), [("GIF", 10_000), ("TIFF", 500), ("PNG", 500)])
def test_many_frames_cost_no_more_than_two(format: str, count: int) -> None:
    def seconds(data: bytes) -> float:
        start = time.perf_counter()
        for _ in range(20):
            decode(data)
        return time.perf_counter() - start

    few, many = file_of_frames(format, 2), file_of_frames(format, count)
    np.testing.assert_array_equal(decode(many).pixels, decode(few).pixels)
    assert min(seconds(many) for _ in range(5)) < 3 * min(seconds(few) for _ in range(5))


def test_a_gif_whose_second_frame_is_damaged_has_a_first() -> None:
    decoded = decode(gif_of_frames(2)[:-900])
    np.testing.assert_array_equal(decoded.pixels, decode(encode(format="GIF")).pixels)


# --- draft -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("draft", "shape"), [(200, (320, 400)), (160, (160, 200)), (50, (80, 100)), (9, (40, 50))]
)
def test_a_draft_is_smaller_but_not_too_small(draft: int, shape: tuple[int, int]) -> None:
    large = encode(PICTURE.resize((400, 320)), "JPEG")
    assert decode(large, draft=draft).pixels.shape[:2] == shape
    assert decode(encode(), draft=8).pixels.shape[:2] == (32, 40)  # a PNG has no drafts


def test_preprocessing_reads_a_draft_of_twice_its_size() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    jpeg, preprocess = encode(Image.fromarray(noise), "JPEG"), Preprocessing(size=32)
    np.testing.assert_array_equal(preprocess(jpeg), preprocess(decode(jpeg, draft=64).pixels))


def test_preprocessing_from_a_draft_differs_little_from_the_whole() -> None:
    # An eighth is 100x75: its central square begins in the middle of a pixel.
    large = encode(PICTURE.resize((800, 600), Image.Resampling.BICUBIC), "JPEG", quality=95)
    preprocess = Preprocessing(size=32)
    difference = abs(preprocess(large).astype(int) - preprocess(decode(large).pixels))
    assert difference.mean() < 0.5
    assert difference.max() <= 3


# --- preprocessing ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("pixels", [PIXELS, PIXELS[:, :9], PIXELS[:8], np.ascontiguousarray(PIXELS[:, :, 0])])
def test_arrays_files_and_pillow_images_give_the_same_pixels(pixels: Pixels) -> None:
    preprocess = Preprocessing(size=20)
    image = Image.fromarray(np.ascontiguousarray(pixels))
    expected = preprocess(pixels)
    assert expected.shape == (20, 20, 3)
    assert expected.flags.writeable  # torch warns otherwise
    np.testing.assert_array_equal(preprocess(encode(image)), expected)
    np.testing.assert_array_equal(preprocess(image), expected)


@given(st.integers(8, 40), st.integers(8, 40))
@settings(max_examples=30, deadline=None)
def test_a_square_of_the_right_size_is_cut_out_as_it_is(width: int, height: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    side = min(width, height)
    top, left = (height - side) // 2, (width - side) // 2
    np.testing.assert_array_equal(
        Preprocessing(size=side)(pixels), pixels[top : top + side, left : left + side]
    )


def test_resizing_and_cropping_in_one_step_is_doing_both() -> None:
    wide = np.concatenate([PIXELS[:, :32] // 2, PIXELS[:, :32], PIXELS[:, :32] * 0], axis=1)
    resized = np.asarray(Image.fromarray(wide).resize((48, 16), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(Preprocessing(size=16)(wide), resized[:, 16:32])


def test_shrinking_averages_what_lies_between() -> None:
    stripes = np.zeros((64, 64, 3), dtype=np.uint8)
    stripes[:, ::2] = 254
    assert abs(Preprocessing(size=8)(stripes)[:, 1:-1].astype(int) - 127).max() <= 1


def test_a_pillow_image_lies_over_the_background() -> None:
    image = Image.new("RGBA", (8, 8), (200, 100, 0, 153))
    assert Preprocessing(size=8)(image)[0, 0].tolist() == [222, 162, 102]


def test_a_pillow_image_of_a_damaged_file_is_refused() -> None:
    with pytest.raises(ImageError, match="truncated"):
        Preprocessing()(Image.open(io.BytesIO(encode(format="JPEG")[:-9])))


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        (PIXELS.astype(np.float32), "unsupported-format"),
        (PIXELS[:, :, :2], "unsupported-format"),
        (PIXELS[None], "unsupported-format"),
        (PIXELS[:7], "too-small"),
        (PIXELS[:0], "too-small"),
        (np.zeros((8, 200), dtype=np.uint8), "too-elongated"),
    ],
)
def test_arrays_are_refused_by_the_same_rules(pixels: Any, expected: str) -> None:
    with pytest.raises(ImageError) as caught:
        Preprocessing()(pixels)
    assert caught.value.reason == expected


def test_preprocessing_survives_json() -> None:
    original = Preprocessing(size=96, background=(1, 2, 3), allow_truncated=True, limits=Limits(min_side=9))
    assert Preprocessing.from_dict(json.loads(json.dumps(original.to_dict()))) == original


@pytest.mark.parametrize(
    "change", [{"version": 2}, {"colour": 1}, {"size": "128"}, {"limits": {"min": 8}}, {"background": None}]
)
def test_foreign_preprocessing_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ModelError):
        Preprocessing.from_dict({**Preprocessing().to_dict(), **change})


@pytest.mark.parametrize("setting", [{"size": 7}, {"size": 2000}, {"background": (0, 0, 256)}])
def test_settings_out_of_range_are_refused(setting: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Preprocessing(**setting)


# --- keys ------------------------------------------------------------------------------------------------


def test_a_key_is_the_hash_of_size_and_pixels() -> None:
    pixels = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    assert pixel_key(pixels) == sha256(b"\2\0\0\0\2\0\0\0" + bytes(range(12))).digest()
    assert pixel_key(pixels) != pixel_key(pixels.reshape(4, 1, 3))
    assert pixel_key(pixels[:, ::-1]) == pixel_key(pixels[:, ::-1].copy())


def test_the_key_belongs_to_the_picture_and_not_to_the_file() -> None:
    keys = {pixel_key(decode(encode(format=f, **LOSSLESS[f])).pixels) for f in LOSSLESS}
    assert keys == {pixel_key(PIXELS)}


# --- warnings --------------------------------------------------------------------------------------------


def test_what_pillow_warns_of_becomes_a_note(capfd: pytest.CaptureFixture[str]) -> None:
    twice = (b"acTL", (1).to_bytes(4, "big") * 2)
    decoded = decode(png_of_size(16, 16, twice, twice))
    assert decoded.notes == ("Invalid APNG, will use default PNG image if possible",)
    assert capfd.readouterr() == ("", "")


# --- files -----------------------------------------------------------------------------------------------


def refused(path: Path, **options: Any) -> str:
    with pytest.raises(ImageError) as caught:
        read_file(path, **options)
    return caught.value.reason


def test_regular_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.PNG.txt").write_bytes(encode())
    (tmp_path / "link").symlink_to("a.PNG.txt")
    assert read_file(tmp_path / "a.PNG.txt") == read_file(tmp_path / "link") == encode()


def test_nothing_else_is_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(os.path.relpath(tmp_path / "socket"))  # the whole path may be too long for one
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "loop").symlink_to("loop")
    for name in ("pipe", "socket", "zero", "."):
        assert refused(tmp_path / name) == "not-a-file"
    for name in ("loop", "absent"):
        assert refused(tmp_path / name) == "unreadable-file"


def test_a_pipe_that_takes_the_place_of_a_file_does_not_hang(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(encode())
    seen = os.stat(tmp_path / "file")
    (tmp_path / "file").unlink()
    os.mkfifo(tmp_path / "file")
    monkeypatch.setattr(os, "stat", lambda path: seen)
    assert refused(tmp_path / "file") == "not-a-file"


def test_a_file_above_the_limit_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(101))
    assert refused(tmp_path / "large", limits=Limits(max_bytes=100)) == "too-large"
    assert len(read_file(tmp_path / "large", Limits(max_bytes=101))) == 101
