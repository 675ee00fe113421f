"""``anglehash duplicates``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from anglehash.cli.console import json_option, printable, show
from anglehash.index import DEFAULT

if TYPE_CHECKING:
    from anglehash.gallery.duplicates import Duplicates, Group


@click.command("duplicates")
@click.argument("gallery")
@click.option("--engine", default=DEFAULT, show_default=True, help="Search engine for the hashes.")
@json_option
def command(gallery: str, engine: str, as_json: bool) -> None:
    """Find duplicates in GALLERY, in groups, with the one to keep; nothing is deleted.

    Duplicates have the same bytes, the same pixels, or are near copies: resized, recompressed or in another format.
    Pixels decide, not codes. Crops are not found; a search shows pictures that merely look alike.

    \b
    Example:
        anglehash duplicates gallery/
    """
    from anglehash.gallery.duplicates import duplicates
    from anglehash.gallery.opening import open_gallery

    with open_gallery(gallery) as opened:
        found = duplicates(opened, engine=engine)
    facts = {
        "gallery": gallery,
        "items": found.items,
        "without_pixels": found.without_pixels,
        "groups": [_facts(group) for group in found.groups],
    }
    show(facts, as_json=as_json, text=lambda: _text(found))


def _facts(group: Group) -> dict[str, object]:
    images = [
        {"id": name, "width": width, "height": height, "bytes": size}
        for name, (width, height, size) in zip(group.ids, group.sizes, strict=True)
    ]
    return {"kind": group.kind, "images": images, "keep": group.keep, "reason": group.reason}


def _text(found: Duplicates) -> str:
    lines = []
    for group in found.groups:
        lines.append(f"{group.kind}:")
        for name, (width, height, size) in zip(group.ids, group.sizes, strict=True):
            keep = f"  keep: {group.reason}" if name == group.keep else ""
            lines.append(f"  {printable(name)}  {width} x {height}, {size:,} bytes{keep}")
    if found.without_pixels:
        lines.append(
            f"{found.without_pixels} of {found.items} items came without pixels: of these only equal bytes are found"
        )
    return "\n".join(lines) if lines else "no duplicates"
