from __future__ import annotations

import pytest

from anglehash.errors import ConfigError
from anglehash.registry import Folder, Registry


def test_a_name_is_given_once() -> None:
    names: Registry[object] = Registry("thing")
    names.register("a")(object())
    with pytest.raises(ValueError, match="twice"):
        names.register("a")(object())


def test_a_folder_lists_without_importing_and_suggests_near_names() -> None:
    engines = Folder("engine", "anglehash.index")
    assert "exact" in engines
    assert engines["exact"].__name__ == "anglehash.index.exact"
    with pytest.raises(ConfigError, match="did you mean 'exact'"):
        engines["exat"]
