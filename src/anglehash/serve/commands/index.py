"""``anglehash index``."""

from __future__ import annotations

from pathlib import Path

import click

from anglehash.serve.console import (
    PATH,
    data_options,
    force_option,
    json_option,
    listed,
    remarked,
    show,
    skipped,
)


@click.command("index")
@click.argument("model", type=PATH)
@click.argument("images")
@click.option(
    "-o",
    "--output",
    type=PATH,
    required=True,
    help="Folder of the gallery.",
)
@data_options
@force_option
@json_option
def command(
    model: Path, images: str, output: Path, root: Path | None, download: bool, force: bool, as_json: bool
) -> int:
    """Encode IMAGES with MODEL into a gallery that can be searched.

    The gallery holds a copy of the model, so it can be moved and searched on its own.

    \b
    Example:
        anglehash index model/ photos/ -o gallery/
    """
    from anglehash.data.sources import list_images
    from anglehash.files import refuse_existing
    from anglehash.manifest import is_a
    from anglehash.search.gallery import Gallery
    from anglehash.serve.encoding import encode_listed

    refuse_existing(output, force=force, ours=is_a("gallery"))
    found = encode_listed(model, list_images(images, root=root, download=download))
    gallery = Gallery.create(
        output,
        codes=found.codes,
        ids=found.ids,
        labels=found.labels,
        bits=found.bits,
        model_id=found.model_id,
        problems=found.problems,
        root=str(Path(images).absolute()) if Path(images).exists() else "",
        model=model,
        force=force,
    )
    facts = {**gallery.info(), "problems": listed(found.problems), "notes": found.notes}
    show(facts, as_json=as_json, text=lambda: f"{output}: {len(gallery)} images, {gallery.bits} bits")
    remarked(found.notes)
    return skipped(found.problems)
