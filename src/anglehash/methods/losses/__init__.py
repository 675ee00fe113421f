"""Losses: logits + labels -> scalar.

That one sentence is the whole contract. ``LOSSES[name](bits, classes, **options)`` is a plain ``nn.Module``,
called as ``loss(logits, labels)`` with logits ``(batch, bits)`` and labels ``(batch,)`` class numbers or
``(batch, classes)`` multi-hot; it owns the parameters that it learns. Every loss of the registry is held to
it by ``tests/methods/losses/test_contract.py``. A file dropped into this folder is enough to add one.

Training uses a few things more where a loss has them:

- ``presets``: named groups of settings, one of them ``default``;
- ``remember(labels)``: called once, before a checkpoint is taken up, with the labels of all training images,
  ``(n, classes)`` bool. A loss that keeps something for each of them makes room here, in buffers: what it
  then learns of them is part of its state, and a resumed run ends the same. Or it looks whether any has several;
- ``set_progress(fraction)``: called before each step how much of the run is over, from 0 to 1;
- ``set_rows(rows)``: called before each step which of those images come next, ``(batch,)`` int64;
- ``statistics()``: numbers for the log.

A loss must work without them too: then the batch is all it knows. Any randomness is torch's global
generator, which training reseeds for each epoch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from anglehash.registry import Registry

if TYPE_CHECKING:
    from torch import nn

LOSSES: Registry[Callable[..., nn.Module]] = Registry("loss", package=__name__)


def __getattr__(name: str) -> Any:
    """The class of a loss by its name, such as ``losses.OrthoHashLoss``."""
    if name[:1].isupper():
        for loss in LOSSES.values():
            if getattr(loss, "__name__", "") == name:
                return loss
    raise AttributeError(f"module 'anglehash.methods.losses' has no attribute {name!r}")
