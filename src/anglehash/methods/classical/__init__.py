"""Methods on features: features + labels -> a hash head, in a way of their own.

That is the whole contract. ``CLASSICAL[name](features, labels, bits, seed=..., report=..., **options)`` takes
``(n, width)`` float32 features and ``(n, classes)`` multi-hot bool labels, and returns one of
:mod:`anglehash.models.heads.classical` in evaluation mode: features in, logits out, a bit is 1 where its logit
is > 0. Unsupervised methods ignore the labels; supervised ones refuse rows without one. Every member is
held to it by ``tests/methods/classical/test_contract.py``. A file dropped into this folder is enough to add one.

===========  ==========  =======================================================================
name         labels      the code is
===========  ==========  =======================================================================
lsh          no          the signs of random projections
pca-sign     no          the signs of the principal components
sh           no          thresholded eigenfunctions of the graph Laplacian on a box
itq          no          the signs of rotated principal components
ksh          yes         kernel functions whose inner products fit the similarity, bit after bit
sdh          yes         a kernel regression to codes that a linear classifier reads
cosdish      yes         a linear regression to codes that fit sampled columns of the similarity
posterior    yes         a network's, of calibrated class posteriors: our own, and learned by gradient
===========  ==========  =======================================================================
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from anglehash.registry import Registry

if TYPE_CHECKING:
    from torch import nn

CLASSICAL: Registry[Callable[..., nn.Module]] = Registry("shallow method", package=__name__)
