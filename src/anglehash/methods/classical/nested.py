"""What codes of posteriors can do besides: serve several lengths, and keep the features in some bits."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from torch import Tensor

from anglehash.codes import MIN_BITS, SHORTEST_PREFIX
from anglehash.errors import ConfigError
from anglehash.methods.checks import check_share, check_whole
from anglehash.methods.classical.checks import Features, Labels
from anglehash.methods.classical.cross_fitted import CrossFitted
from anglehash.methods.classical.itq import itq
from anglehash.models.heads.hash_head import logits_of


def prefixes(bits: int, *, nested: bool) -> tuple[int, ...]:
    """The lengths that are to be good codes, ascending; the last is the whole.

    Args:
        bits: of the whole.
        nested: its prefixes of 8, 16, 32, ... bits are to be codes as well.

    >>> prefixes(48, nested=True), prefixes(48, nested=False)
    ((8, 16, 32, 48), (48,))
    """
    shorter = [SHORTEST_PREFIX << i for i in range(8) if SHORTEST_PREFIX << i < bits] if nested else []
    return (*shorter, bits)


def check_extras(nested: int, kept: float, bits: int) -> int:
    """How many of the bits keep the features.

    Args:
        nested: length of the code whose first ``bits`` are asked for; 0 for none longer.
        kept: share of the bits, in [0, 1), that keep the features.
        bits: of a code.

    Raises:
        ConfigError: ``kept`` is out of range or leaves less than 4 bits to a side, ``nested`` is shorter than
            ``bits`` or longer than 1,024, or both are asked for.

    >>> check_extras(0, 0.25, 32), check_extras(128, 0.0, 32)
    (8, 0)
    """
    check_share("kept", kept)
    check_whole("nested", nested, 0)
    if 0 < nested < bits or nested > 1024:
        raise ConfigError(f"nested must be 0 or a length from bits = {bits} to 1024, got {nested}")
    if nested and kept:
        raise ConfigError("nested and kept cannot both be asked for: leave one at 0")
    keeping = round(kept * bits)
    if kept and not MIN_BITS <= keeping <= bits - MIN_BITS:
        raise ConfigError(
            f"kept = {kept} of {bits} bits leaves {keeping} for the features and {bits - keeping} for classes, and "
            f"both need {MIN_BITS}: choose another share, or more bits"
        )
    return keeping


def keep_features(
    features: Features, labels: Labels, bits: int, seed: int
) -> Callable[[CrossFitted], Mapping[str, Tensor]]:
    """Bits by ITQ that keep the features.

    The mean size of their logits over the images is 1, about that of the other bits: a real-valued query weighs
    its bits by their size.

    Args:
        features: of the training images.
        labels: theirs; ITQ does not look at them.
        bits: how many, 0 for none.
        seed: of ITQ.

    Returns:
        What gives their tensors in terms of the features as the classifiers standardise them; none for 0 bits.

    Raises:
        ConfigError: the features have fewer components than ``bits``.
    """
    if not bits:
        return lambda classifiers: {}
    try:
        head = itq(features, labels, bits, seed=seed)
    except ConfigError as error:
        raise ConfigError(f"kept asks for {bits} bits of ITQ: {error}") from error
    mean, scale, weight, bias = (head.get_buffer(name) for name in ("mean", "scale", "weight", "bias"))
    size = float(np.abs(logits_of(head, features)).mean())
    return lambda classifiers: {
        "kept_weight": weight * scale / classifiers.scale / size,
        "kept_bias": (bias + ((classifiers.mean - mean) * scale) @ weight.T) / size,
    }
