"""``anglehash evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import click

from anglehash.cli.console import (
    PATH,
    data_options,
    finer_label_option,
    force_option,
    json_option,
    layout_option,
    listed,
    show,
    skipped,
    split_options,
)
from anglehash.cli.options import strict_option
from anglehash.encode.load import open_encoder


@click.command("evaluate")
@click.argument("model", type=PATH)
@click.argument("data", required=False)
@click.option("--query", type=PATH, help="Folder or manifest of query images.")
@click.option("--database", type=PATH, help="Folder or manifest to search in.")
@split_options
@data_options
@layout_option
@finer_label_option
@click.option("-o", "--output", type=PATH, help="Write the result as JSON.")
@click.option("--html", type=PATH, help="Write a report, one self-contained page.")
@click.option("--figures", type=PATH, help="Write the charts as PDF files into this folder, for papers.")
@strict_option
@force_option
@json_option
def command(
    model: Path,
    data: str | None,
    query: Path | None,
    database: Path | None,
    root: Path | None,
    download: bool,
    exclude: tuple[str, ...],
    layout: str | None,
    finer_label: str | None,
    output: Path | None,
    html: Path | None,
    figures: Path | None,
    strict: bool,
    force: bool,
    as_json: bool,
    **options: Any,
) -> int:
    """Measure MODEL, a model or a bundle, on DATA by a protocol, or on two folders of your own.

    Queries that the model has seen in training are refused.

    \b
    Example:
        anglehash evaluate model/ photos/ --protocol holdout --html report.html
        anglehash evaluate model/ --query new/ --database photos/
    """
    from anglehash.cli.console import check_split_options
    from anglehash.cli.results import picture_rows, summary
    from anglehash.data.choose_split import split_of, two_folders
    from anglehash.data.sources.open import open_dataset
    from anglehash.evaluation.evaluate_model import Measurable, evaluate_model
    from anglehash.files import cache_dir, refuse_existing, write_json
    from anglehash.progress import Console
    from anglehash.report.evaluation import write_report
    from anglehash.report.figures import save_pdf
    from anglehash.report.sections import charts_of

    if output and output == html:
        raise click.UsageError("--output and --html name the same file")
    for path in (output, html):
        if path:
            refuse_existing(path, force=force)
    if (query is None) != (database is None) or (data is None) == (query is None):
        raise click.UsageError("give DATA with --protocol, or --query and --database")
    opened, progress = open_encoder(model, strict=strict), Console()
    if query and database:
        check_split_options(options, options["protocol"])
        split = two_folders(
            query,
            database,
            unlabelled=options["unlabelled"],
            finer_label=finer_label,
            layout=layout,
            exclude=exclude,
            progress=progress,
        )
    else:
        dataset = open_dataset(
            str(data), root=root, download=download, finer_label=finer_label, layout=layout, exclude=exclude
        )
        protocol = options["protocol"] or ("given" if dataset.brings_queries else None)
        if not protocol:
            raise click.UsageError("say how DATA is split: --protocol holdout, given, cifar10-I, coco, ...")
        split = split_of(dataset, progress=progress, **{**options, "protocol": protocol})
    measured = evaluate_model(cast(Measurable, opened), split, cache=cache_dir(), progress=progress)
    found = {**measured.result, "problems": listed(split.dataset.problems)}
    show(found, as_json=as_json, text=lambda: summary(measured.result))
    if output:
        write_json(output, found)
    if html:
        write_report(html, measured.result, picture_rows(measured, split), force=force)
    if figures:
        save_pdf(figures, charts_of(measured.result), force=force)
    return skipped(split.dataset.problems)
