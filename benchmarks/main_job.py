"""Seconds and peak memory of each stage of the main job: CIFAR-10 protocol I, from nothing cached.

    python benchmarks/main_job.py -o results/main-job.json

Each stage is a command of its own, as a user would type it, so start-up is included. Memory is the peak of
the largest single process of the stage.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from anglehash.files import write_json

HERE = Path(__file__).parent


def main() -> None:
    """Run the stages in a fresh cache."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bits", type=int, default=32)
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    os.environ.setdefault("ANGLEHASH_DATA", str(HERE.parents[1] / "shared" / "data"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["ANGLEHASH_CACHE"] = str(folder / "cache")
        model, gallery = folder / "model", folder / "gallery"
        protocol = ["--protocol", "cifar10-I"]
        table = pq.read_table(Path(os.environ["ANGLEHASH_DATA"]) / "cifar10" / "cifar10_jpeg.parquet").slice(
            0, 1
        )
        query = folder / "query.jpg"
        query.write_bytes(table["image"][0].as_py())
        bits = ["--bits", str(arguments.bits)]
        stages: dict[str, list[object]] = {
            "check (decode and compare 60,000 images)": ["check", "cifar10"],
            "train (features of 5,000 images, 30 epochs)": [
                "train",
                "cifar10",
                "-o",
                model,
                *protocol,
                *bits,
            ],
            "train again (features cached)": ["train", "cifar10", "-o", model, *protocol, *bits, "--force"],
            "evaluate (features of 60,000 images)": ["evaluate", model, "cifar10", *protocol],
            "evaluate again (features cached)": ["evaluate", model, "cifar10", *protocol],
            "index 60,000 images (features cached)": ["index", model, "cifar10", "-o", gallery],
            "search (one image)": ["search", gallery, query],
        }
        rows = [run(stage, command) for stage, command in stages.items()]
    progress = {"bits": arguments.bits, "stages": rows}
    print(json.dumps(progress))
    if arguments.output:
        write_json(arguments.output, progress)


def run(stage: str, command: list[object]) -> dict[str, Any]:
    """Run one command of anglehash; its seconds and peak memory."""
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "anglehash", *map(str, command)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    code = os.waitstatus_to_exitcode(status)
    if code:
        raise SystemExit(f"{stage}: exit code {code}")
    row = {
        "stage": stage,
        "seconds": round(time.perf_counter() - started, 1),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_memory_mib": usage.ru_maxrss // 1024,
    }
    print(json.dumps(row), file=sys.stderr, flush=True)
    return row


if __name__ == "__main__":
    main()
