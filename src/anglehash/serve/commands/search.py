"""``anglehash search``."""

from __future__ import annotations

from pathlib import Path

import click

from anglehash.errors import ImageError
from anglehash.serve.console import PATH, json_option, printable, show, table


@click.command("search")
@click.argument("gallery", type=PATH)
@click.argument("query", type=PATH)
@click.option("-k", type=int, help="At most so many answers.  [default: 10, without --radius]")
@click.option("--radius", type=int, help="Answers within so many bits.")
@click.option("--engine", default="faiss", show_default=True, help="Search engine.")
@json_option
def command(
    gallery: Path, query: Path, k: int | None, radius: int | None, engine: str, as_json: bool
) -> None:
    """Find the images of GALLERY that are nearest to the image QUERY.

    \b
    Example:
        anglehash search gallery/ query.jpg -k 5
    """
    from anglehash.data.dataset import Encoded
    from anglehash.data.images import read_file
    from anglehash.learn.model import Model
    from anglehash.search.gallery import Gallery

    if k is not None and k < 1:
        raise click.UsageError(f"-k must be at least 1, got {k}")
    opened = Gallery.open(gallery)
    model = Model.load(opened.model_folder)
    opened.require_model(model.id)
    try:
        image = read_file(query)
    except ImageError as error:
        raise ImageError(error.reason, f"{query}: {error.detail}") from error
    found = model.encode(Encoded([image]))
    if found.problems:
        _, reason, detail = found.problems[0]
        raise ImageError(reason, f"{query}: {detail}")
    k = 10 if k is None and radius is None else k
    hits = opened.search(found.codes, k, radius=radius, engine=engine)[0]
    answer = {
        "query": str(query),
        "k": k,
        "radius": radius,
        "results": [hit._asdict() | {"labels": list(hit.labels)} for hit in hits],
    }
    show(
        answer,
        as_json=as_json,
        text=lambda: table(
            [["rank", "distance", "labels", "id"]]
            + [[str(h.rank), str(h.distance), printable("|".join(h.labels)), printable(h.id)] for h in hits]
        ),
    )
