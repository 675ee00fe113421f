"""``anglehash repair``."""

from __future__ import annotations

from pathlib import Path

import click

from anglehash.cli.console import EXIT_SKIPPED, PATH, json_option, printable, show
from anglehash.cli.options import lock_option


@click.command("repair")
@click.argument("gallery", type=PATH)
@lock_option
@json_option
def command(gallery: Path, lock_timeout: float, as_json: bool) -> int:
    """Make GALLERY whole again; exit code 3 if items were lost.

    Segments, manifest and receipt are rebuilt from the database. Of a damaged database everything that is
    still whole is kept, and the damaged one is put aside. Sync afterwards: what was lost is encoded again.

    \b
    Example:
        anglehash repair gallery/
    """
    from anglehash.gallery.store.repair import repair

    done = repair(gallery, lock_timeout=lock_timeout)
    facts = {
        "gallery": str(gallery),
        "faults": [fault._asdict() for fault in done.faults],
        "items": done.items,
        "lost": done.lost,
        "kept": str(done.kept) if done.kept else None,
    }
    lines = [f"{printable(fault.file)}: {printable(fault.detail)}" for fault in done.faults]
    lines.append(f"{gallery}: {done.items} items, {done.lost} lost")
    lines += [f"the damaged store is kept as {done.kept}"] if done.kept else []
    show(facts, as_json=as_json, text=lambda: "\n".join(lines))
    return EXIT_SKIPPED if done.lost else 0
