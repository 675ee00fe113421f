"""The report of an evaluation: what ``anglehash evaluate`` measured.

A key that the result lacks leaves out its part of the page, and a key that the page does not know is
listed as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from anglehash.files import refuse_existing, write_atomic
from anglehash.report.components import header, page, section
from anglehash.report.html import Markup, join, tag
from anglehash.report.pictures import Row
from anglehash.report.sections import sections
from anglehash.report.tiles import answer_list, query_tile
from anglehash.report.values import figure


def write_report(
    path: Path, result: Mapping[str, Any], rows: Sequence[Row] = (), *, force: bool = False
) -> None:
    """Write the report of an evaluation as one HTML file.

    Args:
        path: the new file.
        result: what the evaluation returned, or its JSON.
        rows: some queries and their answers, shown with their images.
        force: replace a file that is there.

    Raises:
        OutputExistsError: ``path`` exists and ``force`` is not set.
    """
    refuse_existing(path, force=force)
    write_atomic(path, render(result, rows).encode())


def render(result: Mapping[str, Any], rows: Sequence[Row] = ()) -> str:
    """The page of :func:`write_report`."""
    name = f"{result.get('protocol') or 'evaluation'}"
    top = header("retrieval report", name, tag("p", _subtitle(result), class_="subtitle"))
    return page(f"{name}: mAP {figure(result.get('map'))}", top, sections(result, answers=_answers(rows)))


def _subtitle(result: Mapping[str, Any]) -> str:
    parts = {"bits": "{}-bit codes", "method": "{}", "backbone": "{}", "size": "{} px", "dataset": "{}"}
    return " · ".join(form.format(result[key]) for key, form in parts.items() if result.get(key) is not None)


def _answers(rows: Sequence[Row]) -> Markup:
    """Queries and their answers, side by side."""
    groups = [tag("div", query_tile(row.query), answer_list(row.answers), class_="answers") for row in rows]
    return section("Some queries and their answers", join(*groups))
