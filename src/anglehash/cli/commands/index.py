"""``anglehash index``."""

from __future__ import annotations

from pathlib import Path

import click

from anglehash.cli.console import PATH, data_options, force_option, json_option, show_encoded
from anglehash.cli.options import memory_option, prefix_option, strict_option


@click.command("index")
@click.argument("model", type=PATH)
@click.argument("images")
@click.option("-o", "--output", type=PATH, required=True, help="Folder of the gallery.")
@prefix_option
@data_options
@memory_option
@strict_option
@force_option
@json_option
def command(
    model: Path,
    images: str,
    output: Path,
    prefix: str,
    root: Path | None,
    download: bool,
    exclude: tuple[str, ...],
    memory: int | None,
    strict: bool,
    force: bool,
    as_json: bool,
) -> int:
    """Encode IMAGES with MODEL, a model or a bundle, into a gallery that can be searched.

    The gallery holds a copy of it, so it can be moved and searched on its own. A call that was
    stopped is resumed when it is given again.

    \b
    Example:
        anglehash index model/ photos/ -o gallery/
    """
    from anglehash.gallery.build import Images, build
    from anglehash.gallery.gallery import Gallery
    from anglehash.progress import Console

    given = Images(data=images, root=root, download=download, prefix=prefix, memory=memory, exclude=exclude)
    done = build(model, given, output, force=force, strict=strict, progress=Console())
    gallery = Gallery.open(output)
    return show_encoded(
        {**gallery.info(), **done.facts()},
        done.problems,
        done.notes,
        as_json=as_json,
        text=lambda: f"{output}: {len(gallery)} images, {gallery.bits} bits",
    )
