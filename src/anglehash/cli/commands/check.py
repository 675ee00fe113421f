"""``anglehash check``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from anglehash.cli.console import (
    EXIT_SKIPPED,
    data_options,
    finer_label_option,
    json_option,
    layout_option,
    max_pixels_option,
    printable,
    show,
    table,
)


@click.command("check")
@click.argument("data")
@data_options
@layout_option
@max_pixels_option
@finer_label_option
@json_option
def command(
    data: str,
    root: Path | None,
    download: bool,
    exclude: tuple[str, ...],
    layout: str | None,
    max_pixels: int | None,
    finer_label: str | None,
    as_json: bool,
) -> int:
    """Look DATA over before training: counts, tiny classes, unreadable files, duplicates.

    \b
    Example:
        anglehash check photos/
    """
    from anglehash.config import MAX_PIXELS
    from anglehash.data.inspect import check
    from anglehash.data.sources.open import open_dataset
    from anglehash.files import cache_dir
    from anglehash.progress import Console

    dataset = open_dataset(
        data, root=root, download=download, finer_label=finer_label, layout=layout, exclude=exclude
    )
    found = check(
        dataset, max_pixels=max_pixels or MAX_PIXELS, cache=cache_dir() / "keys", progress=Console()
    )
    show(found, as_json=as_json, text=lambda: _text(found))
    return EXIT_SKIPPED if found["problems"]["images"] else 0


def _text(found: dict[str, Any]) -> str:
    parts = list(found["per_part"])
    rows = [["class", "images", *parts]]
    for name, counts in found["per_class"].items():
        rows.append([printable(name), counts["images"], *(counts.get(part, 0) for part in parts)])
    shown = (
        rows if len(rows) <= 42 else [*rows[:41], [f"... {len(rows) - 41} more"] + [""] * (len(parts) + 1)]
    )
    lines = [
        f"{found['name']}: {found['images']} readable images, {found['classes']} classes",
        *_finer(found["finer"]),
        "",
        table(shown),
    ]
    if found["problems"]["images"]:
        lines += ["", f"{found['problems']['images']} files cannot be used:"]
        lines += [
            f"  {printable(p['id'])}: {p['reason']} ({p['detail']})" for p in found["problems"]["first"]
        ]
    lines += ["", *(f"! {printable(warning)}" for warning in found["warnings"])] if found["warnings"] else []
    return "\n".join(lines)


def _finer(found: dict[str, Any] | None) -> list[str]:
    if not found:
        return []
    return [f"finer label: {found['classes']} classes, {found['without']} images without one"]
