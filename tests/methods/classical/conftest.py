from __future__ import annotations

import numpy as np
import pytest


@pytest.fixture
def rng() -> np.random.Generator:
    """Own random numbers for each test, so that none depends on which ran before."""
    return np.random.default_rng(0)
