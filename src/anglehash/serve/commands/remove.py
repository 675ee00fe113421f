"""``anglehash remove``."""

from __future__ import annotations

from pathlib import Path

import click

from anglehash.serve.console import PATH, json_option, show
from anglehash.serve.options import lock_option


@click.command("remove")
@click.argument("gallery", type=PATH)
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@lock_option
@json_option
def command(gallery: Path, ids: tuple[str, ...], lock_timeout: float, as_json: bool) -> None:
    """Remove items from GALLERY by their ids; their image files stay where they are.

    \b
    Example:
        anglehash remove gallery/ cat/1.jpg cat/2.jpg
    """
    from anglehash.serve.galleries import remove

    count = remove(gallery, ids, lock_timeout=lock_timeout)
    show(
        {"gallery": str(gallery), "removed": count},
        as_json=as_json,
        text=lambda: f"{gallery}: {count} removed",
    )
