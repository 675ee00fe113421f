"""The level of a model: how far away the nearest item of a picture is that the model knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple, Self

from anglehash.manifest import NAME, checked_info

KEY = "unknown"
"""Where the manifest of a model or bundle has it."""

VALIDATION, TRAINING = "validation", "training"


class Level(NamedTuple):
    """A picture whose nearest item is farther away than this is unknown: nothing looks like it.

    Attributes:
        bits: the level, a Hamming distance in bits.
        rejects: share of the images below that are farther away.
        images: how many images it was taken from.
        source: which ones: ``validation``, whose nearest training images were looked up; or ``training``, among the
            others of the training images, which is optimistic, since the model has learned both.
    """

    bits: int
    rejects: float
    images: int
    source: str

    @classmethod
    def of(cls, facts: dict[str, Any]) -> Self | None:
        """The level that a manifest states, or ``None``.

        >>> Level.of({"unknown": {"level": 17, "rejects": 0.04, "images": 450, "from": "validation"}})
        Level(bits=17, rejects=0.04, images=450, source='validation')
        >>> Level.of({"unknown": None}), Level.of({"unknown": {"level": "near"}})
        (None, None)
        """
        try:
            found = facts[KEY]
            return cls(int(found["level"]), float(found["rejects"]), int(found["images"]), str(found["from"]))
        except (KeyError, TypeError, ValueError, OverflowError):
            return None

    @classmethod
    def of_model(cls, manifest: bytes, model_id: str) -> Self | None:
        """The level that the manifest of this model states; ``None`` where it is damaged or another model's."""
        facts = checked_info(manifest)
        return cls.of(facts) if facts.get("id") == model_id else None

    @classmethod
    def in_folder(cls, folder: Path, model_id: str) -> Self | None:
        """The same, of the model in a folder; ``None`` where there is none."""
        try:
            return cls.of_model((folder / NAME).read_bytes(), model_id)
        except OSError:
            return None

    def facts(self) -> dict[str, Any]:
        """The level as a manifest states it."""
        return {"level": self.bits, "rejects": self.rejects, "images": self.images, "from": self.source}
