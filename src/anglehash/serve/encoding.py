"""Encode listed images: what ``encode`` and ``index`` share."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from anglehash.codes import Codes
from anglehash.data.dataset import Dataset, Problem
from anglehash.learn.model import Model, named_problems
from anglehash.progress import Console


class Listed(NamedTuple):
    """Codes of the images that could be read, in the order of their ids.

    Attributes:
        ids: of the images.
        codes: ``(n, ceil(bits / 8))`` packed.
        labels: the label names of each image; empty where the data give none.
        bits: length of a code.
        model_id: identity of the model.
        problems: images that were skipped.
    """

    ids: tuple[str, ...]
    codes: Codes
    labels: tuple[tuple[str, ...], ...]
    bits: int
    model_id: str
    problems: tuple[Problem, ...]


def encode_listed(model_path: Path, images: Dataset) -> Listed:
    """Encode every image of ``images`` that can be read.

    Raises:
        ModelError: the model is damaged or foreign.
    """
    model = Model.load(model_path)
    found = model.encode(images.images, report=Console())
    kept = images.select(found.rows)
    return Listed(
        ids=kept.ids,
        codes=found.codes,
        labels=kept.label_names,
        bits=model.config.bits,
        model_id=model.id,
        problems=(*images.problems, *named_problems(images.ids, found.problems)),
    )
