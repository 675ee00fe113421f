"""Targets: how a remote gallery is named, ``ENGINE:ADDRESS#NAME``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple, Self

from anglehash.errors import ConfigError, unknown
from anglehash.registry import EntryPoints

BACKENDS = EntryPoints("backend of remote galleries", "anglehash.backends")
"""Databases that keep galleries: modules with ``connect(target)``, which returns a backend."""

NAME = "gallery"
"""The name of a gallery where a target gives none."""

_FORM = re.compile(r"([a-z][a-z0-9-]+):(.*?)(?:#([^#]*))?", re.DOTALL)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,39}")  # PostgreSQL's names end at 63 bytes, and 17 are ours
_SECRETS = re.compile(r"(?<=://)[^/@]*@|(?i:password|token)\s*=\s*('[^']*'|[^\s&]+)\s*")


class Target(NamedTuple):
    """Where a remote gallery is.

    Attributes:
        engine: a name out of :data:`BACKENDS`.
        address: of the engine, as the engine's own client takes it.
        name: of the gallery.
    """

    engine: str
    address: str
    name: str

    def __str__(self) -> str:
        """The target without its secrets: messages and files may quote it.

        >>> str(Target("postgres", "postgresql://me:secret@db/photos", "cats"))
        'postgres:postgresql://db/photos#cats'
        """
        return f"{self.engine}:{_SECRETS.sub('', self.address).strip()}#{self.name}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """The target that a text names.

        >>> Target.parse("milvus:http://localhost:19530#cats")
        Target(engine='milvus', address='http://localhost:19530', name='cats')
        >>> Target.parse("postgres://me@db/photos")
        Target(engine='postgres', address='postgresql://me@db/photos', name='gallery')

        Raises:
            ConfigError: it is not a target, or of an unknown engine.
        """
        found = _FORM.fullmatch(text)
        if found is None:
            raise ConfigError(f"a remote gallery is named ENGINE:ADDRESS#NAME, got {text!r}")
        engine, address, name = found[1], found[2], found[3] or NAME
        if engine == "postgresql":
            engine = "postgres"
        if engine not in BACKENDS:
            raise unknown("backend of remote galleries", engine, BACKENDS)
        if not _NAME.fullmatch(name):
            raise ConfigError(
                f"the name of a remote gallery is up to 40 letters, digits and _, after the #, got {name!r}"
            )
        if engine == "postgres" and address.startswith("//"):
            address = f"postgresql:{address}"
        return cls(engine, address, name)


def shown(name: str) -> str:
    """How a gallery is called in messages: a folder as it is, a target without its secrets.

    >>> shown("milvus:http://me:secret@db#cats"), shown("photos/gallery")
    ('milvus:http://db#cats', 'photos/gallery')
    """
    return str(Target.parse(name)) if is_target(name) else name


def names_backend(text: str) -> bool:
    """Whether a text begins as a target does, with an engine that is known: no path is meant.

    >>> names_backend("milvus:http://db"), names_backend("12:30.npz"), names_backend("photos/gallery")
    (True, False, False)
    """
    found = _FORM.fullmatch(text)
    return found is not None and (found[1] in BACKENDS or found[1] == "postgresql")


def is_target(text: str) -> bool:
    """Whether a text names a remote gallery rather than a folder.

    >>> is_target("milvus:http://db"), is_target("photos/gallery"), is_target("C:/gallery")
    (True, False, False)
    """
    return _FORM.fullmatch(text) is not None and not Path(text).exists()
