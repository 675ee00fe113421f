"""Codes that must not change by accident: a tiny seeded model on fixed images.

Recorded on purpose only: a changed code means that every user's gallery would have to be encoded again.
"""

from __future__ import annotations

import numpy as np
import torch

from anglehash.codes import pack
from anglehash.data.dataset import Arrays
from anglehash.models.backbones import make_backbone
from anglehash.models.features import extract
from anglehash.models.heads.hash_head import HashHead, logits_of

GOLDEN = ["94060b70", "1914f5da", "63becec1", "aa61a43e"]


def test_the_codes_of_fixed_images_stay_what_they_are() -> None:
    y, x = np.mgrid[0:24, 0:20]
    images = [
        np.stack([(x * a + y * b) % 256, (x * y * a) % 256, (x + y * c) % 256], axis=-1).astype(np.uint8)
        for a, b, c in ((3, 5, 7), (11, 2, 9), (1, 1, 1), (40, 90, 17))
    ]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(20190903)
        backbone = make_backbone("tiny", size=16)
        head = HashHead(backbone.width, 32)
    features = extract(Arrays(images), backbone).values
    head.standardise(torch.from_numpy(features))
    logits = logits_of(head, features)
    assert np.abs(logits).min() > 1e-4, "a logit is too near to 0 to be the same on every machine"
    assert [code.tobytes().hex() for code in pack(logits)] == GOLDEN
