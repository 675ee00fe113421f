"""The error tree. Everything that anglehash raises on purpose is an :class:`AnglehashError`.

::

    AnglehashError
    ├── ConfigError(ValueError)            a setting is unknown or out of range
    ├── DataError(ValueError)              an image table, label or split is unusable
    │   └── ImageError                     one image is unusable; carries a reason code
    ├── CodeMismatchError(ValueError)      codes of one width meet codes of another
    ├── ModelError(ValueError)             a model or gallery is damaged, foreign or does not match
    ├── TrainingError(RuntimeError)        training cannot go on (NaN, changed settings on resume)
    ├── NotFittedError(RuntimeError)       encode() before fit() or load()
    ├── OutputExistsError(FileExistsError) an output is there already
    ├── MissingExtraError(ImportError)     an optional dependency is not installed
    └── RemoteError(ConnectionError)       an engine that keeps a remote gallery is down or fails

A message is one line: what was wanted, what came, what to do.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class AnglehashError(Exception):
    """Base of every error that anglehash raises on purpose."""


class ConfigError(AnglehashError, ValueError):
    """A setting is unknown or out of range."""


class DataError(AnglehashError, ValueError):
    """An image table, label or split is unusable."""


class ImageError(DataError):
    """One image is unusable.

    Attributes:
        reason: a short code out of :data:`anglehash.data.images.decoding.REASONS`.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[type[ImageError], tuple[str, str]]:
        """Keep both arguments when the error crosses a process boundary."""
        return type(self), (self.reason, self.detail)


class CodeMismatchError(AnglehashError, ValueError):
    """Codes of one width meet codes of another."""


class ModelError(AnglehashError, ValueError):
    """A model or gallery folder is damaged, foreign, or does not match."""


class NoModelError(ModelError):
    """A gallery has no copy of the model that made its codes."""


class TrainingError(AnglehashError, RuntimeError):
    """Training cannot go on."""


class NotFittedError(AnglehashError, RuntimeError):
    """A hasher was asked for what only ``fit`` or ``load`` gives it."""


class OutputExistsError(AnglehashError, FileExistsError):
    """An output exists already and ``--force`` was not given."""


class MissingExtraError(AnglehashError, ImportError):
    """An optional dependency is not installed; ``instead`` says what does without it."""

    def __init__(self, package: str, *, extra: str, instead: str = "") -> None:
        super().__init__(
            f"{package!r} is needed here but not installed. "
            f"Install it with:  pip install 'anglehash[{extra}]'{instead}"
        )


class RemoteError(AnglehashError, ConnectionError):
    """An engine that keeps a remote gallery is down, cannot be reached, or fails."""


def first_line(error: Exception) -> str:
    r"""What an error of a library says, on one line.

    >>> first_line(KeyError()), first_line(ValueError("no\nmore"))
    ('KeyError', 'no')
    """
    return (str(error) or type(error).__name__).splitlines()[0]


def unknown(kind: str, name: object, known: Iterable[str]) -> ConfigError:
    """The error for a name that is not in a registry, with the nearest known name.

    >>> str(unknown("loss", "angluar", ["angular", "dpsh"]))
    "unknown loss 'angluar'; did you mean 'angular'? Known: angular, dpsh"
    """
    names = sorted(known)
    near = get_close_matches(str(name), names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    return ConfigError(f"unknown {kind} {name!r}{hint} Known: {', '.join(names) or 'none'}")
