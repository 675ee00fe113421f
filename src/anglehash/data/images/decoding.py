"""The one decoder: bytes from anywhere in, upright RGB pixels or a reason out.

Training, command line and service share it, so a picture gives the same pixels everywhere. The bytes are
taken as hostile: what they claim is checked before they are decoded, and whatever goes wrong becomes an
:class:`ImageError` whose reason is one of :data:`REASONS`.
"""

from __future__ import annotations

import hashlib
import os
import stat
import struct
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from anglehash.config import MAX_PIXELS
from anglehash.data.images.colour import Colour, upright
from anglehash.data.images.pillow import sniff
from anglehash.data.images.refusals import TextError, header_of, pillow_errors
from anglehash.data.images.varieties import jpeg_header, prepare, without_text
from anglehash.errors import ConfigError, ImageError, ModelError

Pixels = NDArray[np.uint8]  # (h, w, 3) RGB

REASONS = {
    "empty": "the file holds no bytes",
    "not-an-image": "the bytes are no image, or their header is beyond recognition",
    "unsupported-format": "a picture of a kind that is not read here",
    "truncated": "the end of the file is missing",
    "damaged": "the bytes inside the file are wrong",
    "too-small": "a side is below the minimum",
    "too-large": "more bytes or pixels than the limit, or than the memory",
    "too-elongated": "the long side is too many times the short one",
    "unreadable-file": "the file cannot be opened: it vanished, or may not be read",
    "not-a-file": "a folder, pipe, socket or device",
    "link-loop": "links lead in a circle, or to a folder that is listed under another name",
    "no-class": "the image is in no class folder",
    "decoder-died": "decoding the image killed the process, twice",
    "decoder-timeout": "decoding the image did not come to an end in time",
}
"""Every reason for which an image is refused, and what it means."""

WHITE = (255, 255, 255)
TRUNCATED = "truncated: the end of the file is missing, and with it a part of the picture"
UNREAD_TEXT = "texts and colour profile ignored: more than 1 MB, unpacked"

DECODER = 2
"""Raised where files give other pixels than before, so that nothing is taken from caches of earlier decoders."""

