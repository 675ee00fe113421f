"""``anglehash reindex``."""

from __future__ import annotations

from pathlib import Path

import click

from anglehash.cli.console import PATH, json_option, show_encoded
from anglehash.cli.options import lock_option, strict_option


@click.command("reindex")
@click.argument("gallery", type=PATH)
@click.option("--model", type=PATH, required=True, help="The new model or bundle.")
@lock_option
@strict_option
@json_option
def command(gallery: Path, model: Path, lock_timeout: float, strict: bool, as_json: bool) -> int:
    """Encode the images of GALLERY again with another model.

    Until it is done the gallery answers with its old codes; then all of them change at once. Ids, labels and
    metadata stay. A call that was stopped is resumed when it is given again.

    \b
    Example:
        anglehash reindex gallery/ --model new-model/
    """
    from anglehash.gallery.gallery import Gallery
    from anglehash.gallery.reindex import reindex
    from anglehash.progress import Console

    done = reindex(gallery, model, strict=strict, lock_timeout=lock_timeout, progress=Console())
    opened = Gallery.open(gallery)
    return show_encoded(
        opened.info(),
        done.problems,
        done.notes,
        as_json=as_json,
        text=lambda: f"{gallery}: {len(opened)} images, {opened.bits} bits, model {opened.model_id}",
    )
