"""``anglehash export-codes``."""

from __future__ import annotations

from pathlib import Path

import click

from anglehash.cli.console import PATH, force_option, json_option, show


@click.command("export-codes")
@click.argument("gallery")
@click.option("-o", "--output", type=PATH, required=True, help="FILE.parquet, FILE.npz or FILE.faiss.")
@force_option
@json_option
def command(gallery: str, output: Path, force: bool, as_json: bool) -> None:
    """Write the codes and ids of GALLERY for other tools: Parquet, NumPy, or a faiss binary index.

    \b
    Example:
        anglehash export-codes gallery/ -o codes.parquet
    """
    from anglehash.gallery.export import export_codes
    from anglehash.gallery.opening import open_gallery
    from anglehash.gallery.target import shown

    with open_gallery(gallery) as opened:
        count = export_codes(opened, output, force=force)
        facts = {"gallery": shown(gallery), "output": str(output), "items": count, "bits": opened.bits}
    show(facts, as_json=as_json, text=lambda: f"{output}: {count} codes")
