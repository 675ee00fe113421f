"""Encode listed images, without a gallery: what ``encode`` does."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from anglehash.codes import Codes, width
from anglehash.data.dataset import Dataset, Problem
from anglehash.encode.encoder import Encoder, named_problems
from anglehash.files import cache_dir
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


def encode_listed(model: Encoder, images: Dataset) -> Listed:
    """Encode every image of ``images`` that can be read, by a model or a bundle."""
    progress = Console()
    codes, kept, problems = [np.zeros((0, width(model.bits)), np.uint8)], [], list(images.problems)
    notes = []
    for rows in np.array_split(np.arange(len(images)), max(1, -(-len(images) // BLOCK))):
        found = model.encode(images.images, rows=rows, cache=cache_dir(), progress=progress)
        codes.append(found.codes)
        kept.append(found.rows)
        problems += named_problems(images.ids, found.problems)
        notes += [{"id": images.ids[row], "note": note} for row, note in found.notes]
    listed = images.select(np.concatenate(kept))
    return Listed(
        ids=listed.ids,
        codes=np.concatenate(codes),
        labels=listed.label_names,
        bits=model.bits,
        model_id=model.id,
        problems=tuple(problems),
        notes=notes,
    )
