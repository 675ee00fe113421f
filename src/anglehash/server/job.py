"""A job: images that were accepted, and what became of each."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Self

ADDED, THERE, REMOVED = "added", "already-there", "removed"
"""States of a file that are no reasons of images: it is in the gallery; it was before; it is not any more."""


@dataclass(slots=True)
class SentFile:
    """One file of a job.

    Attributes:
        name: sha256 of its bytes with a suffix; empty for a file that was refused at once.
        shown: what its sender calls it.
        state: empty while it waits; ``added``, or why it was not added.
        detail: the same for a person.
    """

    name: str
    shown: str
    state: str = ""
    detail: str = ""


@dataclass(slots=True)
class Job:
    """Images that are to be in the gallery, and what became of them.

    Attributes:
        labels: of all of them.
        replace: whether images that are there already get these labels.
        files: the images.
        id: names it.
        state: ``queued``, ``running``, ``done`` or ``failed``.
        error: why it failed, or what it waits for.
        looked_at: images of the run that is under way.
    """

    labels: list[str]
    replace: bool = False
    files: list[SentFile] = field(default_factory=list)
    id: str = ""
    state: str = "queued"
    error: str | None = None
    looked_at: int = 0

    @property
    def ended(self) -> bool:
        """Whether nothing more will come of it."""
        return self.state in ("done", "failed")

    def waiting(self) -> list[SentFile]:
        """The files of which nothing is known yet."""
        return [file for file in self.files if not file.state]

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        value = asdict(self)
        del value["looked_at"]
        return value

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> Self:
        """What :meth:`to_dict` gave.

        Raises:
            TypeError: it is something else; or KeyError.
        """
        return cls(**{**value, "files": [SentFile(**file) for file in value["files"]]})

    def facts(self) -> dict[str, Any]:
        """The job as clients see it."""
        known = sum(bool(file.state) for file in self.files)
        skipped = [file for file in self.files if file.state not in ("", ADDED)]
        return {
            "id": self.id,
            "state": self.state,
            "done": len(self.files) if self.state == "done" else min(len(self.files), known + self.looked_at),
            "total": len(self.files),
            "added": sum(file.state == ADDED for file in self.files) + self.looked_at,
            "skipped": [{"name": f.shown, "reason": f.state, "detail": f.detail} for f in skipped],
            "error": self.error,
        }
