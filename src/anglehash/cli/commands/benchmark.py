"""``anglehash benchmark``."""

from __future__ import annotations

import os
from pathlib import Path

import click

from anglehash.cli.console import EXIT_SKIPPED, PATH, json_option, printable, show, skipped


@click.command("benchmark")
@click.argument("run", type=PATH)
@click.option(
    "-o", "--output", type=PATH, required=True, help="Folder of the result; an earlier one is resumed."
)
@click.option(
    "--workers", type=click.IntRange(1, 256), help="Processes, one thread each.  [default: one a CPU]"
)
@click.option(
    "--highlight", metavar="METHOD", help="Method marked in the page.  [default: the default method]"
)
@click.option("--figures", type=PATH, help="Write the charts as PDF files into this folder, for papers.")
@click.option("--force", is_flag=True, help="Recompute cells whose images have changed since.")
@json_option
def command(
    run: Path,
    output: Path,
    workers: int | None,
    highlight: str | None,
    figures: Path | None,
    force: bool,
    as_json: bool,
) -> int:
    """Compare methods on the same features, splits, seeds and code lengths, as RUN (a TOML file) says.

    Finished cells are kept, so a run that was stopped resumes where it stopped. Writes result.json and
    report.html into the output folder.

    \b
    Example:
        anglehash benchmark runs/digits.toml -o results/digits
    """
    from anglehash.benchmark.report.leaderboard import Leaderboard
    from anglehash.benchmark.report.page import write_benchmark_report
    from anglehash.benchmark.report.plots import charts_of
    from anglehash.benchmark.run_file import Run
    from anglehash.benchmark.runner import benchmark
    from anglehash.cli.benchmark_results import examples_of, summary_of
    from anglehash.config import TrainConfig
    from anglehash.files import cache_dir
    from anglehash.progress import Console
    from anglehash.report.figures import save_pdf

    asked = Run.from_toml(run)
    done = benchmark(
        asked,
        output,
        cache=cache_dir(),
        workers=workers or len(os.sched_getaffinity(0)),
        force=force,
        progress=Console(),
    )
    page = output / "report.html"
    marked = highlight or TrainConfig().method
    examples = examples_of(done.result, done.split)
    write_benchmark_report(page, done.result, examples, highlight=marked, force=True)
    if figures:
        save_pdf(
            figures, list(charts_of(Leaderboard.of(done.result, marked), done.result).values()), force=True
        )
    show(
        {"result": str(output / "result.json"), "report": str(page), **done.result},
        as_json=as_json,
        text=lambda: f"{summary_of(done.result)}\n\nin {output}: result.json  report.html",
    )
    for cell, line in done.failed[:20]:
        click.echo(printable(f"failed: {cell.variant}, {cell.bits} bits, seed {cell.seed}: {line}"), err=True)
    return EXIT_SKIPPED if done.failed else skipped(done.split.dataset.problems)
