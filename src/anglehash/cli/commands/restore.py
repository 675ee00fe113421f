"""``anglehash restore``."""

from __future__ import annotations

from pathlib import Path

import click

from anglehash.cli.console import PATH, force_option, json_option, show


@click.command("restore")
@click.argument("file", type=PATH)
@click.option("-o", "--output", type=PATH, required=True, help="Folder of the gallery.")
@force_option
@json_option
def command(file: Path, output: Path, force: bool, as_json: bool) -> None:
    """Make a gallery from a backup FILE, after every byte of it has been compared.

    \b
    Example:
        anglehash restore gallery.tar -o gallery/
    """
    from anglehash.gallery.gallery import Gallery
    from anglehash.gallery.store.backup import restore

    restore(file, output, force=force)
    facts = Gallery.open(output).info()
    show(facts, as_json=as_json, text=lambda: f"{output}: {facts['items']} images, {facts['bits']} bits")
