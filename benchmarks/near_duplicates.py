"""Near duplicates: how many planted copies are found among 5,000 photographs, how many invented, and at what cost.

    python benchmarks/near_duplicates.py --data ../shared/data -o results/near-duplicates.json        # about 3 minutes

In each of three draws 5,000 photographs of COCO (256 x 256) and 300 copies of 300 of them: 100 resized (each side to
.25 to 2 times, JPEG 90), 100 recompressed (JPEG or WebP of quality 15 to 85), 100 crops (each side to .6 to .98, JPEG
90). A copy is found where it is in a group with what it was made of. Precision is over pairs: of all pairs in groups,
those of a copy and what it was made of. The baseline is a perceptual hash alone, as often used: ImageHash's phash of 64
bits, pairs within 10 bits. The limits of data/perceptual_hash.py were set on
300 photographs with copies of other kinds.
"""

from __future__ import annotations

import argparse
import io
import os
import tempfile
import time
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import imagehash
import numpy as np
from PIL import Image

from anglehash.codes import hamming
from anglehash.data.dataset import Encoded
from anglehash.data.image_hash import content_key, sign
from anglehash.data.images.decoding import decode, pixel_key
from anglehash.data.perceptual_hash import SIGNATURE, signature_of
from anglehash.data.sources.open import open_dataset
from anglehash.files import write_json
from anglehash.gallery.duplicates import NEAR, duplicates
from anglehash.gallery.gallery import Gallery
from anglehash.gallery.store.items import Item
from anglehash.gallery.store.opening import open_writer

PHOTOS, COPIES = 5_000, 300
KINDS = ("resized", "recompressed", "crop")
BASELINE_BITS = 10


class Copy(NamedTuple):
    """A planted copy: its file, which photograph it was made of, how, and the share of each side that a crop keeps."""

    data: bytes
    source: int
    kind: str
    kept: float


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("-o", "--output", type=Path, default=Path("results/near-duplicates.json"))
    given = parser.parse_args()
    coco = open_dataset("coco", root=given.data)
    files = [bytes(coco.images.read(row)) for row in range(len(coco))]
    draws = [drawn(files, seed) for seed in range(3)]
    found = {
        "photographs": PHOTOS,
        "copies": COPIES,
        "draws": draws,
        "found": {kind: mean(draws, "found", kind) for kind in KINDS},
        "found_of_plain_copies": round(float(np.mean([mean(draws, "found", kind) for kind in KINDS[:2]])), 4),
        "crops_by_kept_side": by_kept_side(draws),
        "precision": round(float(np.mean([draw["precision"] for draw in draws])), 4),
        "baseline": {kind: mean(draws, "rival_found", kind) for kind in KINDS}
        | {"precision": round(float(np.mean([draw["rival_precision"] for draw in draws])), 4)},
        "bytes_an_item": SIGNATURE.itemsize,
        "cost_ms": costs(files[:500]),
        "seconds": {str(n): seconds(files, n) for n in (5_000, 20_000, 100_000)},
    }
    for draw in draws:
        draw.pop("crops")
    write_json(given.output, found)
    print(given.output.read_text())


def drawn(files: list[bytes], seed: int) -> dict[str, Any]:
    """One draw: what is found of its copies, and what is found beside them."""
    rng = np.random.default_rng(seed)
    photos = [files[row] for row in rng.permutation(len(files))[:PHOTOS]]
    sources = rng.permutation(PHOTOS)[:COPIES].tolist()
    copies = [copied(photos[row], row, KINDS[n % 3], rng) for n, row in enumerate(sources)]
    data = photos + [copy.data for copy in copies]
    true = {(copy.source, PHOTOS + n) for n, copy in enumerate(copies)}
    began = time.perf_counter()
    groups = groups_of(data)
    took = time.perf_counter() - began
    pairs = {pair for group in groups for pair in combinations(sorted(group), 2)}
    baseline = baseline_pairs(data)
    return {
        "seed": seed,
        "found": shares(copies, pairs),
        "precision": round(len(pairs & true) / max(1, len(pairs)), 4),
        "other_pairs": len(pairs - true),
        "rival_found": shares(copies, baseline),
        "rival_precision": round(len(baseline & true) / max(1, len(baseline)), 4),
        "crops": [
            [copy.kept, (copy.source, PHOTOS + n) in pairs]
            for n, copy in enumerate(copies)
            if copy.kind == "crop"
        ],
        "seconds_with_reading": round(took, 2),
    }


def copied(data: bytes, source: int, kind: str, rng: np.random.Generator) -> Copy:
    image, kept = Image.open(io.BytesIO(data)).convert("RGB"), 1.0
    how, quality, name = int(rng.integers(2)), 90, "JPEG"
    if kind == "resized":
        sides = [int(side * share) for side, share in zip(image.size, rng.uniform(0.25, 2, 2), strict=True)]
        image = image.resize((sides[0], sides[1]), (Image.Resampling.BICUBIC, Image.Resampling.BILINEAR)[how])
    elif kind == "recompressed":
        quality, name = int(rng.integers(15, 86)), ("JPEG", "WEBP")[how]
    else:
        kept = float(rng.uniform(0.6, 0.98))
        width, height = (int(side * kept) for side in image.size)
        left, top = int(rng.integers(image.width - width + 1)), int(rng.integers(image.height - height + 1))
        image = image.crop((left, top, left + width, top + height))
    file = io.BytesIO()
    image.save(file, name, quality=quality)
    return Copy(file.getvalue(), source, kind, kept)


