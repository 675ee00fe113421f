"""``anglehash train``."""

from __future__ import annotations

from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import click

from anglehash.cli.console import (
    PATH,
    data_options,
    force_option,
    json_option,
    layout_option,
    listed,
    max_pixels_option,
    printable,
    show,
    skipped,
    split_options,
)

_SETTINGS = (
    "bits", "method", "preset", "likeness", "backbone", "image_size", "fine_tune", "epochs", "seed", "device",
    "threads",
    "unlabelled", "allow_truncated", "max_pixels",
)  # fmt: skip


@click.command("train")
@click.argument("data")
@click.option(
    "-o",
    "--output",
    type=PATH,
    required=True,
    help="Folder of the new model.",
)
@click.option("--bits", type=int, help="Length of a code, 4 to 1024.  [default: 64]")
@click.option("--method", help="Deep: andsh, csq, dpsh, ...; conventional: itq, ksh, ...  [default: andsh]")
@click.option("--preset", help="Named settings of the method; 'paper' is the faithful one.")
@click.option(
    "--likeness",
    type=float,
    help="How much a code keeps of what a picture looks like; 0 is the method's own code.  [default: 1]",
)
@click.option("--backbone", help="Network that gives features.  [default: efficientnet_lite0]")
@click.option(
    "--image-size", type=int, help="Side of its input, pixels; 224 is better on photos.  [default: 128]"
)
@click.option("--fine-tune/--frozen", default=None, help="Train the backbone too, or keep it.")
@click.option("--epochs", type=int, help="Passes over the images.")
@click.option("--seed", type=int, help="Seed of weights and order.  [default: 0]")
@click.option("--device", help="Where features and networks are computed, cpu or cuda.  [default: cpu]")
@click.option("--threads", type=int, help="CPU threads of the network.  [default: 1]")
@click.option("--allow-truncated", is_flag=True, default=None, help="Accept JPEG files whose end is missing.")
@max_pixels_option
@click.option("--config", type=PATH, help="TOML file of settings.")
@split_options
@data_options
@layout_option
@click.option("--resume", is_flag=True, help="Resume an interrupted run.")
@force_option
@json_option
def command(
    data: str,
    output: Path,
    config: Path | None,
    root: Path | None,
    download: bool,
    exclude: tuple[str, ...],
    layout: str | None,
    resume: bool,
    force: bool,
    as_json: bool,
    **options: Any,
) -> int:
    """Train a hasher on DATA and save it.

    DATA is a folder with one folder a class, a manifest (.csv, .jsonl, .parquet), or a known set's name.
    With --protocol only that split's training part is learned from.

    Several processes share each batch where torchrun starts them.

    \b
    Example:
        anglehash train photos/ -o model/ --bits 32
        torchrun --nproc-per-node 2 -m anglehash train photos/ -o model/
    """
    from anglehash.cli.console import check_split_options
    from anglehash.config import TrainConfig
    from anglehash.data.choose_split import split_of
    from anglehash.data.perceptual_hash import series_line
    from anglehash.data.sources.open import open_dataset
    from anglehash.errors import TrainingError
    from anglehash.files import cache_dir, refuse_existing
    from anglehash.manifest import is_a
    from anglehash.methods.catalogue import is_classical, is_frozen
    from anglehash.progress import Console, silent
    from anglehash.training.distributed import ranks_of_this_run
    from anglehash.training.fit import fit
    from anglehash.training.workdir import working_folder

    refuse_existing(output, force=force, ours=is_a("model"))
    given = {name: options[name] for name in _SETTINGS if options[name] is not None}
    settings = TrainConfig.from_toml(config, **given) if config else TrainConfig(**given)
    options |= {"unlabelled": settings.unlabelled, "max_pixels": settings.max_pixels}
    dataset = open_dataset(data, root=root, download=download, layout=layout, exclude=exclude)
    protocol = options["protocol"] or ("given" if dataset.brings_queries else None)
    check_split_options(options, protocol)
    with ranks_of_this_run(settings.device) as ranks:
        progress = Console() if ranks.first else silent
        if ranks.first:
            which = f"protocol {protocol}" if protocol else "all but a tenth for validation"
            click.echo(
                f"{printable(data)}: input {settings.image_size} px (--image-size; 224 is better on photos), "
                f"{settings.bits} bits (--bits), {which}",
                err=True,
            )
            if settings.epochs and is_frozen(settings) and settings.backbone != "tiny":
                click.echo(
                    f"{settings.method} learns from the features of a frozen backbone, where epochs have no effect; "
                    "its own options stand in [loss] of --config",
                    err=True,
                )
            if ranks.size > 1 and is_classical(settings.method):
                click.echo(
                    f"{ranks.size} processes share the backbone's work; {settings.method} is learned by the first of "
                    "them, and the others wait",
                    err=True,
                )
        with working_folder(output, resume=resume, force=force, first=ranks.first) as work:
            ranks.wait()
            source: Any = dataset
            if protocol:
                source = split_of(dataset, progress=progress, **{**options, "protocol": protocol})
            model = fit(
                source,
                settings,
                work=work,
                cache=cache_dir(),
                download=download,
                ranks=ranks,
                progress=progress,
            )
            if ranks.first:
                model.save(output, force=force)
            # Torchrun ends all processes if one ends badly: none goes before the model is there. Then the first has
            # nothing left to do, whatever becomes of the others.
            with suppress(TrainingError) if ranks.first else nullcontext():
                ranks.wait()
            if not ranks.first:
                return 0
    last = model.log[-1]
    series = series_line(model.split.get("near_copies"), "validation images", "the training part")
    facts = {"model": str(output), **model.facts(), "training": last, "problems": listed(model.problems)}
    show(
        facts,
        as_json=as_json,
        text=lambda: (
            f"{output}: {model.config.bits}-bit {model.config.method}, likeness {model.config.likeness:g}, "
            f"{len(model.class_names)} classes"
            + (f", {len(model.log)} epochs" if len(model.log) > 1 else "")
            + (f", validation mAP {last['validation_map']:.3f}" if "validation_map" in last else "")
            + (f"\n{series}" if series else "")
        ),
    )
    return skipped(model.problems)
