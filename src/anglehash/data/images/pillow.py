"""Pillow held on a short lead: which decoder it may use, and where its warnings go.

Pillow would try some 40 formats on unknown bytes, among them ones that start other programs, and it
prints warnings. Here the first bytes decide on one format out of :data:`FORMATS`, and a warning becomes
a note about the image.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TextIO

# Importing a decoder registers it; else Image.open would import all 40 when it meets one of these.
import PIL.AvifImagePlugin
import PIL.TiffImagePlugin
import PIL.WebPImagePlugin  # noqa: F401

from anglehash.errors import ImageError

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
"""The formats that are read, by Pillow's names; HEIF is read too where the extra ``heic`` is installed."""

HEIC_HINT = "install anglehash[heic] to read HEIC, or convert it to JPEG"

_READ = {
    "JPEG": (b"\xff\xd8\xff",),
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "GIF": (b"GIF87a", b"GIF89a"),
    "BMP": (b"BM",),
    "TIFF": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
}
_REFUSED = {
    "PostScript": (b"%!PS", b"\xc5\xd0\xd3\xc6"),
    "PDF": (b"%PDF",),
    "Photoshop": (b"8BPS",),
    "SVG": (b"<svg",),
    "FITS": (b"SIMPLE  =",),
    "JPEG 2000": (b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51"),
    "JPEG XL": (b"\xff\x0a", b"\0\0\0\x0cJXL "),
    "ICO": (b"\0\0\1\0",),
    "PNM": (
        *(b"P%d" % n + space for n in range(1, 8) for space in (b"\n", b"\r", b" ", b"\t")),
        b"PF\n",
        b"Pf\n",
    ),
    "JPEG XR": (b"II\xbc",),
    "QOI": (b"qoif",),
    "FLIF": (b"FLIF",),
    "BPG": (b"BPG\xfb",),
    "GIMP": (b"gimp xcf",),
    "DjVu": (b"AT&TFORM",),
    "MNG or JNG": (b"\x8aMNG\r\n", b"\x8bJNG\r\n"),
    "Radiance HDR": (b"#?RADIANCE", b"#?RGBE"),
    "Windows cursor": (b"\0\0\2\0",),
    "icns": (b"icns",),
    "Sun raster": (b"\x59\xa6\x6a\x95",),
    "XPM": (b"/* XPM */",),
    "camera raw": (b"IIU\0", b"IIRO", b"IIRS", b"MMOR", b"FUJIFILMCCD-RAW"),
    "DDS": (b"DDS ",),
    "EXR": (b"\x76\x2f\x31\x01",),
}


def sniff(data: bytes) -> str:
    """The format of encoded bytes, by how they begin; names and extensions play no part.

    Returns:
        One of :data:`FORMATS`.

    Raises:
        ImageError: ``unsupported-format`` for other kinds of picture, else ``not-an-image``.

    >>> sniff(b"GIF89a...")
    'GIF'
    """
    for name, beginnings in _READ.items():
        if data.startswith(beginnings):
            return name
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "WEBP"
    other = _other_picture(data)
    if other == "AVIF" or (other == "HEIF" and reads_heic()):
        return other
    if other == "HEIF":
        raise ImageError("unsupported-format", f"HEIC: {HEIC_HINT}")
    if other:
        raise ImageError("unsupported-format", f"{other}: convert it to one of {', '.join(FORMATS)}")
    raise ImageError("not-an-image", f"begins with {data[:8]!r}, which no image format does")


@cache
def reads_heic() -> bool:
    """Whether HEIC files are read here; the decoder joins Pillow's when the first one comes."""
    try:
        import pi_heif
    except ImportError:
        return False
    pi_heif.register_heif_opener(thumbnails=False)
    return True


def _other_picture(data: bytes) -> str | None:
    """AVIF, HEIF, or the name of a kind of picture that is not read."""
    if data[4:8] == b"ftyp":
        brands = data[8 : min(int.from_bytes(data[:4], "big"), 256)]
        if b"avif" in brands or b"avis" in brands:
            return "AVIF"
        if b"crx " in brands:
            return "camera raw"
        return "HEIF" if any(brand in brands for brand in (b"hei", b"hev", b"mif1", b"msf1")) else None
    head = data[:1024].removeprefix(b"\xef\xbb\xbf").lstrip()
    if head.startswith(b"<?xml") and b"<svg" in head:
        return "SVG"
    return next((name for name, starts in _REFUSED.items() if head.startswith(starts)), None)


class _Warnings:
    """The one place that touches the warning filters, which belong to the whole process.

    Threads that decode come and go in any order, so nested ``catch_warnings`` would restore the wrong
    state: the first thread in changes the filters, the last one out restores them.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._listeners = 0
        self._local = threading.local()

    @contextmanager
    def as_notes(self) -> Iterator[list[str]]:
        """Collect Pillow's warnings of this thread; other code's warnings go where they went before."""
        with self._lock:
            self._listeners += 1
            if self._listeners == 1:
                self._install()
        notes: list[str] = []
        self._local.notes = notes
        try:
            yield notes
        finally:
            self._local.notes = None
            with self._lock:
                self._listeners -= 1
                if self._listeners == 0:
                    self._saved.__exit__(None, None, None)

    def _install(self) -> None:
        self._saved = warnings.catch_warnings()
        self._saved.__enter__()
        warnings.filterwarnings("always", module=r"PIL\.")
        show = warnings.showwarning

        def hear(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            notes = getattr(self._local, "notes", None)
            if notes is None:
                show(message, category, filename, lineno, file, line)
            else:
                notes.append(" ".join(str(message).split()))

        warnings.showwarning = hear


warnings_as_notes = _Warnings().as_notes
