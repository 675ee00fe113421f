"""``anglehash remove``."""

from __future__ import annotations

import click

from anglehash.cli.console import json_option, show
from anglehash.cli.options import lock_option


@click.command("remove")
@click.argument("gallery")
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@lock_option
@json_option
def command(gallery: str, ids: tuple[str, ...], lock_timeout: float, as_json: bool) -> None:
    """Remove items from GALLERY by their ids; their image files stay where they are.

    \b
    Example:
        anglehash remove gallery/ cat/1.jpg cat/2.jpg
        anglehash remove milvus:http://localhost:19530#photos cat/1.jpg
    """
    from anglehash.gallery.build import remove
    from anglehash.gallery.target import shown

    name = shown(gallery)
    count = remove(gallery, ids, lock_timeout=lock_timeout)
    show(
        {"gallery": name, "removed": count},
        as_json=as_json,
        text=lambda: f"{name}: {count} removed",
    )
