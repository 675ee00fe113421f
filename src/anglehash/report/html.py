"""HTML and SVG from parts, escaped by construction.

Text becomes markup in one place only, :func:`tag`, which escapes whatever is not :class:`Markup` already.
So a class that is called ``<script>`` is shown, never run, wherever its name turns up.
"""

from __future__ import annotations

from html import escape

_VOID = frozenset({"img", "meta"})  # elements without an end tag


class Markup(str):
    """Text that is HTML already. Made by :func:`tag`; by hand only out of what we wrote ourselves."""

    __slots__ = ()


def visible(text: str) -> str:
    """The text with a mark in place of what cannot be seen: controls, lone surrogates, changes of direction.

    >>> visible("a" + chr(10) + "b")
    'a�b'
    """
    return "".join(character if character.isprintable() else "�" for character in text)


def tag(name: str, /, *children: str, **attributes: str | float | bool | None) -> Markup:
    """An element: ``tag("p", "1 < 2", class_="note")``.

    Args:
        name: of the element.
        children: markup is kept, text is escaped.
        attributes: ``_`` stands for ``-``, and one at the end is dropped (``class_``); those that are
            ``None`` or ``False`` are left out, ``True`` gives the bare name.

    >>> tag("p", "1 < 2", tag("b", "!"), class_="a b", hidden=True, title=None)
    '<p class="a b" hidden>1 &lt; 2<b>!</b></p>'
    """
    opening = [name]
    for key, value in attributes.items():
        key = key.removesuffix("_").replace("_", "-")
        if value is True:
            opening.append(key)
        elif value is not None and value is not False:
            opening.append(f'{key}="{_escaped(str(value))}"')
    start = f"<{' '.join(opening)}>"
    return Markup(start if name in _VOID else f"{start}{join(*children)}</{name}>")


def join(*parts: str) -> Markup:
    """Parts one after the other: markup is kept, text is escaped."""
    return Markup("".join(part if isinstance(part, Markup) else _escaped(part) for part in parts))


def _escaped(text: str) -> str:
    return escape(visible(text))
