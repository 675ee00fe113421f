from __future__ import annotations

from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anglehash.report.html import Markup, join, tag, visible


class Reader(HTMLParser):
    """What a browser makes of markup: its elements and its text."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(markup)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


@given(st.text())
def test_any_text_comes_back_as_text_and_as_attribute(text: str) -> None:
    read = Reader(tag("p", text, title=text))
    assert read.elements == [("p", {"title": visible(text)})]
    assert read.text == visible(text)


def test_markup_is_kept_and_text_is_not() -> None:
    assert tag("p", tag("b", "<i>"), "<i>") == "<p><b>&lt;i&gt;</b>&lt;i&gt;</p>"
    assert join("<", Markup("<br>")) == "&lt;<br>"
    assert isinstance(join(), Markup)
    assert isinstance(tag("p"), Markup)


def test_markup_that_is_edited_is_text_again() -> None:
    assert tag("p", tag("b") + "") == "<p>&lt;b&gt;&lt;/b&gt;</p>"


def test_attributes() -> None:
    assert tag("a", class_="x y", data_n=3, hidden=True, title=None, open=False) == (
        '<a class="x y" data-n="3" hidden></a>'
    )
    assert tag("meta", name="viewport", http_equiv='"') == '<meta name="viewport" http-equiv="&quot;">'


@pytest.mark.parametrize("character", ["\0", "\x1b", "\n", "\u202e", "\udcff", "\u200b"])
def test_what_cannot_be_seen_is_marked(character: str) -> None:
    assert visible(f"a{character}b") == "a�b"


def test_letters_of_every_script_are_kept() -> None:
    assert visible("Straße 猫 кот 🦊 a b") == "Straße 猫 кот 🦊 a b"
