"""``anglehash duplicates``."""

from __future__ import annotations

from pathlib import Path

import click

from anglehash.search.engines import DEFAULT
from anglehash.serve.console import PATH, json_option, printable, show


@click.command("duplicates")
@click.argument("gallery", type=PATH)
@click.option("--max-distance", type=int, help="Codes so many bits apart count too.  [default: equal bytes]")
@click.option("--engine", default=DEFAULT, show_default=True, help="Search engine.")
@json_option
def command(gallery: Path, max_distance: int | None, engine: str, as_json: bool) -> None:
    """Find duplicates in GALLERY, in groups, with the largest file of each; nothing is deleted.

    Learned codes put a whole class close together: with --max-distance, look before you delete.

    \b
    Example:
        anglehash duplicates gallery/ --max-distance 0
    """
    from anglehash.search.duplicates import duplicates
    from anglehash.search.gallery import Gallery

    groups = duplicates(Gallery.open(gallery), max_distance=max_distance, engine=engine)
    facts = {
        "gallery": str(gallery),
        "max_distance": max_distance,
        "groups": [{**group._asdict(), "ids": list(group.ids)} for group in groups],
    }
    lines = []
    for group in groups:
        lines.append("same bytes:" if group.same_bytes else "near codes:")
        lines += [f"  {printable(name)}{' (keep)' * (name == group.keep)}" for name in group.ids]
    show(facts, as_json=as_json, text=lambda: "\n".join(lines) if lines else "no duplicates")
