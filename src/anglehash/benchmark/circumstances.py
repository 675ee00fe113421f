"""What a result says besides its cells: the place, the variants, the circumstances."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from anglehash.benchmark.run_file import Run, telling_settings
from anglehash.config import TrainConfig

LIBRARIES = ("anglehash", "torch", "numpy", "scikit-learn", "faiss-cpu", "onnxruntime", "pillow")


def facts_of(run: Run, splits: Sequence[Mapping[str, Any]], output: Path) -> dict[str, Any]:
    """All of a result but its cells, as JSON values.

    Args:
        run: what was run.
        splits: what is known of each split, the headline first.
        output: the folder of the result.
    """
    base = TrainConfig.from_dict(dict(run.settings))
    return {
        "name": run.name,
        "title": run.title or run.name,
        "notes": list(run.notes),
        "place": {
            "data": run.data,
            "protocol": run.protocol,
            "options": dict(run.options),
            "backbone": base.backbone,
            "size": base.image_size,
            "fine_tuned": base.fine_tune,
            "rank_cut": splits[0]["rank_cut"],
            "trains_on_database": splits[0]["trains_on_database"],
            "tie_rule": "exact expectation over all orders of tied items",
        },
        "seeds": list(run.seeds),
        "bits": list(run.bits),
        "splits": list(splits),
        "variants": variants_of(run),
        "published": [dict(entry) for entry in run.published],
        "examples": dict(run.examples),
        **({"example_bits": run.examples["bits"]} if "bits" in run.examples else {}),
        "circumstances": {
            "command": f"anglehash benchmark {run.source or run.name} -o {output}",
            "commit": _commit(),
            "python": platform.python_version(),
            "processor": platform.machine(),
            "versions": {name: version(name) for name in LIBRARIES},
        },
    }


def variants_of(run: Run) -> list[dict[str, Any]]:
    """Each variant with the settings that tell it from the defaults, and how it was tuned."""
    out: dict[str, dict[str, Any]] = {}
    chosen_of = {variant["name"]: run.chosen_for(variant) for variant in run.all_variants()}
    for cell in run.cells(run.split_specs()[0]):
        if cell.variant in out:
            continue
        telling = cell.settings if cell.kind == "baseline" else telling_settings(cell.config)
        telling = {k: v for k, v in telling.items() if k not in ("bits", "seed")}
        chosen = chosen_of.get(cell.variant)
        out[cell.variant] = {
            "name": cell.variant,
            "method": cell.method,
            "kind": cell.kind,
            "settings": telling,
            "tuned": {k: chosen[k] for k in ("trials", "validation_map")} if chosen else None,
        }
    return list(out.values())


def _commit() -> str | None:
    """The commit of the source that runs, where it is a checkout."""
    here = str(Path(__file__).parents[1])
    asked = ["git", "-C", here, "rev-parse", "--short", "HEAD"]
    try:
        done = subprocess.run(asked, capture_output=True, text=True, check=True, timeout=10)  # noqa: S603 # fixed
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
