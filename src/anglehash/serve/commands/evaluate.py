"""``anglehash evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from anglehash.errors import ConfigError
from anglehash.serve.console import data_options, force_option, json_option, show, skipped, split_options


@click.command("evaluate")
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("data", required=False)
@click.option("--query", type=click.Path(path_type=Path), help="Folder or manifest of query images.")
@click.option("--database", type=click.Path(path_type=Path), help="Folder or manifest to search in.")
@split_options
@data_options
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write the result as JSON.")
@click.option("--html", type=click.Path(path_type=Path), help="Write a report, one self-contained page.")
@force_option
@json_option
def command(
    model: Path,
    data: str | None,
    query: Path | None,
    database: Path | None,
    root: Path | None,
    download: bool,
    output: Path | None,
    html: Path | None,
    force: bool,
    as_json: bool,
    **options: Any,
) -> int:
    """Measure MODEL on DATA by a protocol, or on two folders of your own.

    Queries that the model has seen in training are refused.

    \b
    Example:
        anglehash evaluate model/ photos/ --protocol holdout --html report.html
        anglehash evaluate model/ --query new/ --database photos/
    """
    from anglehash.data.sources import open_dataset
    from anglehash.files import cache_dir, refuse_existing, write_json
    from anglehash.learn.measure import measure
    from anglehash.learn.model import Model
    from anglehash.progress import Console
    from anglehash.serve.report import write_report
    from anglehash.serve.results import picture_rows, summary
    from anglehash.serve.splits import brings_split, split_of, two_folders

    for path in (output, html):
        if path:
            refuse_existing(path, force=force)
    opened, report = Model.load(model), Console()
    if query and database and not data:
        split = two_folders(query, database, unlabelled=options["unlabelled"], report=report)
    elif data and not (query or database):
        dataset = open_dataset(data, root=root, download=download)
        protocol = options["protocol"] or ("given" if brings_split(dataset) else None)
        if not protocol:
            raise ConfigError("say how DATA is split: --protocol holdout, given, cifar10-I, coco, ...")
        split = split_of(dataset, report=report, **{**options, "protocol": protocol})
    else:
        raise ConfigError("give DATA with --protocol, or --query and --database")
    measured = measure(opened, split, cache=cache_dir(), report=report)
    if output:
        write_json(output, measured.result)
    if html:
        write_report(html, measured.result, picture_rows(measured, split))
    show(measured.result, as_json=as_json, text=lambda: summary(measured.result))
    return skipped(split.dataset.problems)
