"""``anglehash encode``."""

from __future__ import annotations

import io
from pathlib import Path

import click

from anglehash.serve.console import PATH, data_options, force_option, json_option, show_encoded
from anglehash.serve.encoders import strict_option


@click.command("encode")
@click.argument("model", type=PATH)
@click.argument("images")
@click.option("-o", "--output", type=PATH, required=True, help="The .npz file.")
@data_options
@strict_option
@force_option
@json_option
def command(
    model: Path,
    images: str,
    output: Path,
    root: Path | None,
    download: bool,
    strict: bool,
    force: bool,
    as_json: bool,
) -> int:
    """Encode IMAGES with MODEL, a model or a bundle: packed codes and ids, in one .npz file.

    IMAGES is a folder, a manifest, or a known set. Arrays: codes (uint8, n x ceil(bits/8)), ids (text,
    sorted), bits. Images that cannot be read are absent, listed, and make the exit code 3.

    \b
    Example:
        anglehash encode model/ photos/ -o codes.npz
    """
    import numpy as np

    from anglehash.data.sources import list_images
    from anglehash.files import refuse_existing, write_atomic
    from anglehash.serve.encoding import encode_listed

    refuse_existing(output, force=force)
    found = encode_listed(model, list_images(images, root=root, download=download), strict=strict)
    buffer = io.BytesIO()
    np.savez(buffer, codes=found.codes, ids=np.array(found.ids, dtype=np.str_), bits=np.int64(found.bits))
    write_atomic(output, buffer.getvalue())
    facts = {"codes": str(output), "images": len(found.ids), "bits": found.bits, "model": found.model_id}
    return show_encoded(
        {**facts, "skipped": len(found.problems)},
        found.problems,
        found.notes,
        as_json=as_json,
        text=lambda: f"{output}: {len(found.ids)} codes of {found.bits} bits",
    )
