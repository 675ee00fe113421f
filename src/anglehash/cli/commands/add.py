"""``anglehash add``."""

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


@click.command("add")
@click.argument("gallery")
@click.argument("images")
@prefix_option
@verify_content_option
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
    root: Path | None,
    download: bool,
    exclude: tuple[str, ...],
    memory: int | None,
    lock_timeout: float,
    model: Path | None,
    strict: bool,
    as_json: bool,
) -> int:
    """Add IMAGES to GALLERY, encoded with its own model.

    An id is the image's path below IMAGES. A new id is added; one that is there is passed over where its
    bytes are equal, and replaced where they are not. Each batch is on disk once it is done.

    \b
    Example:
        anglehash add gallery/ more-photos/ --prefix more
    """
    from anglehash.gallery.build import Images, add
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
    done = add(gallery, given, using=Using(model, strict), lock_timeout=lock_timeout, progress=Console())
    name = shown(gallery)
    facts = {"gallery": name, **done.facts()}
    return show_encoded(
        facts, done.problems, done.notes, as_json=as_json, text=lambda: f"{name}: {done.line()}"
    )
