"""A small benchmark on 300 scanned digits, frozen features at 32 px."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from anglehash.config import TrainConfig
from anglehash.data.protocols import make_split
from anglehash.data.sources import open_dataset
from anglehash.errors import DataError, TrainingError
from anglehash.learn.bench import runner
from anglehash.learn.bench.run import Cell, Place, Run
from anglehash.learn.bench.runner import Finished, benchmark
from anglehash.learn.fitting import fit
from anglehash.learn.measure import measure


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("photos")
    digits = load_digits()
    for row in range(300):
        (folder / str(digits.target[row])).mkdir(exist_ok=True)
        pixels = (digits.images[row] * 15.9).astype(np.uint8)
        Image.fromarray(pixels).save(folder / str(digits.target[row]) / f"{row}.png")
    return Run(
        name="small",
        data=str(folder),
        protocol="holdout",
        bits=(8, 16),
        seeds=(0, 1),
        methods=("ce", "itq"),
        settings={"size": 32, "epochs": 2},
        rivals=("float", "bits"),
        examples={"variants": ["ce", "itq"], "bits": 8, "queries": 3, "answers": 4},
    )


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def finished(run: Run, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Finished, Path]:
    folder = tmp_path_factory.mktemp("results") / "small"
    return benchmark(run, folder, cache=cache), folder


@pytest.fixture
def folder(finished: tuple[Finished, Path], tmp_path: Path) -> Path:
    """A copy of the finished benchmark that a test may spoil."""
    return Path(shutil.copytree(finished[1], tmp_path / "small"))


def test_every_cell_is_there_with_what_the_report_needs(run: Run, finished: tuple[Finished, Path]) -> None:
    done, folder = finished
    assert done.failed == []
    assert json.loads((folder / "result.json").read_text()) == done.result
    cells = done.result["cells"]
    assert [cell["hash"] for cell in cells] == [cell.hash for cell in run.cells()]
    assert all(0.1 < cell["map"] <= 1 for cell in cells)
    first = cells[0]
    assert len(first["precision_recall"]) == 9
    assert len(first["per_class"]) == 10
    assert len(first["answers"]["rows"]) == 3
    assert {len(row) for row in first["answers"]["rows"]} == {4}
    assert first["train_cpu_seconds"] > 0
    assert "precision_recall" not in cells[1]  # seed 1: curves are kept once
    assert [(c["bytes"], c["bits"]) for c in cells if c["kind"] == "rival"] == [(5120, None), (160, None)]
    split = done.result["splits"][0]
    assert 0.5 < split["class_id_map"] <= split["ceiling"] <= 1
    assert split["queries"] + split["database"] == 300 - split["dropped_queries"]


def test_a_cell_is_what_training_and_evaluation_give(
    run: Run, finished: tuple[Finished, Path], cache: Path
) -> None:
    split = make_split(open_dataset(run.data), "holdout")
    for method in ("ce", "itq"):
        model = fit(
            split, TrainConfig(method=method, bits=16, size=32, epochs=2, preset="default"), cache=cache
        )
        result = measure(model, split, cache=cache).result
        cell = next(
            c for c in finished[0].result["cells"] if (c["variant"], c["bits"], c["seed"]) == (method, 16, 0)
        )
        for key in ("map", "map_features", "map_convention"):
            assert cell[key] == pytest.approx(result[key], abs=2e-3)  # float32 here, float64 there
        ceiling = finished[0].result["splits"][0]["ceiling"]
        assert ceiling == pytest.approx(result["ceiling"], abs=1e-3)


def test_finished_cells_are_kept(
    run: Run, folder: Path, cache: Path, finished: tuple[Finished, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*arguments: object) -> None:
        raise AssertionError("a finished cell was computed again")

    monkeypatch.setattr(runner, "_work", never)
    monkeypatch.setattr(runner, "references", never)
    shutil.rmtree(folder / "cells")  # a clone has the result alone
    assert benchmark(run, folder, cache=cache).result == finished[0].result


def test_only_what_is_missing_is_computed(
    run: Run, folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed = []

    def count(asked: Run, place: object, cell: Cell, *rest: Path) -> dict[str, object]:
        computed.append((cell.variant, cell.bits))
        return {"hash": cell.hash, "map": 0.5, "bits": cell.bits, "variant": cell.variant}

    monkeypatch.setattr(runner, "_work", count)
    benchmark(replace(run, bits=(8, 16, 24), seeds=(0,)), folder, cache=cache)
    assert computed == [("ce", 24), ("itq", 24)]


def test_a_failing_cell_costs_no_other(
    run: Run, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = runner._work

    def fail_once(asked: Run, place: Place, cell: Cell, *rest: Path) -> dict[str, object]:
        if cell.variant == "ce" and cell.seed == 1:
            raise TrainingError("the loss became nan")
        return work(asked, place, cell, *rest)

    monkeypatch.setattr(runner, "_work", fail_once)
    done = benchmark(replace(run, bits=(8,)), tmp_path / "out", cache=cache)
    assert [(cell.variant, cell.seed, line) for cell, line in done.failed] == [
        ("ce", 1, "the loss became nan")
    ]
    assert len(done.result["cells"]) == len(list(replace(run, bits=(8,)).cells())) - 1


def test_cells_of_other_images_are_refused_and_stay(run: Run, folder: Path, cache: Path) -> None:
    for path in (folder / "cells").iterdir():
        path.write_text(path.read_text().replace('"split_hash": "', '"split_hash": "0000'))
    before = {path.name: path.read_bytes() for path in (folder / "cells").iterdir()}
    with pytest.raises(DataError, match=r"10 finished cells are of other images than .* holds now.*--force"):
        benchmark(run, folder, cache=cache)
    assert {path.name: path.read_bytes() for path in (folder / "cells").iterdir()} == before
    assert (
        len(benchmark(replace(run, methods=("itq",)), folder, cache=cache, force=True).result["cells"]) == 6
    )


def test_several_processes_give_the_same(
    run: Run, tmp_path: Path, cache: Path, finished: tuple[Finished, Path]
) -> None:
    done = benchmark(replace(run, bits=(8,), rivals=()), tmp_path / "out", cache=cache, workers=2)
    known = {cell["hash"]: cell["map"] for cell in finished[0].result["cells"]}
    assert {cell["hash"]: cell["map"] for cell in done.result["cells"]} == {
        cell.hash: known[cell.hash] for cell in replace(run, bits=(8,), rivals=()).cells()
    }


def test_a_class_of_the_queries_that_none_trains_is_named(run: Run, tmp_path: Path, cache: Path) -> None:
    rows = ["file_name,label,split"]
    for number in range(3):
        for part in ("train", "query", "database"):
            if (number, part) != (2, "train"):
                shade = 40 * number + {"train": 0, "query": 10, "database": 20}[part]
                name = f"{number}-{part}.png"
                Image.new("RGB", (8, 8), (shade, number, 9)).save(tmp_path / name)
                rows.append(f"{name},{'abc'[number]},{part}")
    (tmp_path / "table.csv").write_text("\n".join(rows))
    mine = replace(run, data=str(tmp_path / "table.csv"), protocol="given")
    with pytest.raises(DataError, match=r"1 classes of the queries have no training image \(first: c\)"):
        benchmark(mine, tmp_path / "out", cache=cache)
