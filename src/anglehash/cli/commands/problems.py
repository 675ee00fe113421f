"""``anglehash problems``."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import click

from anglehash.cli.console import PATH, json_option, printable, show, table


@click.command("problems")
@click.argument("gallery", type=PATH)
@json_option
def command(gallery: Path, as_json: bool) -> None:
    """List the files that gave no code, and why.

    \b
    Example:
        anglehash problems gallery/
    """
    from anglehash.gallery.gallery import Gallery

    found = Gallery.open(gallery).problems
    facts = {
        "gallery": str(gallery),
        "reasons": dict(sorted(Counter(reason for _, reason, _ in found).items())),
        "problems": [{"id": name, "reason": reason, "detail": detail} for name, reason, detail in found],
    }
    rows = [["id", "reason", "detail"], *([printable(cell) for cell in row] for row in found)]
    show(facts, as_json=as_json, text=lambda: table(rows) if found else "no problems")
