from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import unknown

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("seed", range(3))
def test_auroc_is_that_of_all_pairs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    known, strange = rng.integers(0, 9, 30), rng.integers(3, 12, 20)
    pairs = [(s > k) + 0.5 * (s == k) for s in strange.tolist() for k in known.tolist()]
    assert unknown.auroc(known, strange) == round(sum(pairs) / len(pairs), 4)


def test_the_table_of_the_documentation_is_that_of_the_record() -> None:
    cells = json.loads((ROOT / "results" / "unknown.json").read_text(encoding="utf-8"))["cells"]
    text = (ROOT / "docs" / "search.md").read_text(encoding="utf-8")
    assert unknown.table(cells) in text
