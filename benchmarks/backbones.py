"""Images per second of a frozen backbone: torch against ONNX Runtime.

    python benchmarks/backbones.py --out results/backbones.json

Each engine computes the features of the same random pixels (decoding is not in it), in batches of
``anglehash.models.backbones.BATCH``. The engines take turns, so that a busy machine slows all of them, and the
best round of each counts; the processor's time is written beside the wall clock's, since it bears other
people's work better. Before the engines are timed their features are compared: a fast wrong answer stops the
run, and so does an image whose ONNX Runtime features depend on its batch or on the threads.

Result (``results/backbones.json``; efficientnet_lite0, batch 32, best of 6 rounds, torch 2.13, ONNX
Runtime 1.32; 2 cores with other work on them, load 2 before and 5 after), images per second:

    ===== ======= ============ =================== ===========
    size  threads torch (NCHW) torch channels_last ONNX Runtime
    ===== ======= ============ =================== ===========
    128   1       73           101                 365
    128   2       39           54                  335
    224   1       19           26                  112
    224   2       12           21                  90
    ===== ======= ============ =================== ===========

ONNX Runtime is 3.6 (128 px) and 4.3 times (224 px) as fast as the better torch; its features differ from torch's by
1e-5 at most, of up to 6; an export takes 5 to 8 s, so it pays from about 1,000 images on. A second thread gains nothing
where the cores are busy: one is the default.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from anglehash.encode.session import Session
from anglehash.files import write_json
from anglehash.models.backbones import BATCH, make_backbone
from anglehash.models.networks import run_module
from anglehash.models.onnx_network import export

Engine = Callable[[NDArray[np.uint8]], NDArray[np.float32]]

CLOSE = 1e-4
"""Largest difference between the features of two engines; features go up to 6."""


def run_contiguous(module: nn.Module, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """As :func:`run_module`, in torch's default memory layout."""
    with torch.inference_mode():
        features = module(torch.from_numpy(images).permute(0, 3, 1, 2).float().contiguous())
    return np.asarray(features.numpy())


def engines(module: nn.Module, model: bytes, threads: int) -> dict[str, Engine]:
    torch.set_num_threads(threads)
    return {
        "torch": lambda images: run_contiguous(module, images),
        "torch channels_last": lambda images: run_module(module, images),
        "onnxruntime": Session(model, threads=threads),
    }


def check(found: dict[str, Engine], images: NDArray[np.uint8]) -> dict[str, float]:
    """Largest differences from torch; stops the run where an engine is wrong."""
    expected = found["torch"](images)
    differences = {name: float(np.abs(run(images) - expected).max()) for name, run in found.items()}
    assert max(differences.values()) < CLOSE, differences
    run = found["onnxruntime"]
    alone = np.concatenate([run(image[None]) for image in images[:8]])
    assert np.array_equal(alone, run(images)[:8]), "the features of an image depend on its batch"
    return differences


def measure(found: dict[str, Engine], images: NDArray[np.uint8], rounds: int) -> dict[str, dict[str, float]]:
    """Images per second of each engine, by the wall clock and by the processor's time, in its best round."""
    clocks = {"images_per_second": time.perf_counter, "images_per_cpu_second": time.process_time}
    best = {clock: dict.fromkeys(found, float("inf")) for clock in clocks}
    for _ in range(rounds):
        for name, run in found.items():
            started = {clock: now() for clock, now in clocks.items()}
            run(images)
            for clock, now in clocks.items():
                best[clock][name] = min(best[clock][name], now() - started[clock])
    return {
        clock: {name: round(len(images) / seconds, 1) for name, seconds in times.items()}
        for clock, times in best.items()
    }


def cell(name: str, size: int, threads: list[int], rounds: int) -> list[dict[str, Any]]:
    module = make_backbone(name, size=size).module
    assert module is not None
    started = time.perf_counter()
    model = export(module, size)
    seconds = time.perf_counter() - started
    images = np.random.default_rng(0).integers(0, 256, (BATCH, size, size, 3), dtype=np.uint8)
    records = []
    answers = []
    for count in threads:
        found = engines(module, model, count)
        differences = check(found, images)
        answers.append(found["onnxruntime"](images))
        records.append(
            {
                "backbone": name,
                "size": size,
                "threads": count,
                **measure(found, images, rounds),
                "largest_difference": differences,
                "export_seconds": round(seconds, 1),
            }
        )
        print(json.dumps(records[-1]), flush=True)
    assert all(np.array_equal(answer, answers[0]) for answer in answers), "features depend on the threads"
    return records


def main() -> None:
    parser = argparse.ArgumentParser(description="Images per second of torch and ONNX Runtime.")
    parser.add_argument("--backbones", nargs="+", default=["efficientnet_lite0"])
    parser.add_argument("--sizes", nargs="+", type=int, default=[128, 224])
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    circumstances = {
        "versions": {name: version(name) for name in ("torch", "onnxruntime", "numpy")},
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "batch": BATCH,
        "rounds": given.rounds,
        "load_before": round(os.getloadavg()[0], 2),
    }
    records = [
        r for b in given.backbones for s in given.sizes for r in cell(b, s, given.threads, given.rounds)
    ]
    if given.out:
        write_json(given.out, {"circumstances": circumstances, "results": records})


if __name__ == "__main__":
    main()
