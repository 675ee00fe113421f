from __future__ import annotations

import threading
import warnings

import pytest

from anglehash.data.images.decoding import REASONS
from anglehash.data.images.pillow import FORMATS, sniff, warnings_as_notes
from anglehash.errors import ImageError


@pytest.mark.parametrize(
    ("beginning", "name"),
    [
        (b"\xff\xd8\xff\xe0", "JPEG"),
        (b"\x89PNG\r\n\x1a\n", "PNG"),
        (b"RIFF\x10\0\0\0WEBPVP8 ", "WEBP"),
        (b"GIF87a", "GIF"),
        (b"BM\x36\0", "BMP"),
        (b"II*\0", "TIFF"),
        (b"MM\0*", "TIFF"),
        (b"\0\0\0\x1cftypavif\0\0\0\0avifmif1", "AVIF"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avif", "AVIF"),
    ],
)
def test_formats_are_reported_by_their_first_bytes(beginning: bytes, name: str) -> None:
    assert sniff(beginning + bytes(40)) == name
    assert name in FORMATS


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\0" * 100, "not-an-image"),
        (b"holiday, 2024\n" * 9, "not-an-image"),
        (b"<html><body>404</body></html>", "not-an-image"),
        (b"RIFF\x10\0\0\0WAVEfmt ", "not-an-image"),
        (b"\0\0\0\x18ftypisom\0\0\0\0isommp42", "not-an-image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "unsupported-format"),
        (b"%PDF-1.7\n", "unsupported-format"),
        (b"8BPS\0\1", "unsupported-format"),
        (b"SIMPLE  =                    T", "unsupported-format"),
        (b"\n<svg width='9'/>", "unsupported-format"),
        (b"\xef\xbb\xbf<?xml version='1.0'?>\n<svg width='9'/>", "unsupported-format"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "unsupported-format"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "unsupported-format"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "unsupported-format"),
    ],
)
def test_other_bytes_are_refused(data: bytes, reason: str) -> None:
    with pytest.raises(ImageError) as caught:
        sniff(data)
    assert caught.value.reason == reason
    assert reason in REASONS


def warn(text: str, module: str) -> None:
    warnings.warn_explicit(text, UserWarning, "file.py", 1, module=module)


def test_warnings_of_pillow_become_notes_and_others_do_not() -> None:
    with warnings_as_notes() as notes:
        warn("two\nlines", "PIL.PngImagePlugin")
        with pytest.raises(UserWarning, match="other"):  # the setting of these tests
            warn("other", "somewhere.else")
    with pytest.raises(UserWarning, match="later"):
        warn("later", "PIL.PngImagePlugin")
    assert notes == ["two lines"]


def test_threads_hear_their_own_warnings_and_leave_the_filters_as_they_were() -> None:
    # The first thread in is the first one out: with nested catch_warnings its exit would end the second's.
    before = list(warnings.filters), warnings.showwarning
    inside, outside = threading.Event(), threading.Event()
    heard: list[list[str]] = []

    def second() -> None:
        with warnings_as_notes() as notes:
            inside.set()
            outside.wait(10)
            warn("second", "PIL.Image")
        heard.append(notes)

    thread = threading.Thread(target=second)
    with warnings_as_notes() as notes:
        thread.start()
        inside.wait(10)
        warn("first", "PIL.Image")
    outside.set()
    thread.join(10)
    assert (notes, heard) == (["first"], [["second"]])
    assert (list(warnings.filters), warnings.showwarning) == before
