"""Options that the commands on galleries share."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar, cast

import click

from anglehash.gallery.filters import Condition, Filter
from anglehash.gallery.store.opening import LOCK_TIMEOUT

F = TypeVar("F", bound=Callable[..., Any])

lock_option = click.option(
    "--lock-timeout",
    type=click.FloatRange(0),
    default=LOCK_TIMEOUT,
    show_default=True,
    help="Seconds to wait for another writer.",
)

strict_option = click.option(
    "--strict", is_flag=True, help="Refuse a bundle whose golden probes have other codes on this machine."
)
model_option = click.option(
    "--model",
    type=click.Path(path_type=Path, readable=False),
    help="Encode with this model or bundle, of the gallery's own id, in place of its copy.",
)


def encoder_options(command: F) -> F:
    """``--model`` and ``--strict``: who encodes for a gallery (:class:`anglehash.encode.load.Using`)."""
    return model_option(strict_option(command))


prefix_option = click.option("--prefix", default="", help="Put this and a / before each id.")
verify_content_option = click.option(
    "--verify-content", is_flag=True, help="Read also files whose size and date have not changed."
)

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", re.IGNORECASE)


def in_bytes(context: click.Context, parameter: click.Parameter, text: str | None) -> int | None:
    """What a size such as ``2G`` is in bytes: for options that take one."""
    if text is None:
        return None
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise click.BadParameter(f"a size is a number with K, M or G, such as 2G, got {text!r}")
    return int(float(found[1]) * 1024 ** "KMGT".find(found[2].upper()) * 1024) if found[2] else int(found[1])


memory_option = click.option("--memory", callback=in_bytes, help="Memory to stay below, such as 2G.")


class Moment(click.ParamType[datetime]):
    """A date, or a date and a time, as ISO 8601 has them; without a time zone in the machine's own."""

    name = "date"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """The moment that a text means."""
        if isinstance(value, datetime):
            return value
        try:
            return datetime.fromisoformat(value.strip())
        except ValueError:
            self.fail(
                f"a moment is a date, with a time and a time zone if you like: 2024-05-01, 2024-05-01T18:30 or "
                f"2024-05-01T18:30:00+02:00; got {value!r}",
                param,
                ctx,
            )


def filter_options(command: F) -> F:
    """``--label``, ``--glob``, ``--after``, ``--before`` and ``--where``, given to the command as one ``matching``."""

    @wraps(command)
    def with_filter(
        *arguments: Any,
        label: tuple[str, ...],
        pattern: str | None,
        after: datetime | None,
        before: datetime | None,
        where: tuple[str, ...],
        **others: Any,
    ) -> Any:
        conditions = tuple(map(Condition.parse, where))
        matching = Filter(labels=label, path=pattern, after=after, before=before, where=conditions)
        return command(*arguments, matching=matching, **others)

    date = Moment()
    wrapped: Any = with_filter
    for option in (
        click.option(
            "--where",
            multiple=True,
            help="Only where a metadata column fulfils this: year>=2019; repeatable.",
        ),
        click.option(
            "--before", type=date, help="Only files changed before this moment: 2024-05-01T18:30+02:00."
        ),
        click.option("--after", type=date, help="Only files changed at or after this moment."),
        click.option("--glob", "pattern", help="Only ids that match: 'trips/*.jpg'; * passes over / too."),
        click.option("--label", multiple=True, help="Only items with this label; repeat for any of several."),
    ):
        wrapped = option(wrapped)
    return cast(F, wrapped)
