"""What the pages are made of: the frame, tables, bars and definitions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib.metadata import version
from importlib.resources import files

from anglehash.report.html import Markup, join, tag
from anglehash.report.values import figure, number

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"  # no script, no other host


def style(name: str) -> Markup:
    """A style sheet of this folder."""
    return Markup(files("anglehash.report").joinpath(name).read_text(encoding="utf-8"))


def page(title: str, header: Markup, sections: Iterable[Markup]) -> str:
    """A whole page that needs nothing else, neither network nor script."""
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", f"{title} · anglehash"),
        tag("style", style("style.css")),
    )
    footer = tag("footer", f"Written by anglehash {version('anglehash')}.")
    body = tag("body", tag("main", header, *sections, footer))
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


def header(kicker: str, name: str, *lines: Markup) -> Markup:
    """The top of a page: what kind of page, its name, and lines under it."""
    top = tag("p", f"anglehash · {kicker}", class_="kicker")
    return tag("header", top, tag("h1", name), *lines)


def section(heading: str, *content: Markup) -> Markup:
    """A part of the page; nothing where all of its content is nothing."""
    return tag("section", tag("h2", heading), *content) if any(content) else join()


def folded(summary: str, *content: Markup) -> Markup:
    """Something to open when it is wanted; nothing where there is nothing."""
    return tag("details", tag("summary", summary), *content) if any(content) else join()


def table(caption: str, head: Sequence[str], rows: Iterable[Markup], *, class_: str | None = None) -> Markup:
    """A table of rows that are made already; without a head where all its names are empty."""
    top = tag("thead", tag("tr", *(tag("th", name, scope="col") for name in head))) if any(head) else join()
    return tag("table", tag("caption", tag("span", caption)), top, tag("tbody", *rows), class_=class_)


def scrolled(*content: Markup) -> Markup:
    """What may be wider than a narrow screen: it moves sideways alone, by touch or by key."""
    return tag("div", *content, class_="scroll", tabindex=0)


def row(cells: Iterable[str]) -> Markup:
    """A row of a table; its first cell is its name."""
    first, *others = cells
    return tag("tr", tag("th", first, scope="row"), *(tag("td", cell) for cell in others))


def bar_row(name: str, value: object, *, class_: str | None = None) -> Markup:
    """A share as a bar; the bar is drawn for the eye only, the number says the same."""
    bar = tag("span", style=f"--share: {min(max(number(value) or 0.0, 0.0), 1.0):.1%}")
    drawn = tag("td", bar, class_="bar", aria_hidden="true")
    return tag("tr", tag("th", name, scope="row"), drawn, tag("td", figure(value)), class_=class_)


def definitions(pairs: Iterable[tuple[str, str]]) -> Markup:
    """Names with what they stand for; nothing where there are none."""
    known = [tag("div", tag("dt", name), tag("dd", text)) for name, text in pairs]
    return tag("dl", *known) if known else join()


def cards(facts: Iterable[tuple[str, str, str]]) -> Markup:
    """A row of (value, name, note); those without a value are left out."""
    shown = [
        tag("div", tag("dt", name, tag("small", note)), tag("dd", value))
        for value, name, note in facts
        if value != "–"
    ]
    return tag("dl", *shown, class_="cards") if shown else join()
