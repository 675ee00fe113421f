"""What the commands share: options, output, and the exit code for skipped inputs."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from anglehash.data.dataset import Problem

F = TypeVar("F", bound=Callable[..., Any])

EXIT_SKIPPED = 3
EXIT_IO = 74
EXIT_PERMISSION = 77


class _Path(click.Path):
    """A path; not the target of a gallery that an engine keeps, of which a folder would be made by mistake."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from anglehash.gallery.target import names_backend, shown

        if isinstance(value, str) and ":" in value and names_backend(value) and not Path(value).exists():
            self.fail(
                f"{shown(value)} is a gallery in an engine, and this takes a path: make a folder of the gallery "
                "with anglehash pull, and bring it back with push",
                param,
                ctx,
            )
        return super().convert(value, param, ctx)


PATH = _Path(path_type=Path, readable=False)  # who reads it says what is wrong, with the right exit code

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
force_option = click.option("--force", is_flag=True, help="Replace an output that exists.")
finer_label_option = click.option(
    "--finer-label",
    metavar="COLUMN",
    help="Column of a manifest with a second label that training never sees.",
)


def data_options(command: F) -> F:
    """``--root``, ``--download``: where the images of a set or a manifest are; ``--exclude``: which are left out."""
    command = click.option(
        "--exclude",
        multiple=True,
        metavar="PATTERN",
        help="Leave out ids that match: 'raw/*', '*.gif', a folder's name; repeatable.",
    )(command)
    command = click.option(
        "--download", is_flag=True, help="Fetch a known set from its official address if it is not here."
    )(command)
    return click.option(
        "--root",
        type=PATH,
        help="Folder of a known set, or of a manifest's images.",
    )(command)


max_pixels_option = click.option(
    "--max-pixels",
    type=click.IntRange(64, 1_000_000_000),
    help="Largest image that is decoded; a JPEG may have four times as many.  [default: 80000000]",
)
layout_option = click.option(
    "--layout",
    type=click.Choice(["classes", "parts"]),
    help="What the top folders of DATA are, where their names leave it open.",
)


def split_options(command: F) -> F:
    """``--protocol`` and what belongs to it."""
    for option in (
        click.option(
            "--unlabelled",
            type=click.Choice(["refuse", "skip"]),
            help="What to do with images without a label.  [default: refuse]",
        ),
        click.option(
            "--class-split",
            "draw",
            type=int,
            help="Protocol unseen: which draw of classes, 0 to 4.  [default: 0]",
        ),
        click.option(
            "--unseen", type=int, help="Protocol unseen: how many classes are kept out of training."
        ),
        click.option("--drop-label", multiple=True, help="Protocol coco: leave a label out; repeatable."),
        click.option("--split-seed", type=int, help="Seed of the split.  [default: 0]"),
        click.option("--protocol", help="Named split: holdout, given, cifar10-I, coco, ..."),
    ):
        command = option(command)
    return command


def show(value: dict[str, Any], *, as_json: bool, text: Callable[[], str]) -> None:
    """Print a result: one JSON object, or text for people."""
    if as_json:
        click.echo(json.dumps(value, allow_nan=False))
    else:
        click.echo("\n".join(map(printable, text().splitlines())))


def listed(problems: Sequence[Problem]) -> list[dict[str, str]]:
    """Skipped images as JSON values."""
    return [problem._asdict() for problem in problems]


def skipped(problems: Sequence[Problem], *, most: int = 20) -> int:
    """List skipped images on standard error; the exit code that goes with them."""
    if not problems:
        return 0
    click.echo(f"skipped {len(problems)} images:", err=True)
    for problem in problems[:most]:
        click.echo(f"  {printable(problem.id)}: {problem.reason} ({printable(problem.detail)})", err=True)
    if len(problems) > most:
        click.echo(f"  ... and {len(problems) - most} more", err=True)
    return EXIT_SKIPPED


def remarked(notes: Sequence[dict[str, str]], *, most: int = 5) -> None:
    """Say on standard error which images had something wrong that was passed over."""
    if notes:
        click.echo(f"{len(notes)} remarks on images that were used all the same:", err=True)
    for note in notes[:most]:
        click.echo(f"  {printable(note['id'])}: {printable(note['note'])}", err=True)


def show_encoded(
    value: dict[str, Any],
    problems: Sequence[Problem],
    notes: Sequence[dict[str, str]],
    *,
    as_json: bool,
    text: Callable[[], str],
) -> int:
    """Print what came of images, with those that were skipped and the remarks; the exit code."""
    show({**value, "problems": listed(problems), "notes": list(notes)}, as_json=as_json, text=text)
    remarked(notes)
    return skipped(problems)


def table(rows: Sequence[Sequence[object]]) -> str:
    """Rows as aligned columns; numbers to the right.

    >>> print(table([["bits", "mAP"], [32, "0.7"]]))
    bits  mAP
      32  0.7
    """
    text = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in text) for i in range(len(text[0]))]
    numeric = [_is_number(row[i] for row in text[1:]) for i in range(len(widths))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        ).rstrip()
        for row in text
    )


def _is_number(cells: Any) -> bool:
    values = [cell for cell in cells if cell not in ("", "-")]
    return bool(values) and all(cell.replace(".", "", 1).replace(",", "").isdigit() for cell in values)


def printable(line: str) -> str:
    r"""A line that any terminal can show: control characters and undecodable bytes are escaped.

    >>> printable("a" + chr(10) + "b" + chr(0xDCE9))
    'a\\nb\\udce9'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)


def check_split_options(options: dict[str, Any], protocol: str | None) -> None:
    """Refuse options of a split where there is none to apply them to.

    Raises:
        click.UsageError: naming the option.
    """
    names = {
        "split_seed": "split-seed",
        "draw": "class-split",
        "unseen": "unseen",
        "drop_label": "drop-label",
    }
    for name, option in names.items():
        if protocol is None and options.get(name) not in (None, ()):
            raise click.UsageError(f"--{option} needs a --protocol to apply to")
