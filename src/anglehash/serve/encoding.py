"""Encode listed images, without a gallery: what ``encode`` does."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from anglehash.codes import Codes, width
from anglehash.data.dataset import Dataset, Problem
from anglehash.files import cache_dir
from anglehash.learn.model import Model, named_problems
from anglehash.progress import Console

BLOCK = 16_384
"""Images whose features are in memory at once: 84 MB of 1,280 features."""


class Listed(NamedTuple):
    """Codes of the images that could be read, in the order of their ids.

    Attributes:
        ids: of the images.
        codes: ``(n, ceil(bits / 8))`` packed.
        labels: the label names of each image; empty where the data give none.
        bits: length of a code.
        model_id: identity of the model.
        problems: images that were skipped.
        notes: ``{"id", "note"}`` of images that had something wrong that was passed over.
    """

    ids: tuple[str, ...]
    codes: Codes
    labels: tuple[tuple[str, ...], ...]
    bits: int
    model_id: str
    problems: tuple[Problem, ...]
    notes: list[dict[str, str]]


def encode_listed(model_path: Path, images: Dataset) -> Listed:
    """Encode every image of ``images`` that can be read.

    Raises:
        ModelError: the model is damaged or foreign.
    """
    model, report = Model.load(model_path), Console()
    codes, kept, problems = [np.zeros((0, width(model.config.bits)), np.uint8)], [], list(images.problems)
    notes = []
    for rows in np.array_split(np.arange(len(images)), max(1, -(-len(images) // BLOCK))):
        found = model.encode(images.images, rows=rows, cache=cache_dir(), report=report)
        codes.append(found.codes)
        kept.append(found.rows)
        problems += named_problems(images.ids, found.problems)
        notes += [{"id": images.ids[row], "note": note} for row, note in found.notes]
    listed = images.select(np.concatenate(kept))
    return Listed(
        ids=listed.ids,
        codes=np.concatenate(codes),
        labels=listed.label_names,
        bits=model.config.bits,
        model_id=model.id,
        problems=tuple(problems),
        notes=notes,
    )
