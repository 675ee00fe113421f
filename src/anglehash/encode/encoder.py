"""What gives images their codes, whatever it is made of."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from anglehash.codes import Codes
from anglehash.data.dataset import ImageStore, Problem
from anglehash.encode.unknown_level import Level
from anglehash.errors import ModelError
from anglehash.progress import Progress, silent

MODEL_VERSION = 2
"""The newest format of a model's folder that is read."""


class Encoding(NamedTuple):
    """What a model says of some images; images that could not be read are absent.

    Attributes:
        rows: ``(m,)`` which images these are.
        codes: ``(m, ceil(bits / 8))`` packed codes.
        logits: ``(m, bits)`` float32, the real-valued codes.
        features: ``(m, width)`` float32 of the backbone; ``(m, 0)`` of a bundle, which gives none.
        problems: the images that were skipped.
        notes: remarks on images that were decoded now and had something wrong that was passed over.
    """

    rows: NDArray[np.int64]
    codes: Codes
    logits: NDArray[np.float32]
    features: NDArray[np.float32]
    problems: list[tuple[int, str, str]]
    notes: list[tuple[int, str]]


class Encoder(Protocol):
    """Images to codes: a model, or a bundle that was exported from one."""

    @property
    def id(self) -> str:
        """What a code depends on: equal ids, equal codes."""
        ...

    @property
    def bits(self) -> int:
        """Length of a code."""
        ...

    @property
    def level(self) -> Level | None:
        """How far away the nearest item of a known picture is; ``None`` where that was not measured."""
        ...

    def encode(
        self,
        images: ImageStore,
        *,
        rows: NDArray[np.int64] | None = None,
        cache: Path | None = None,
        progress: Progress = silent,
    ) -> Encoding:
        """Codes of images.

        Args:
            images: where they are.
            rows: which of them; all by default.
            cache: folder of cached features, for an encoder that keeps any.
            progress: callback.

        Raises:
            ModelError: the logits of an image are not finite.
        """
        ...


def refuse_file(path: Path) -> None:
    """Refuse a file that is given where the folder of a model or bundle is wanted.

    Raises:
        ModelError: ``path`` is a file.
    """
    if path.is_file():
        raise ModelError(
            f"{path} is a file, but a model or bundle is a folder that anglehash wrote. Weights in .pt, .pth, .pkl or "
            ".bin hold pickled code and are never opened: export the network to ONNX and use --backbone onnx:FILE"
        )


def named_problems(ids: tuple[str, ...], problems: list[tuple[int, str, str]]) -> list[Problem]:
    """Problems of rows, as problems of ids."""
    return [Problem(ids[row], reason, detail) for row, reason, detail in problems]
