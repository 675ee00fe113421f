"""``anglehash encode``."""

from __future__ import annotations

from pathlib import Path

import click

from anglehash.cli.console import PATH, data_options, force_option, json_option, show_encoded
from anglehash.cli.options import strict_option


@click.command("encode")
@click.argument("model", type=PATH)
@click.argument("images")
@click.option("-o", "--output", type=PATH, required=True, help="The .npz file.")
@click.option("--shard", metavar="I/N", help="Encode the I-th of N shares; the last one joins them.")
@data_options
@strict_option
@force_option
@json_option
def command(
    model: Path,
    images: str,
    output: Path,
    shard: str | None,
    root: Path | None,
    download: bool,
    exclude: tuple[str, ...],
    strict: bool,
    force: bool,
    as_json: bool,
) -> int:
    """Encode IMAGES with MODEL, a model or a bundle: packed codes and ids, in one .npz file.

    IMAGES is a folder, a manifest, or a known set. Arrays: codes (uint8, n x ceil(bits/8)), ids (text,
    sorted), bits. Images that cannot be read are absent, listed, and make the exit code 3.

    Several processes or machines share the work where each is given a --shard, or torchrun starts them;
    a share that failed is encoded again by the same command.

    \b
    Example:
        anglehash encode model/ photos/ -o codes.npz
        torchrun --nproc-per-node 2 -m anglehash encode model/ photos/ -o codes.npz
    """
    from anglehash.data.sources.open import list_images
    from anglehash.encode.codes_file import write_codes
    from anglehash.encode.listed import encode_listed
    from anglehash.encode.load import open_encoder
    from anglehash.encode.shards import Shard, encode_shard
    from anglehash.files import refuse_existing

    refuse_existing(output, force=force)
    share = Shard.read(shard)
    encoder = open_encoder(model, strict=strict)
    listed = list_images(images, root=root, download=download, exclude=exclude)
    if share:
        found, left = encode_shard(share, output, listed, encoder)
    else:
        found, left = encode_listed(encoder, listed), ()
        write_codes(output, found.codes, found.ids, found.bits)
    facts = {"codes": str(output), "images": len(found.ids), "bits": found.bits, "model": found.model_id}
    if share:
        facts |= {"shard": list(share), "left": list(left)}
    what = f"shard {share.number} of {share.of}" if share and left else str(output)
    more = f"; still to be encoded: shards {', '.join(map(str, left[:10]))}" if left else ""
    return show_encoded(
        {**facts, "skipped": len(found.problems)},
        found.problems,
        found.notes,
        as_json=as_json,
        text=lambda: f"{what}: {len(found.ids)} codes of {found.bits} bits{more}",
    )
