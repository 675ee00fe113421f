from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from anglehash.benchmark.results_store import Store
from anglehash.errors import ConfigError, OutputExistsError, TrainingError


def cell(name: str) -> dict[str, Any]:
    return {"hash": name, "split_hash": "s", "variant": "ce", "map": 0.5}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def finish(out: Path, *names: str) -> None:
    with Store(out) as store:
        store.finish({"name": "x"}, [cell(name) for name in names])


def test_a_cell_is_there_again_after_a_stop(out: Path) -> None:
    with Store(out) as store:
        store.put(cell("a"))
    with Store(out) as store:
        assert store.get("a") == cell("a")
        assert store.get("b") is None


def test_the_result_alone_is_enough_to_go_on_from(out: Path) -> None:
    finish(out, "a")
    assert not list(out.glob("cells/*.json"))
    with Store(out) as store:
        assert store.get("a") == cell("a")
        assert store.previous["name"] == "x"


def test_a_cell_that_a_new_run_leaves_out_is_not_lost(out: Path) -> None:
    finish(out, "a", "b")
    finish(out, "b")
    with Store(out) as store:
        assert store.get("a") == cell("a")


def test_the_result_has_a_line_a_cell(out: Path) -> None:
    finish(out, *"abc")
    text = (out / "result.json").read_text()
    assert json.loads(text) == {"format": 1, "name": "x", "cells": [cell(name) for name in "abc"]}
    assert sum('"hash"' in line for line in text.splitlines()) == 3


def test_a_foreign_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"x")
    with pytest.raises(OutputExistsError, match="was not written by this command before"):
        Store(tmp_path)
    with pytest.raises(OutputExistsError):
        Store(tmp_path / "photo.jpg")
    assert [p.name for p in tmp_path.iterdir()] == ["photo.jpg"]


def test_two_runs_into_one_folder_are_kept_apart(out: Path) -> None:
    with (
        Store(out),
        pytest.raises(TrainingError, match=r"another benchmark is writing to .*out \(process \d+\)"),
    ):
        Store(out)
    with Store(out) as store:  # once the first has ended
        store.put(cell("a"))


@pytest.mark.parametrize(
    "text",
    ["{", "[]", "3", "", '{"map": 1}', '{"hash": "a"}', '{"hash": 3, "split_hash": "s", "variant": "x"}'],
)
def test_a_damaged_cell_is_named(out: Path, text: str) -> None:
    with Store(out) as store:
        store.put(cell("a"))
    (out / "cells" / "b.json").write_text(text)
    for _ in range(2):  # and the folder is not left locked
        with pytest.raises(ConfigError, match=r"b\.json is damaged .* delete this file"):
            Store(out)


@pytest.mark.parametrize("cells", ["[3]", '[{"hash": "a"}]', "7", "null"])
def test_a_damaged_result_is_named(out: Path, cells: str) -> None:
    finish(out, "a")
    (out / "result.json").write_text(f'{{"format": 1, "cells": {cells}}}')
    with pytest.raises(ConfigError, match=r"result\.json is damaged .* delete this file"):
        Store(out)


def test_a_newer_format_is_refused(out: Path) -> None:
    finish(out)
    path = out / "result.json"
    path.write_text(path.read_text().replace('"format": 1', '"format": 9'))
    with pytest.raises(ConfigError, match="newer version"):
        Store(out)
