"""What Pillow says of a file that it does not read, as our reasons."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO

from PIL import Image, UnidentifiedImageError
from PIL.JpegImagePlugin import jpeg_factory

from anglehash.data.images.pillow import warnings_as_notes
from anglehash.data.images.varieties import is_cut, unread
from anglehash.errors import ImageError


def header_of(name: str, data: bytes) -> Image.Image:
    """The image with nothing decoded yet. Pillow has its own limit, which a JPEG's pixels need not keep."""
    if name == "JPEG":
        try:
            return jpeg_factory(BytesIO(data))
        except (SyntaxError, IndexError, TypeError, struct.error):
            raise UnidentifiedImageError from None
    return Image.open(BytesIO(data), formats=[name])


class TextError(ImageError):
    """A PNG whose pixels may be sound has more text than is unpacked."""


@contextmanager
def pillow_errors(name: str, data: bytes = b"") -> Iterator[list[str]]:
    """Pillow at work on bytes in the format ``name``: warnings become notes, errors become reasons."""
    try:
        with warnings_as_notes() as notes:
            yield notes
    except ImageError:
        raise
    except Exception as error:  # hostile bytes make Pillow raise nearly anything
        raise _refusal(name, data, error) from None


def _refusal(name: str, data: bytes, error: Exception) -> ImageError:
    """Our error for one of Pillow's: what is valid and not read here is neither damaged nor no image."""
    text = " ".join(str(error).split())[:200] or type(error).__name__
    if isinstance(error, Image.DecompressionBombError | MemoryError):
        return ImageError("too-large", f"{name}: {text}")
    if name == "PNG" and ("MAX_TEXT_CHUNK" in text or "MAX_TEXT_MEMORY" in text):
        return TextError("damaged", f"{name}: {text}")
    opened = _opens(name, data)
    cut = "truncated" in text.lower() or is_cut(name, data)
    if not cut and (variety := unread(name, data, opened=opened)):
        return ImageError("unsupported-format", f"{name} of {variety} is not read here")
    if isinstance(error, UnidentifiedImageError):
        text = f"begins like {name}, but has no header that can be read"
        return ImageError("truncated" if cut else "not-an-image", text)
    return ImageError("truncated" if cut else "damaged", f"{name}: {text}")


def _opens(name: str, data: bytes) -> bool:
    """Whether Pillow takes a header, whatever becomes of the pixels."""
    try:
        with warnings_as_notes(), header_of(name, data):
            return True
    except Exception:
        return False
