"""``anglehash sync``."""

from __future__ import annotations

from pathlib import Path

import click

from anglehash.cli.console import data_options, json_option, show_encoded
from anglehash.cli.options import (
    encoder_options,
    lock_option,
    memory_option,
    prefix_option,
    verify_content_option,
)
from anglehash.encode.load import Using


@click.command("sync")
@click.argument("gallery")
@click.argument("images")
@prefix_option
@verify_content_option
@click.option("--force", is_flag=True, help="Remove more than half of the items, if their files are gone.")
@data_options
@memory_option
@lock_option
@encoder_options
@json_option
def command(
    gallery: str,
    images: str,
    prefix: str,
    verify_content: bool,
    force: bool,
    root: Path | None,
    download: bool,
    exclude: tuple[str, ...],
    memory: int | None,
    lock_timeout: float,
    model: Path | None,
    strict: bool,
    as_json: bool,
) -> int:
    """Make GALLERY hold what the folder IMAGES holds: new, changed, renamed and deleted files.

    As add does it; and items whose file is gone are removed. A file that was moved or renamed is found by
    its content. With --prefix only the ids below it are compared.

    \b
    Example:
        anglehash sync gallery/ photos/
    """
    from anglehash.gallery.build import Images, sync
    from anglehash.gallery.target import shown
    from anglehash.progress import Console

    given = Images(
        data=images,
        root=root,
        download=download,
        prefix=prefix,
        verify_content=verify_content,
        memory=memory,
        exclude=exclude,
    )
    done = sync(
        gallery,
        given,
        force=force,
        using=Using(model, strict),
        lock_timeout=lock_timeout,
        progress=Console(),
    )
    name = shown(gallery)
    facts = {"gallery": name, **done.facts()}
    return show_encoded(
        facts, done.problems, done.notes, as_json=as_json, text=lambda: f"{name}: {done.line()}"
    )
