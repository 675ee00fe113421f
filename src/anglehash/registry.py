"""Registries: how a name on the command line becomes a thing.

:class:`Registry` serves small members that share a file (a decorator puts them in);
:class:`Folder` serves members that are a file each (dropping a file in is enough).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from importlib.metadata import entry_points
from pkgutil import iter_modules
from types import ModuleType
from typing import TypeVar

from anglehash.errors import unknown

T = TypeVar("T")


class Registry(Mapping[str, T]):
    """Names to members, filled by a decorator.

    Args:
        kind: what a member is called in messages.
        package: the package whose files hold the members; they are all imported when a name is first
            looked up, not before, so that dropping a file in is enough and importing the registry is cheap.

    >>> losses: Registry[type] = Registry("loss")
    >>> @losses.register("zero")
    ... class Zero: ...
    >>> losses["zero"].__name__, list(losses)
    ('Zero', ['zero'])
    >>> losses["zer"]
    Traceback (most recent call last):
    anglehash.errors.ConfigError: unknown loss 'zer'; did you mean 'zero'? Known: zero
    """

    def __init__(self, kind: str, *, package: str | None = None) -> None:
        self._kind = kind
        self._package = package
        self._members: dict[str, T] = {}

    def _filled(self) -> dict[str, T]:
        if self._package:
            for module in iter_modules(import_module(self._package).__path__):
                import_module(f"{self._package}.{module.name}")
            self._package = None  # only now: a file that fails to import is tried, and fails, again
        return self._members

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator that adds a member under ``name``; a name is given once."""

        def add(member: T) -> T:
            if name in self._members:
                raise ValueError(f"{self._kind} {name!r} is registered twice")
            self._members[name] = member
            return member

        return add

    def __getitem__(self, name: str) -> T:
        if name not in self._filled():
            raise unknown(self._kind, name, self._members)
        return self._members[name]

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._filled()))

    def __len__(self) -> int:
        return len(self._filled())

    def __contains__(self, name: object) -> bool:
        return name in self._filled()


class Folder(Mapping[str, ModuleType]):
    """Members that are files of one package; a file is imported when it is looked up.

    A member's name is its file's with ``-`` for ``_``. Files that start with ``_`` are not members.

    >>> engines = Folder("engine", "anglehash.index")
    >>> "exact" in engines
    True
    """

    def __init__(self, kind: str, package: str) -> None:
        self._kind = kind
        self._package = package

    def __getitem__(self, name: str) -> ModuleType:
        if name not in self:
            raise unknown(self._kind, name, self)
        return import_module(f"{self._package}.{name.replace('-', '_')}")

    def __iter__(self) -> Iterator[str]:
        paths = import_module(self._package).__path__
        return iter(
            sorted(m.name.replace("_", "-") for m in iter_modules(paths) if not m.name.startswith("_"))
        )

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __contains__(self, name: object) -> bool:
        return name in list(iter(self))


class EntryPoints(Mapping[str, ModuleType]):
    """Members that installed packages declare as entry points; one is imported when it is looked up.

    Args:
        kind: what a member is called in messages.
        group: of the entry points.
    """

    def __init__(self, kind: str, group: str) -> None:
        self._kind = kind
        self._group = group

    def __getitem__(self, name: str) -> ModuleType:
        for found in entry_points(group=self._group, name=name):
            return import_module(found.value)
        raise unknown(self._kind, name, self)

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(entry_points(group=self._group).names))

    def __len__(self) -> int:
        return len(entry_points(group=self._group).names)

    def __contains__(self, name: object) -> bool:
        return name in entry_points(group=self._group).names
