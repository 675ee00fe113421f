"""``anglehash export``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from anglehash.cli.console import (
    PATH,
    data_options,
    force_option,
    json_option,
    layout_option,
    show,
    split_options,
    table,
)


@click.command("export")
@click.argument("model", type=PATH)
@click.option("-o", "--output", type=PATH, required=True, help="Folder of the bundle.")
@click.option("--int8", is_flag=True, help="Write the network in 8 bits: smaller, a model of its own.")
@click.option("--data", help="Images to compare the codes on: a folder, a manifest or a known set.")
@split_options
@data_options
@layout_option
@force_option
@json_option
def command(
    model: Path,
    output: Path,
    int8: bool,
    data: str | None,
    root: Path | None,
    download: bool,
    exclude: tuple[str, ...],
    layout: str | None,
    force: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Write MODEL as a bundle, which encodes without torch: encode, index, search and serve take it.

    The codes of model and bundle are compared on --data, with the mAP of both where --protocol names a split,
    else on pictures that come with anglehash. A bundle that gives the model's codes has its id and serves its
    galleries.

    \b
    Example:
        anglehash export model/ -o bundle/ --data photos/ --protocol holdout
    """
    from anglehash.cli.console import check_split_options
    from anglehash.data.choose_split import split_of
    from anglehash.data.sources.open import list_images, open_dataset
    from anglehash.progress import Console
    from anglehash.training.export_bundle import Trial, export_bundle

    check_split_options(options, options["protocol"])
    progress = Console()
    if data is None:
        if options["protocol"] or root or download:
            raise click.UsageError("--protocol, --root and --download say how to read --data: add it")
        trial = Trial.of_probes()
    elif options["protocol"]:
        dataset = open_dataset(data, root=root, download=download, layout=layout, exclude=exclude)
        trial = Trial.of_split(split_of(dataset, progress=progress, **options))
    else:
        trial = Trial.of_images(data, list_images(data, root=root, download=download, exclude=exclude).images)
    found = export_bundle(model, output, trial, int8=int8, force=force, progress=progress)
    show(found, as_json=as_json, text=lambda: _text(found))


def _text(found: dict[str, Any]) -> str:
    parity = found["parity"]
    rows = [["network", "equal bits", "equal codes", "mAP"]]
    rows.append(["model", "", "", f"{parity['model']['map']:.4f}" if parity["model"] else ""])
    for name in ("fp32", "int8"):
        if name in parity:
            one = parity[name]
            score = f"{one['map']:.4f}" if "map" in one else ""
            rows.append([name, f"{one['equal_bits']:.6f}", f"{one['equal_codes']:.6f}", score])
    whose = "the model's own" if found["id"] == found["model"] else "another than the model's"
    return (
        f"{found['bundle']}: {found['precision']}, {found['bytes'] / 2**20:.1f} MiB, id {found['id']} ({whose})\n"
        f"compared on {parity['images']} images of {parity['source']}:\n\n{table(rows)}"
    )
