"""Signatures: what is kept of an image's pixels, so that near copies are found without decoding anything again.

A signature is 236 bytes: the size of the image, a perceptual hash of 256 bits (ImageHash's ``phash``, after
C. Zauner, Implementation and benchmarking of perceptual image hash functions, 2010) and an 8 x 8 RGB thumbnail. Two
images are near copies where hash *and* thumbnail nearly agree: resized, recompressed, in another format, brightened,
or trimmed by a few hundredths. Crops, mirrored and recoloured images are not, however much they look alike to a person.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from anglehash.codes import hamming

HASH_SIDE, THUMBNAIL_SIDE = 16, 8

SIGNATURE = np.dtype([
    ("width", "<u4"),
    ("height", "<u4"),
    ("bytes", "<u4"),
    ("hash", "u1", (HASH_SIDE**2 // 8,)),
    ("thumbnail", "u1", (THUMBNAIL_SIDE, THUMBNAIL_SIDE, 3)),
])  # fmt: skip
"""One signature; ``bytes`` is the size of the encoded image, 0 where it came as pixels."""

Signatures = NDArray[np.void]
"""``(n,)`` of :data:`SIGNATURE`."""

HASH_BITS = HASH_SIDE**2

HASH_DISTANCE = 64
"""The most bits, of 256, in which the hashes of near copies differ. On 5,000 photographs the closest two that are
no copies differ in 80; JPEG files of quality 10 in 20 from what they were made of."""

THUMBNAIL_DISTANCE, BRIGHTNESS_DISTANCE = (4.0, 16.0), 40.0
"""The thumbnails of near copies differ by at most so much, of 255: their difference has a mean of at most 40, and
a standard deviation of at most half that of the paler thumbnail, but never below 4 or above 16. So an exposure may be
corrected or a small logo added, while another colour of the same thing is most often no copy."""

SERIES = 0.05
"""From this share of near copies on, two parts are said to look like one series."""

_LOOKED_AT = 2_000  # held-out images that are compared at most, drawn if there are more
_CELLS = 4_000_000  # distances in memory at once


def signature_of(pixels: NDArray[np.uint8], size: int = 0) -> bytes:
    """The signature of one image, the bytes of a :data:`SIGNATURE`.

    Args:
        pixels: ``(h, w, 3)`` ``uint8`` RGB, decoded in full.
        size: bytes of the encoded image; 0 where there are none.
    """
    import imagehash  # with scipy; only those who need it wait for it

    side = HASH_SIDE * 4
    small = Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC, reducing_gap=3.0)
    found = np.zeros((), SIGNATURE)
    found["height"], found["width"], found["bytes"] = *pixels.shape[:2], size
    found["hash"] = np.packbits(imagehash.phash(small.convert("L"), HASH_SIDE).hash)
    found["thumbnail"] = np.asarray(small.reduce(side // THUMBNAIL_SIDE))
    return found.tobytes()


def hash_distances(a: Signatures, b: Signatures) -> NDArray[np.int64]:
    """``(n,)``: the bits in which the hashes of ``a`` and ``b``, ``(n,)`` each, differ."""
    bits: NDArray[np.int64] = np.bitwise_count(a["hash"] ^ b["hash"]).sum(axis=-1, dtype=np.int64)
    return bits


def are_near(a: Signatures, b: Signatures) -> NDArray[np.bool_]:
    """``(n,)``: whether ``a`` and ``b``, ``(n,)`` each or one of them ``(1,)``, are near copies of each other."""
    one, other = (x["thumbnail"].reshape(len(x), 3 * THUMBNAIL_SIDE**2).astype(np.float32) for x in (a, b))
    off, contrast = one - other, np.minimum(one.std(axis=1), other.std(axis=1))
    alike = off.std(axis=1) <= np.clip(contrast / 2, *THUMBNAIL_DISTANCE)
    near: NDArray[np.bool_] = alike & (np.abs(off.mean(axis=1)) <= BRIGHTNESS_DISTANCE)
    return near & (hash_distances(a, b) <= HASH_DISTANCE)


def near_copies(signatures: Signatures, others: Signatures) -> NDArray[np.int64]:
    """For each of ``(n,)`` signatures the row of the first near copy of it among ``(m,)`` others; -1 without one.

    Every one is compared with every other: a second for 2,000 x 50,000.
    """
    found = np.full(len(signatures), -1, dtype=np.int64)
    step = max(1, _CELLS // max(1, len(others)))
    for start in range(0, len(signatures), step):
        part = signatures[start : start + step]
        rows, places = np.nonzero(hamming(part["hash"], others["hash"]) <= HASH_DISTANCE)
        near = are_near(part[rows], others[places])
        first, at = np.unique(rows[near], return_index=True)
        found[start + first] = places[near][at]
    return found


def across_parts(
    signatures: Signatures | None,
    held_out: NDArray[np.int64],
    learned: NDArray[np.int64],
    ids: Sequence[str],
) -> dict[str, Any] | None:
    """How many held-out images have a near copy among those that are learned from.

    Args:
        signatures: of all images; ``None`` where they are not known.
        held_out: rows of validation images or queries; of more than 2,000, 2,000 are drawn.
        learned: rows of training images.
        ids: of all images.

    Returns:
        JSON values: ``looked_at`` and ``near_copies``, numbers of held-out images; ``share``, the second of the first;
        ``first``, the ids of such a pair. ``None`` where there is nothing to compare.
    """
    if signatures is None or not len(held_out) or not len(learned):
        return None
    some = np.sort(np.random.default_rng(0).permutation(held_out)[:_LOOKED_AT])
    found = near_copies(signatures[some], signatures[learned])
    have = np.flatnonzero(found >= 0)
    first = [[ids[some[row]], ids[learned[found[row]]]] for row in have[:1]]
    return {
        "looked_at": len(some),
        "near_copies": len(have),
        "share": round(len(have) / len(some), 4),
        "first": first[0] if first else None,
    }


def series_line(found: dict[str, Any] | None, what: str, where: str) -> str:
    """One sentence where two parts look like one series, else nothing.

    >>> series_line({"looked_at": 50, "near_copies": 10, "share": 0.2}, "validation images", "the training part")
    '10 of 50 validation images (20 %) have a near copy in the training part: on images of another series expect less.'
    >>> series_line({"looked_at": 50, "near_copies": 1, "share": 0.02}, "queries", "the database")
    ''
    """
    if not found or found["share"] < SERIES:
        return ""
    counts = f"{found['near_copies']} of {found['looked_at']} {what} ({100 * found['share']:.0f} %)"
    return f"{counts} have a near copy in {where}: on images of another series expect less."
