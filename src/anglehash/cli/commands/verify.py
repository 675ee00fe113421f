"""``anglehash verify``."""

from __future__ import annotations

from pathlib import Path

import click

from anglehash.cli.console import PATH, json_option, printable, show


@click.command("verify")
@click.argument("gallery", type=PATH)
@json_option
def command(gallery: Path, as_json: bool) -> int:
    """Compare every byte of GALLERY with its hashes, and every row with its crc; exit code 1 if one is wrong.

    Nothing is changed: repair makes good what can be.

    \b
    Example:
        anglehash verify gallery/
    """
    from anglehash.gallery.store.verify import verify

    faults = verify(gallery)
    facts = {"gallery": str(gallery), "sound": not faults, "faults": [fault._asdict() for fault in faults]}
    lines = [f"{printable(fault.file)}: {printable(fault.detail)}" for fault in faults]
    show(facts, as_json=as_json, text=lambda: "\n".join(lines) if faults else f"{gallery}: all is well")
    return 1 if faults else 0
