"""``anglehash pull``."""

from __future__ import annotations

from pathlib import Path

import click

from anglehash.cli.console import PATH, force_option, json_option, show


@click.command("pull")
@click.argument("target")
@click.option("-o", "--output", type=PATH, required=True, help="Folder of the gallery.")
@force_option
@json_option
def command(target: str, output: Path, force: bool, as_json: bool) -> None:
    """Make a gallery of what the engine that TARGET names holds.

    If it is broken off, the same command resumes; the gallery appears when all is there and compared.

    \b
    Example:
        anglehash pull milvus:http://localhost:19530#photos -o gallery/
    """
    from anglehash.gallery.target import Target
    from anglehash.progress import Console
    from anglehash.remote.transfer import pull

    place = Target.parse(target)
    done = pull(place, output, force=force, progress=Console())
    facts = {"target": str(place), "gallery": str(output), **done.facts()}
    show(facts, as_json=as_json, text=lambda: f"{output}: {done.items} items")
