"""``anglehash backup``."""

from __future__ import annotations

from pathlib import Path

import click

from anglehash.cli.console import PATH, force_option, json_option, show


@click.command("backup")
@click.argument("gallery", type=PATH)
@click.argument("file", type=PATH)
@force_option
@json_option
def command(gallery: Path, file: Path, force: bool, as_json: bool) -> None:
    """Write GALLERY into one FILE, from which restore makes it again.

    It may be searched and written meanwhile; the backup holds one generation. A damaged gallery is refused.

    \b
    Example:
        anglehash backup gallery/ gallery.tar
    """
    from anglehash.gallery.store.backup import backup

    facts = backup(gallery, file, force=force)
    show(facts, as_json=as_json, text=lambda: f"{file}: {facts['items']} items")
