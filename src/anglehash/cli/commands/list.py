"""``anglehash list``."""

from __future__ import annotations

import click

from anglehash.cli.console import json_option, printable, show, table
from anglehash.cli.options import filter_options
from anglehash.gallery.filters import Filter


@click.command("list")
@click.argument("gallery")
@click.option("--limit", type=click.IntRange(1), help="Maximum number.")
@click.option("--cursor", type=click.IntRange(0), default=0, help="Go on where an earlier call ended.")
@filter_options
@json_option
def command(
    gallery: str,
    limit: int | None,
    cursor: int,
    matching: Filter,
    as_json: bool,
) -> None:
    """List the items of GALLERY: id, labels and metadata, in the order in which they were added.

    \b
    Example:
        anglehash list gallery/ --label cat --limit 20
    """
    from anglehash.gallery.opening import open_gallery
    from anglehash.gallery.target import shown

    with open_gallery(gallery) as opened:
        found, following = opened.listed(matching, limit=limit, after_row=cursor)
        total = len(opened)
    items = [{"id": item.id, "labels": list(item.labels), "metadata": dict(item.metadata)} for item in found]
    facts = {"gallery": shown(gallery), "total": total, "items": items, "cursor": following}
    rows = [["id", "labels"], *([printable(item.id), printable("|".join(item.labels))] for item in found)]
    show(facts, as_json=as_json, text=lambda: table(rows))
