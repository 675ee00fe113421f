"""Losses: logits + labels -> scalar.

That one sentence is the whole contract. ``LOSSES[name](bits, classes, **options)`` is a plain ``nn.Module``,
called as ``loss(logits, labels)`` with logits ``(batch, bits)`` and labels ``(batch,)`` class numbers or
``(batch, classes)`` multi-hot; it owns the parameters that it learns. Every loss of the registry is held to
it by ``tests/learn/losses/test_contract.py``. A file dropped into this folder is enough to add one.

Training uses three things more where a loss has them: ``presets``, named groups of settings, one of them
``default``; ``set_progress(fraction)``, told before each step how much of the run is over; and
``statistics()``, numbers for the log.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from anglehash.registry import Registry

if TYPE_CHECKING:
    from torch import nn

LOSSES: Registry[Callable[..., nn.Module]] = Registry("loss", package=__name__)
