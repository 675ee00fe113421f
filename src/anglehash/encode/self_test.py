"""Golden probes: pictures whose codes are known, to see whether a machine still gives them.

Another version of Pillow or ONNX Runtime, or another processor, may change the last digit of a number, and a
logit near 0 then flips a bit. Each probe is stored with the sha256 of its prepared pixels and with its code, so
that it shows not only that codes change but also where: in decoding, or in the network.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from anglehash.codes import Codes, pack
from anglehash.data.images.decoding import Pixels, Preprocessing
from anglehash.encode.network import Network
from anglehash.errors import ImageError

_ORIENTATION = 0x0112  # an EXIF tag


class Probe(NamedTuple):
    """One probe.

    Attributes:
        file: its name in the bundle.
        pixels: sha256 of the prepared pixels.
        code: in hex.
    """

    file: str
    pixels: str
    code: str


class ProbeResult(NamedTuple):
    """What became of the probes here.

    Attributes:
        probes: how many there are.
        bits: bits in all their codes.
        bits_differ: how many of them differ; all of a probe that cannot be decoded here.
        pixels_differ: probes whose prepared pixels differ.
    """

    probes: int
    bits: int
    bits_differ: int
    pixels_differ: int

    @property
    def line(self) -> str:
        """The result for people.

        >>> ProbeResult(16, 512, 3, 1).line
        '3 of 512 bits of the golden probes differ here, and the prepared pixels of 1 of 16'
        """
        return (
            f"{self.bits_differ} of {self.bits} bits of the golden probes differ here, and the prepared pixels of "
            f"{self.pixels_differ} of {self.probes}"
        )


def record(network: Network, pictures: Mapping[str, bytes]) -> list[Probe]:
    """The probes of a network: what it makes of the pictures on this machine."""
    pixels = np.stack([network.preprocessing(data) for data in pictures.values()])
    codes = _codes(network, pixels)
    return [
        Probe(file, _sha256(image), code.tobytes().hex())
        for file, image, code in zip(pictures, pixels, codes, strict=True)
    ]


def compare(network: Network, probes: Sequence[Probe], pictures: Mapping[str, bytes]) -> ProbeResult:
    """Run the probes on this machine.

    Args:
        network: which should give their codes.
        probes: as they were recorded.
        pictures: the content of their files.
    """
    differ = pixels_differ = 0
    found: list[tuple[Probe, Pixels]] = []
    for probe in probes:
        try:
            found.append((probe, network.preprocessing(pictures[probe.file])))
        except ImageError:  # a decoder that is not in this Pillow
            differ += network.bits
            pixels_differ += 1
    if found:
        codes = _codes(network, np.stack([pixels for _, pixels in found]))
        for (probe, pixels), code in zip(found, codes, strict=True):
            expected = np.frombuffer(bytes.fromhex(probe.code), dtype=np.uint8)
            differ += int(np.bitwise_count(code ^ expected).sum())
            pixels_differ += _sha256(pixels) != probe.pixels
    return ProbeResult(len(probes), len(probes) * network.bits, differ, pixels_differ)


def prepared(preprocessing: Preprocessing, probes: Sequence[Probe], pictures: Mapping[str, bytes]) -> Pixels:
    """The prepared pixels of those probes that can be decoded here, ``(n, size, size, 3)``."""
    size = preprocessing.size
    found = [np.zeros((0, size, size, 3), np.uint8)]
    for probe in probes:
        with suppress(ImageError):
            found.append(preprocessing(pictures[probe.file])[None])
    return np.concatenate(found)


def _codes(network: Network, pixels: Pixels) -> Codes:
    """The packed codes of prepared images, one row each."""
    return pack(network.logits(pixels))


def _sha256(pixels: Pixels) -> str:
    return hashlib.sha256(np.ascontiguousarray(pixels).data).hexdigest()


def pictures() -> dict[str, bytes]:
    """Sixteen pictures that take every path of the decoder: formats, bit depths, colours, EXIF, transparency.

    They are drawn and show nothing; a bundle holds nobody's photographs.
    """
    drawn = {
        "large.jpg": _saved(_scene(0, 640, 480), "JPEG", quality=90),
        "progressive.jpg": _saved(_scene(1, 500, 375), "JPEG", quality=75, progressive=True),
        "full-colour.jpg": _saved(_scene(2, 256, 256), "JPEG", quality=95, subsampling=0),
        "turned.jpg": _saved(_scene(3, 256, 171), "JPEG", quality=85, exif=_turned(6)),
        "grey.jpg": _saved(_scene(4, 256, 200).convert("L"), "JPEG", quality=80),
        "ink.jpg": _saved(_scene(5, 256, 192).convert("CMYK"), "JPEG", quality=85),
        "tall.jpg": _saved(_scene(6, 120, 900), "JPEG", quality=70),
        "plain.png": _saved(_scene(7, 200, 260), "PNG"),
        "small.png": _saved(_scene(8, 40, 30), "PNG"),
        "see-through.png": _saved(_see_through(_scene(9, 180, 140)), "PNG"),
        "deep.png": _saved(_deep(_scene(10, 220, 220)), "PNG"),
        "palette.png": _saved(_scene(11, 200, 150).quantize(32), "PNG"),
        "lossy.webp": _saved(_scene(12, 320, 240), "WEBP", quality=80),
        "few.gif": _saved(_scene(13, 160, 160).quantize(64), "GIF"),
        "raw.bmp": _saved(_scene(14, 96, 128), "BMP"),
        "scan.tif": _saved(_scene(15, 140, 100), "TIFF"),
    }
    return {f"probe-{name}": data for name, data in drawn.items()}


def _scene(seed: int, width: int, height: int) -> Image.Image:
    """Soft colours, a disc, a bar and some grain: smooth areas and edges as photographs have them."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (5, 5, 3), dtype=np.uint8)
    soft = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    pixels = np.asarray(soft, dtype=np.int64).copy()
    y, x = np.mgrid[0:height, 0:width]
    radius = min(width, height) // 4
    disc = (x - rng.integers(width)) ** 2 + (y - rng.integers(height)) ** 2 < radius**2
    bar = (x + int(rng.integers(1, 4)) * y) % max(9, width // 3) < 5
    pixels[disc] = rng.integers(0, 256, 3)
    pixels[bar] = rng.integers(0, 256, 3)
    pixels += rng.integers(-12, 13, pixels.shape)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def _see_through(image: Image.Image) -> Image.Image:
    fading = np.linspace(0, 255, image.width).astype(np.uint8)
    image.putalpha(Image.fromarray(np.tile(fading, (image.height, 1))))
    return image


def _deep(image: Image.Image) -> Image.Image:
    """Sixteen bits of grey."""
    grey: NDArray[np.uint16] = np.asarray(image.convert("L"), dtype=np.uint16) * 257
    return Image.fromarray(grey)


def _turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[_ORIENTATION] = orientation
    return exif


def _saved(image: Image.Image, name: str, **options: Any) -> bytes:
    buffer = BytesIO()
    image.save(buffer, format=name, **options)
    return buffer.getvalue()