REDUCIBLE = 4
"""How many times as many pixels as the limit a JPEG may have: decoded at half its size it keeps the limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What is refused for its size.

    Attributes:
        min_side: the shortest side allowed, in pixels.
        max_aspect: the long side may be this many times the short one.
        max_pixels: width times height, checked before decoding. A JPEG with up to four times as many is decoded at
            half its size, unless it is progressive: a decoder holds all of those. Above 179 million Pillow refuses
            other formats by itself.
        max_bytes: size of the encoded image.
    """

    min_side: int = 8
    max_aspect: float = 20.0
    max_pixels: int = MAX_PIXELS
    max_bytes: int = 128 * 2**20

    def check_header(self, width: int, height: int, *, reducible: bool) -> int:
        """The scale, 1 or 2, at which to decode an image that claims this size.

        Args:
            width: in pixels.
            height: in pixels.
            reducible: whether half the size can be decoded without the whole being held in memory.

        Raises:
            ImageError: as for :meth:`check_size`.
        """
        if reducible and self.max_pixels < width * height <= REDUCIBLE * self.max_pixels:
            self.check_size(width // 2, height // 2)
            return 2
        self.check_size(width, height)
        return 1

    def check_size(self, width: int, height: int) -> None:
        """Raise where an image of this size is refused.

        Raises:
            ImageError: ``too-small``, ``too-elongated`` or ``too-large``.
        """
        if min(width, height) < self.min_side:
            raise ImageError("too-small", f"{width}x{height}: each side needs {self.min_side} pixels")
        if max(width, height) > self.max_aspect * min(width, height):
            raise ImageError(
                "too-elongated", f"{width}x{height}: at most {self.max_aspect:g} times as long as wide"
            )
        if width * height > self.max_pixels:
            raise ImageError(
                "too-large", f"{width}x{height}: at most {self.max_pixels:,} pixels (--max-pixels)"
            )

    def check_bytes(self, count: int) -> None:
        """Raise if a file of this size is refused.

        Raises:
            ImageError: ``too-large``.
        """
        if count > self.max_bytes:
            raise ImageError("too-large", f"{count:,} bytes: at most {self.max_bytes:,}")


_LIMITS = Limits()


class Decoded(NamedTuple):
    """One decoded image.

    Attributes:
        pixels: ``(h, w, 3)`` ``uint8`` RGB, upright.
        format: one of :data:`anglehash.data.images.pillow.FORMATS`, found by content.
        frames: frames or pages in the file, the first of which this is; 0 where there are several but
            only a scan of the whole file could count them (GIF, TIFF).
        notes: what was wrong with the image and passed over, a line each.
    """

    pixels: Pixels
    format: str
    frames: int
    notes: tuple[str, ...]


class _Opened(NamedTuple):
    """What :class:`Decoded` says, while the pixels are still Pillow's."""

    image: Image.Image
    format: str
    frames: int
    notes: tuple[str, ...]


def decode(
    data: bytes,
    *,
    draft: int | None = None,
    limits: Limits = _LIMITS,
    allow_truncated: bool = False,
    background: Colour = WHITE,
) -> Decoded:
    """Decode an image: its first frame, upright, as 8-bit RGB.

    Args:
        data: a whole JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF file.
        draft: a JPEG may come back reduced 2, 4 or 8 times, with no side below this many pixels: faster,
            and refused or accepted just as in full.
        limits: what is refused for its size.
        allow_truncated: accept a JPEG whose end is missing, with a note; what is missing is grey.
        background: the colour behind transparent pixels.

    Raises:
        ImageError: the image is refused; its reason is one of :data:`REASONS`.
    """
    opened = _open(data, draft, limits, allow_truncated, background)
    return Decoded(np.array(opened.image), *opened[1:])


def _open(
    data: bytes, draft: int | None, limits: Limits, allow_truncated: bool, background: Colour
) -> _Opened:
    if not data:
        raise ImageError("empty", "no bytes")
    limits.check_bytes(len(data))
    name = sniff(data)
    try:
        return _open_as(name, data, draft, limits, background)
    except TextError:
        opened = _open_as(name, without_text(data), draft, limits, background)
        return opened._replace(notes=(UNREAD_TEXT, *opened.notes))
    except ImageError as error:
        if not (allow_truncated and name == "JPEG" and error.reason == "truncated"):
            raise
    # With an end put in its place libjpeg fills up the rest. Pillow's own switch for this is global.
    opened = _open_as(name, data + b"\xff\xd9", draft, limits, background)
    return opened._replace(notes=(TRUNCATED, *opened.notes))


def _open_as(name: str, data: bytes, draft: int | None, limits: Limits, background: Colour) -> _Opened:
    with pillow_errors(name, data) as notes, header_of(name, data) as image:
        scale = limits.check_header(*image.size, reducible=name == "JPEG" and not _is_held_whole(data))
        if scale > 1:
            notes.append(f"{image.width}x{image.height}: decoded at 1/{scale} of its size")
        if draft is not None or scale > 1:
            image.draft(None, _reduced(image.size, draft, scale))
        prepare(image)
        image.load()
        pixels = upright(image, background, notes)
        return _Opened(pixels, name, _frames(image), tuple(notes))


def _is_held_whole(data: bytes) -> bool:
    frame = jpeg_header(data)
    return frame is None or frame.whole


def _reduced(size: tuple[int, int], draft: int | None, scale: int) -> tuple[int, int]:
    """The size to ask a JPEG for: what ``draft`` allows, and at most 1/``scale``."""
    wanted = size if draft is None else (draft, draft)
    return min(wanted[0], size[0] // scale), min(wanted[1], size[1] // scale)


def _frames(image: Image.Image) -> int:
    if image.format not in ("GIF", "TIFF"):
        return int(getattr(image, "n_frames", 1))
    try:
        return 0 if getattr(image, "is_animated", False) else 1
    except Exception:  # looking for a second GIF frame met damage: it is there, and not wanted
        return 0


def pixel_key(pixels: Pixels) -> bytes:
    """What makes two images the same: 32 bytes, the sha256 of size and pixels.

    Args:
        pixels: ``(h, w, 3)`` ``uint8``, of a decode in full (no draft).
    """
    key = hashlib.sha256(struct.pack("<II", *pixels.shape[:2]))
    key.update(np.ascontiguousarray(pixels).data)
    return key.digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing:
    """How an image becomes the input of a network; a model keeps its own in its manifest.

    The short side is resized to ``size`` with Pillow's antialiased bicubic filter, and the central square
    cut out, in one step. JPEG files far above that size are decoded reduced, to no less than twice
    ``size``, so that the filter still has the last word.

    Attributes:
        size: side of the square, in pixels.
        background: the colour behind transparent pixels.
        allow_truncated: accept JPEG files whose end is missing.
        limits: what is refused for its size.
    """

    size: int = 128
    background: Colour = WHITE
    allow_truncated: bool = False
    limits: Limits = _LIMITS

    def __post_init__(self) -> None:
        if not 8 <= self.size <= 1024:
            raise ConfigError(f"size must be in 8..1024 pixels, got {self.size}")
        if len(self.background) != 3 or not all(0 <= value <= 255 for value in self.background):
            raise ConfigError(f"background must be three numbers in 0..255, got {self.background}")

    def __call__(self, data: bytes | Pixels | Image.Image) -> Pixels:
        """The pixels for the network, ``(size, size, 3)``; :meth:`noted` tells more.

        Raises:
            ImageError: the image is refused.
        """
        return self.noted(data)[0]

    def noted(self, data: bytes | Pixels | Image.Image) -> tuple[Pixels, tuple[str, ...]]:
        """The pixels for the network, and what was passed over to get them.

        Args:
            data: an image file's bytes; or ``uint8`` pixels, ``(h, w, 3)`` RGB or ``(h, w)`` grey, as they
                are; or a Pillow image, which is treated like the file that it came from.

        Raises:
            ImageError: the image is refused.
        """
        notes: tuple[str, ...] = ()
        if isinstance(data, bytes):
            opened = _open(data, 2 * self.size, self.limits, self.allow_truncated, self.background)
            image, notes = opened.image, opened.notes
        elif isinstance(data, Image.Image):
            self.limits.check_size(*data.size)
            with pillow_errors("a Pillow image") as heard:
                prepare(data)
                data.load()
                image = upright(data, self.background, heard)
            notes = tuple(heard)
        else:
            image = Image.fromarray(rgb_pixels(data))
        return np.array(self._square(image)), notes

    def _square(self, image: Image.Image) -> Image.Image:
        side = min(image.size)
        left, top = (image.width - side) / 2, (image.height - side) / 2
        if side == self.size:  # nothing to resize: half a pixel would only blur
            left, top = int(left), int(top)
        box = (left, top, left + side, top + side)
        return image.resize((self.size, self.size), Image.Resampling.BICUBIC, box=box)

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON values, with the version of their meaning."""
        return {"version": 1, **asdict(self), "background": list(self.background)}

    @classmethod
    def from_dict(cls, settings: dict[str, Any]) -> Preprocessing:
        """What :meth:`to_dict` gave.

        Raises:
            ModelError: another version, or other settings.
        """
        known = dict(settings)
        if (version := known.pop("version", None)) != 1:
            raise ModelError(f"preprocessing version 1 is known here, got {version!r}: upgrade anglehash")
        try:
            known["background"] = tuple(known["background"])
            known["limits"] = Limits(**known["limits"])
            return cls(**known)
        except (KeyError, TypeError) as error:
            raise ModelError(f"preprocessing settings are not what version 1 has: {error}") from error


def rgb_pixels(pixels: Pixels) -> Pixels:
    """Pixels that came as an array, as ``(h, w, 3)``.

    Raises:
        ImageError: not ``uint8``, another shape, or a size that is refused.
    """
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or pixels.shape[2:] not in ((), (3,)):
        raise ImageError(
            "unsupported-format",
            f"pixels must be uint8 of shape (h, w, 3) or (h, w), got {pixels.dtype} {pixels.shape}",
        )
    _LIMITS.check_size(pixels.shape[1], pixels.shape[0])
    return np.repeat(pixels[:, :, None], 3, axis=2) if pixels.ndim == 2 else pixels


def read_file(path: str | os.PathLike[str], limits: Limits = _LIMITS) -> bytes:
    """The bytes of a regular file; nothing else is opened, so that a pipe cannot hang the run.

    Raises:
        ImageError: ``not-a-file``, ``unreadable-file`` or ``too-large``.
    """
    try:
        _check_regular(path, os.stat(path))
        with open(path, "rb", opener=_without_waiting) as file:
            status = os.fstat(file.fileno())
            _check_regular(path, status)  # it may have been replaced
            limits.check_bytes(status.st_size)
            data = file.read(limits.max_bytes + 1)
    except OSError as error:
        raise ImageError("unreadable-file", error.strerror or str(error)) from error
    limits.check_bytes(len(data))  # it may have grown
    return data


def _check_regular(path: str | os.PathLike[str], status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise ImageError("not-a-file", f"{Path(path).name} is a folder, pipe, socket or device")


def _without_waiting(path: str, flags: int) -> int:
    """Open without waiting for the other end of a pipe."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
