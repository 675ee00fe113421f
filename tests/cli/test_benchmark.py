"""``anglehash benchmark`` as people use it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

RUN = """
data = "{folder}"
protocol = "holdout"
bits = [8, 16]
seeds = [0]
methods = ["itq", "lsh"]
baselines = ["float", "pq", "rabitq"]
baseline_bytes = [2, 10]

[settings]
image_size = 32

[examples]
variants = ["itq", "lsh"]
bits = 8
queries = 2
answers = 3
"""


@pytest.fixture(scope="module")
def run_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for name, shade in (("dark", 0), ("bright", 180)):
        (folder / name).mkdir()
        for i in range(30):
            pixels = (rng.integers(0, 60, (14, 12, 3)) + shade).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i}.png")
    path = tmp_path_factory.mktemp("runs") / "shades.toml"
    path.write_text(RUN.format(folder=folder))
    return path


def test_it_writes_a_result_and_a_page_and_goes_on(anglehash: Any, run_file: Path, tmp_path: Path) -> None:
    done = anglehash("benchmark", run_file, "-o", tmp_path / "out", "--workers", 1, "--json")
    assert done.code == 0, done.err
    assert "cells 8/8" in done.err
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert {k: done.json[k] for k in result} == result
    assert done.json["failed"] == []
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("<img") == 2 * (1 + 2 * 3)  # two queries, three answers of two methods each
    for word in ("itq", "lsh", "rabitq", "posterior agreement"):
        assert word in page.lower()
    figures, options = tmp_path / "figures", ["--highlight", "itq"]
    again = anglehash(
        "benchmark", run_file, "-o", tmp_path / "out", "--workers", 1, "--figures", figures, *options
    )
    assert again.code == 0
    assert "8 are finished already" in again.err
    assert {path.suffix for path in figures.iterdir()} == {".pdf"}
    assert 'class="marked"' in (tmp_path / "out" / "report.html").read_text()
    assert again.out.splitlines()[2].split() == ["mAP", "8", "bits", "16", "bits"]


def test_what_is_wrong_is_one_line(anglehash: Any, run_file: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.toml"
    bad.write_text(run_file.read_text().replace('"lsh"]\nbaselines', '"lhs"]\nbaselines'))
    for path, message in (
        (bad, "unknown method 'lhs'; did you mean 'lsh'"),
        (tmp_path / "absent.toml", "cannot read the run file"),
    ):
        done = anglehash("benchmark", path, "-o", tmp_path / "out", "--workers", 1)
        assert done.code == 1
        assert message in done.err
        assert len(done.err.strip().splitlines()) == 1
        assert not (tmp_path / "out").exists()


def test_a_folder_of_photographs_is_not_output(anglehash: Any, run_file: Path, tmp_path: Path) -> None:
    (tmp_path / "cat.jpg").write_bytes(b"photo")
    done = anglehash("benchmark", run_file, "-o", tmp_path, "--workers", 1)
    assert done.code == 1
    assert "was not written by this command before" in done.err
    assert [p.name for p in tmp_path.iterdir()] == ["cat.jpg"]


def test_cells_that_fail_are_listed_and_the_others_kept(
    anglehash: Any, run_file: Path, tmp_path: Path
) -> None:
    text = run_file.read_text().replace("bits = [8, 16]", "bits = [8, 512]")  # 512 components of 60 images
    path = tmp_path / "long.toml"
    path.write_text(text)
    done = anglehash("benchmark", path, "-o", tmp_path / "out", "--workers", 1)
    assert done.code == 3
    assert "failed: itq, 512 bits, seed 0: " in done.err
    cells = json.loads((tmp_path / "out" / "result.json").read_text())["cells"]
    assert [(c["variant"], c["bits"]) for c in cells if c["bits"]] == [("itq", 8), ("lsh", 8), ("lsh", 512)]