def groups_of(data: list[bytes]) -> list[list[int]]:
    """Groups of near copies, by the way that a gallery takes."""
    signed = sign(Encoded(data))
    assert not signed.problems
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "g"
        codes = np.zeros((0, 8), dtype=np.uint8)
        Gallery.create(path, codes=codes, ids=[], labels=[], bits=64, model_id="m").close()
        with open_writer(path) as writer:
            writer.commit_all(
                Item(
                    str(row),
                    bytes(8),
                    content=content_key(file),
                    pixels=key.tobytes(),
                    signature=own.tobytes(),
                )
                for row, (file, key, own) in enumerate(zip(data, signed.keys, signed.signatures, strict=True))
            )
        with Gallery.open(path) as gallery:
            found = duplicates(gallery)
    return [[int(name) for name in group.ids] for group in found.groups if group.kind == NEAR]


def baseline_pairs(data: list[bytes]) -> set[tuple[int, int]]:
    """Pairs within 10 bits of ImageHash's default hash."""
    hashes = np.array(
        [np.packbits(imagehash.phash(Image.open(io.BytesIO(file)).convert("RGB")).hash) for file in data]
    )
    pairs = set[tuple[int, int]]()
    for start in range(0, len(hashes), 500):
        rows, others = np.nonzero(hamming(hashes[start : start + 500], hashes) <= BASELINE_BITS)
        pairs |= {
            (a + start, b) for a, b in zip(rows.tolist(), others.tolist(), strict=True) if a + start < b
        }
    return pairs


def shares(copies: list[Copy], pairs: set[tuple[int, int]]) -> dict[str, float]:
    """The share of the copies of each kind that are found."""
    hits = {kind: list[bool]() for kind in KINDS}
    for n, copy in enumerate(copies):
        hits[copy.kind].append((copy.source, PHOTOS + n) in pairs)
    return {kind: round(float(np.mean(own)), 4) for kind, own in hits.items()}


def mean(draws: list[dict[str, Any]], which: str, kind: str) -> float:
    return round(float(np.mean([draw[which][kind] for draw in draws])), 4)


def by_kept_side(draws: list[dict[str, Any]]) -> dict[str, float]:
    """The share of crops found, by how much of each side they keep."""
    crops = [crop for draw in draws for crop in draw["crops"]]
    edges = (0.6, 0.8, 0.9, 0.95, 0.97, 0.98)
    return {
        f"{low:g} to {high:g}": round(float(np.mean([hit for kept, hit in crops if low <= kept < high])), 4)
        for low, high in pairwise(edges)
    }


def costs(files: list[bytes]) -> dict[str, float]:
    """Milliseconds in one thread to decode an image, for its pixel key and for its signature; and of 12 megapixels."""
    rng = np.random.default_rng(0)
    tile = np.asarray(Image.open(io.BytesIO(files[0])).convert("RGB"))
    file = io.BytesIO()
    large = np.tile(tile, (12, 16, 1))[:3000, :4000] ^ rng.integers(0, 16, (3000, 4000, 3), dtype=np.uint8)
    Image.fromarray(large).save(file, "JPEG", quality=90)
    return {**costs_of(files, "256 x 256"), **costs_of([file.getvalue()] * 5, "4000 x 3000")}


def costs_of(files: list[bytes], what: str) -> dict[str, float]:
    spent = dict.fromkeys(("decode", "pixel key", "signature"), 0.0)
    for file in files:
        times = [time.perf_counter()]
        pixels = decode(file).pixels
        times.append(time.perf_counter())
        pixel_key(pixels)
        times.append(time.perf_counter())
        signature_of(pixels, len(file))
        times.append(time.perf_counter())
        for name, before, after in zip(spent, times, times[1:], strict=False):
            spent[name] += after - before
    return {f"{name}, {what}": round(1e3 * total / len(files), 2) for name, total in spent.items()}


def seconds(files: list[bytes], n: int) -> float:
    """Seconds to find near copies among n signatures; beyond the photographs, hashes of parts of theirs."""
    from anglehash.gallery.duplicates import sorted_pairs

    rng = np.random.default_rng(0)
    known = sign(Encoded(files[:PHOTOS])).signatures
    made = known[rng.integers(len(known), size=n)] if n > len(known) else known[:n]
    made = made.copy()
    for part in range(0, 32, 8) if n > len(known) else ():
        made["hash"][:, part : part + 8] = known["hash"][rng.integers(len(known), size=n), part : part + 8]
    began = time.perf_counter()
    sorted_pairs(made)
    return round(time.perf_counter() - began, 1)


if __name__ == "__main__":
    main()
