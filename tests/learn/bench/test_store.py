from __future__ import annotations

import json
from pathlib import Path

import pytest

from anglehash.errors import ConfigError, OutputExistsError
from anglehash.learn.bench.store import Store


def test_a_cell_is_there_again_after_a_stop(tmp_path: Path) -> None:
    Store(tmp_path / "out").put({"hash": "a", "map": 0.5})
    assert Store(tmp_path / "out").get("a") == {"hash": "a", "map": 0.5}
    assert Store(tmp_path / "out").get("b") is None


def test_the_result_alone_is_enough_to_go_on_from(tmp_path: Path) -> None:
    Store(tmp_path / "out").finish({"name": "x"}, [{"hash": "a", "map": 0.5}])
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["result.json"]
    store = Store(tmp_path / "out")
    assert store.get("a") == {"hash": "a", "map": 0.5}
    assert store.previous["name"] == "x"


def test_a_cell_that_a_new_run_leaves_out_is_not_lost(tmp_path: Path) -> None:
    Store(tmp_path / "out").finish({}, [{"hash": "a"}, {"hash": "b"}])
    Store(tmp_path / "out").finish({}, [{"hash": "b"}])
    assert Store(tmp_path / "out").get("a") == {"hash": "a"}


def test_the_result_has_a_line_a_cell(tmp_path: Path) -> None:
    cells = [{"hash": name, "map": 0.25} for name in "abc"]
    result = Store(tmp_path / "out").finish({"name": "cells"}, cells)
    text = (tmp_path / "out" / "result.json").read_text()
    assert json.loads(text) == result == {"format": 1, "name": "cells", "cells": cells}
    assert sum('"hash"' in line for line in text.splitlines()) == 3


def test_a_foreign_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"x")
    with pytest.raises(OutputExistsError, match="was not written by this command before"):
        Store(tmp_path)
    with pytest.raises(OutputExistsError):
        Store(tmp_path / "photo.jpg")
    assert [p.name for p in tmp_path.iterdir()] == ["photo.jpg"]


@pytest.mark.parametrize("text", ["{", "[]", "3", '{"map": 1}', ""])
def test_a_damaged_file_is_named(tmp_path: Path, text: str) -> None:
    Store(tmp_path / "out").put({"hash": "a"})
    (tmp_path / "out" / "cells" / "b.json").write_text(text)
    with pytest.raises(ConfigError, match=r"b\.json is damaged .* delete this file"):
        Store(tmp_path / "out")


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    Store(tmp_path / "out").finish({}, [])
    path = tmp_path / "out" / "result.json"
    path.write_text(path.read_text().replace('"format": 1', '"format": 9'))
    with pytest.raises(ConfigError, match="newer version"):
        Store(tmp_path / "out")
