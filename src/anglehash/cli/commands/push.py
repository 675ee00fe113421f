"""``anglehash push``."""

from __future__ import annotations

from pathlib import Path

import click

from anglehash.cli.console import PATH, force_option, json_option, show


@click.command("push")
@click.argument("gallery", type=PATH)
@click.argument("target")
@click.option("--no-model", is_flag=True, help="Leave the model out: TARGET is then searched with --model.")
@force_option
@json_option
def command(gallery: Path, target: str, no_model: bool, force: bool, as_json: bool) -> None:
    """Copy GALLERY into the engine that TARGET names: milvus:URI#NAME or postgres:DSN#NAME.

    Nobody sees anything of it until all is there, read back and compared. If it is broken off, the same command goes
    on. What TARGET holds of the same model is replaced; of another one only with --force.

    \b
    Example:
        anglehash push gallery/ milvus:http://localhost:19530#photos
        anglehash push gallery/ postgres://me@localhost/images#photos
    """
    from anglehash.gallery.target import Target
    from anglehash.progress import Console
    from anglehash.remote.transfer import push

    place = Target.parse(target)
    done = push(gallery, place, force=force, model=not no_model, progress=Console())
    facts = {"gallery": str(gallery), "target": str(place), **done.facts()}
    show(facts, as_json=as_json, text=lambda: f"{place}: {done.items} items, {done.found} were there already")
