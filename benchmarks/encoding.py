"""Images a second from files to codes by a bundle, against its bare network on images that are prepared already.

    python benchmarks/encoding.py BUNDLE COCO.parquet --out results/encoding.json

Both use one network thread; decoding runs in one process on the other core. Rounds of the two alternate, so that
what else the machine does meets both; the ratio is the median over the rounds. Processor times stand beside the
clock: other work counts little in them, and two free cores need max(caller, decoder) for an image. COCO's JPEG files
here are 256 x 256 px; large photographs, which the same files enlarged to 3,072 x 3,072 px stand for, are reported
apart: there decoding takes longer than the network. The result is in results/encoding.json, and in docs/bundles.md.
"""

from __future__ import annotations

import argparse
import platform
import resource
import time
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from anglehash import Bundle
from anglehash.data.dataset import Encoded
from anglehash.data.images.workers import default_workers
from anglehash.data.sources.open import list_images
from anglehash.encode.network import BATCH
from anglehash.files import write_json

LARGE = 3_072  # pixels on a side: a 9-megapixel photograph


def measure(bundle: Bundle, files: list[bytes], rounds: int) -> dict[str, Any]:
    """Images a second of both, by round."""
    pixels = np.stack([bundle.network.preprocessing(data) for data in files])
    bundle.network.logits(pixels[:BATCH])  # warm up
    whole, bare, busy = [], [], []
    for _ in range(rounds):
        before = _clocks()
        found = bundle.encode(Encoded(files))
        middle = _clocks()
        bundle.network.logits(pixels)
        encode, network = middle - before, _clocks() - middle
        whole.append(len(files) / encode[0])
        bare.append(len(files) / network[0])
        busy.append(1e3 * np.array([encode[1], encode[2], network[1]]) / len(files))
        assert len(found.codes) == len(files)
    ratios = [a / b for a, b in zip(whole, bare, strict=True)]
    caller, decoder, network_alone = np.median(busy, axis=0)
    return {
        "images": len(files),
        "megabytes": round(sum(map(len, files)) / 1e6, 1),
        "rounds": rounds,
        "encode_per_second": round(float(np.median(whole)), 1),
        "network_per_second": round(float(np.median(bare)), 1),
        "ratio_of_medians": round(float(np.median(whole) / np.median(bare)), 3),
        "median_of_ratios": round(float(np.median(ratios)), 3),
        "processor_ms_per_image": {
            "caller": round(float(caller), 2),
            "decoder": round(float(decoder), 2),
            "network_alone": round(float(network_alone), 2),
        },
        "ratio_by_processor_time": round(float(network_alone / max(caller, decoder)), 3),
        "ratios": [round(ratio, 3) for ratio in ratios],
    }


def _clocks() -> NDArray[np.float64]:
    """Seconds: of the clock, of this process on a processor, and of the decoders that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return np.array([time.perf_counter(), time.process_time(), children.ru_utime + children.ru_stime])


def enlarged(data: bytes) -> bytes:
    buffer = BytesIO()
    Image.open(BytesIO(data)).convert("RGB").resize((LARGE, LARGE)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("images", help="folder, manifest or known set")
    parser.add_argument(
        "--count", type=int, default=1500, help="the more, the less the start of the decoder counts"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("results/encoding.json"))
    options = parser.parse_args()
    bundle = Bundle.open(options.bundle, strict=True)
    listed = list_images(options.images).images
    count = min(options.count, len(listed))
    rows = np.random.default_rng(0).permutation(len(listed))[:count]
    files = [data for data in (listed.read(int(row)) for row in rows) if isinstance(data, bytes)]
    result = {
        "bundle": {key: bundle.facts[key] for key in ("precision", "bits")}
        | {"backbone": bundle.config.backbone},
        "size": bundle.network.preprocessing.size,
        "decoding_processes": default_workers(),
        "coco": measure(bundle, files, options.rounds),
        "large_photographs": measure(bundle, [enlarged(data) for data in files[:32]], 3),
        "machine": {"processor": platform.processor() or platform.machine(), "cores": default_workers() + 1},
        "versions": {name: version(name) for name in ("anglehash", "numpy", "pillow", "onnxruntime")},
        "note": "the machine was shared with other work: absolute rates are low, the two alternate in each round",
    }
    write_json(options.out, result)
    print(options.out.read_text())


if __name__ == "__main__":
    main()
