"""``anglehash search``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from anglehash.cli.console import PATH, json_option, printable, show, table
from anglehash.cli.options import encoder_options, filter_options
from anglehash.encode.load import Using
from anglehash.encode.unknown_level import TRAINING, Level
from anglehash.gallery.filters import Filter
from anglehash.gallery.query import Hits
from anglehash.index import DEFAULT


@click.command("search")
@click.argument("gallery")
@click.argument("query", type=PATH, required=False)
@click.option("--similar-to", help="In place of QUERY: more like the item of this id.")
@click.option("-k", type=int, help="Maximum number of answers.  [default: 10, without --radius]")
@click.option("--radius", "--max-distance", "radius", type=int, help="Maximum distance, in bits.")
@click.option("--cursor", help="The next -k answers, after those that gave this cursor.")
@click.option(
    "--asymmetric",
    is_flag=True,
    help="Compare QUERY's logits with all codes: ranks better, slower; distances are fractions of bits.",
)
@click.option("--engine", default=DEFAULT, show_default=True, help="Search engine.")
@filter_options
@encoder_options
@json_option
def command(
    gallery: str,
    query: Path | None,
    similar_to: str | None,
    k: int | None,
    radius: int | None,
    cursor: str | None,
    asymmetric: bool,
    engine: str,
    matching: Filter,
    model: Path | None,
    strict: bool,
    as_json: bool,
) -> None:
    """Find the images of GALLERY that are nearest to the image QUERY; the same picture comes first.

    QUERY is a file, or - for the one on standard input.

    Filters apply first: -k answers are found if that many items pass.

    \b
    Example:
        anglehash search gallery/ query.jpg -k 5 --label cat
        curl -s https://example.org/cat.jpg | anglehash search gallery/ -
    """
    from anglehash.gallery.image_search import Question, answers
    from anglehash.gallery.opening import open_gallery

    if k is not None and k < 1:
        raise click.UsageError(f"-k must be at least 1, got {k}")
    if (query is None) == (similar_to is None):
        raise click.UsageError("give QUERY or --similar-to, and not both")
    if asymmetric and similar_to is not None:
        raise click.UsageError("--asymmetric wants an image as QUERY: an item has its bits alone")
    question = Question(query, similar_to, k, radius, cursor, engine, matching, asymmetric)
    with open_gallery(gallery) as opened:
        hits, following = answers(opened, question, Using(model, strict))
    answer: dict[str, Any] = {
        "query": str(query) if query else None,
        "similar_to": similar_to,
        "k": question.size,
        "radius": radius,
        "asymmetric": asymmetric,
        "cursor": following,
        "tied_at_last": hits.tied_at_last,
        "unknown": hits.unknown,
        "results": [
            hit._asdict()
            | {"labels": list(hit.labels), "metadata": dict(hit.metadata), "code": hit.code.hex()}
            for hit in hits
        ],
    }
    show(answer, as_json=as_json, text=lambda: _text(hits))


def _text(hits: Hits) -> str:
    """The answers as a table, and lines about others that are as far away as the last, and about an unknown query."""
    rows = [["rank", "distance", "labels", "id", ""]]
    for hit in hits:
        same = "same picture" if hit.same_picture else ""
        labels = printable("|".join(hit.labels))
        rows.append([str(hit.rank), f"{hit.distance:.4g}", labels, printable(hit.id), same])
    if not any(row[-1] for row in rows):
        rows = [row[:-1] for row in rows]
    shown = sum(hit.distance == hits[-1].distance for hit in hits)
    lines = []
    if hits.tied_at_last and hits.tied_at_last > shown:
        lines.append(
            f"{hits.tied_at_last} items in all are at distance {hits[-1].distance:.4g}, as the last one is"
        )
    if hits.unknown and hits.level:
        lines.append(_unknown(hits.level, hits.nearest))
    return "\n\n".join([table(rows), *lines])


def _unknown(level: Level, nearest: int | None) -> str:
    """That nothing looks like the query, with what that is taken from.

    >>> _unknown(Level(17, 0.049, 450, "validation"), 25)
    'nothing in this gallery looks like it (nearest at 25 bits; 95 % of known pictures have an item within 17)'
    """
    share = f"{100 * (1 - level.rejects):.0f} %"
    within = f"known pictures have an item within {level.bits}"
    if level.source == TRAINING:
        within = f"the pictures that the model learned from have another one within {level.bits}"
    return f"nothing in this gallery looks like it (nearest at {nearest} bits; {share} of {within})"
