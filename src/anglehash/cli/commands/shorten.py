"""``anglehash shorten``."""

from __future__ import annotations

from pathlib import Path

import click

from anglehash.cli.console import PATH, force_option, json_option, show


@click.command("shorten")
@click.argument("model", type=PATH)
@click.option("--bits", type=int, required=True, help="Length of the new model's codes.")
@click.option("-o", "--output", type=PATH, required=True, help="Folder of the new model.")
@force_option
@json_option
def command(model: Path, bits: int, output: Path, force: bool, as_json: bool) -> None:
    """Write a model whose codes are the first bits of those of MODEL, which learned nested codes.

    Nothing is trained again. A model learns nested codes with --likeness 0 and nested = K, a length, under
    [loss] of its settings.

    \b
    Example:
        anglehash shorten model/ --bits 32 -o model-32/
    """
    from anglehash.models.model import Model

    whole = Model.load(model)
    short = whole.shortened(bits)
    short.save(output, force=force)
    found = {"model": str(output), "id": short.id, "bits": short.bits, "of": whole.bits}
    show(
        found,
        as_json=as_json,
        text=lambda: f"{output}: the first {short.bits} of {whole.bits} bits, id {short.id}",
    )
