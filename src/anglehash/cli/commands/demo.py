"""``anglehash demo``."""

from __future__ import annotations

from pathlib import Path

import click

from anglehash.cli.console import PATH, force_option, json_option, show, skipped


@click.command("demo")
@click.option("--data", help="Your own images instead: a folder with one folder a class, or a manifest.")
@click.option(
    "--out",
    type=PATH,
    default=Path("anglehash-demo"),
    show_default=True,
    help="Folder for model, gallery, report and picture.",
)
@force_option
@json_option
def command(data: str | None, out: Path, force: bool, as_json: bool) -> int:
    """Show everything once: train, index, search, evaluate; offline, in less than a minute.

    Without --data it learns 1,797 scans of handwritten digits.

    \b
    Example:
        anglehash demo --data photos/ --out demo/
    """
    from anglehash.cli.demo import run_demo
    from anglehash.cli.results import summary
    from anglehash.files import new_folder
    from anglehash.manifest import is_a

    with new_folder(out, force=force, ours=lambda old: is_a("gallery")(old / "gallery")) as folder:
        demo = run_demo(data, folder)
    files = "model/  gallery/  result.json  report.html  answers.png"
    show(
        demo.measured.result,
        as_json=as_json,
        text=lambda: f"{summary(demo.measured.result)}\n\n{demo.search_line()}\nin {out}/: {files}",
    )
    return skipped(demo.split.dataset.problems)
