"""A small benchmark on scanned digits, frozen features at 32 px."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from anglehash.config import TrainConfig
from anglehash.data.protocols import make_split
from anglehash.data.sources import open_dataset
from anglehash.errors import DataError, TrainingError
from anglehash.learn.bench import runner
from anglehash.learn.bench.run import Cell, Place, Run
from anglehash.learn.bench.runner import Finished, benchmark
from anglehash.learn.fitting import fit
from anglehash.learn.measure import measure

RUN = Run(
    name="small",
    data="digits",
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
def finished(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Finished, Path]:
    folder = tmp_path_factory.mktemp("results") / "small"
    return benchmark(RUN, folder, cache=cache), folder


@pytest.fixture
def folder(finished: tuple[Finished, Path], tmp_path: Path) -> Path:
    """A copy of the finished benchmark that a test may spoil."""
    return Path(shutil.copytree(finished[1], tmp_path / "small"))


def test_every_cell_is_there_with_what_the_report_needs(finished: tuple[Finished, Path]) -> None:
    done, folder = finished
    assert done.failed == []
    assert json.loads((folder / "result.json").read_text()) == done.result
    cells = done.result["cells"]
    assert [cell["hash"] for cell in cells] == [cell.hash for cell in RUN.cells()]
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
    assert split["queries"] + split["database"] == 1797 - split["dropped_queries"]


def test_a_cell_is_what_training_and_evaluation_give(finished: tuple[Finished, Path], cache: Path) -> None:
    split = make_split(open_dataset("digits"), "holdout")
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
    folder: Path, cache: Path, finished: tuple[Finished, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*arguments: object) -> None:
        raise AssertionError("a finished cell was computed again")

    monkeypatch.setattr(runner, "_work", never)
    monkeypatch.setattr(runner, "references", never)
    shutil.rmtree(folder / "cells")  # a clone has the result alone
    assert benchmark(RUN, folder, cache=cache).result == finished[0].result


def test_only_what_is_missing_is_computed(folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    computed = []

    def count(run: Run, place: object, cell: Cell, *rest: Path) -> dict[str, object]:
        computed.append((cell.variant, cell.bits))
        return {"hash": cell.hash, "map": 0.5, "bits": cell.bits, "variant": cell.variant}

    monkeypatch.setattr(runner, "_work", count)
    benchmark(replace(RUN, bits=(8, 16, 24), seeds=(0,)), folder, cache=cache)
    assert computed == [("ce", 24), ("itq", 24)]


def test_a_failing_cell_costs_no_other(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = runner._work

    def fail_once(run: Run, place: Place, cell: Cell, *rest: Path) -> dict[str, object]:
        if cell.variant == "ce" and cell.seed == 1:
            raise TrainingError("the loss became nan")
        return work(run, place, cell, *rest)

    monkeypatch.setattr(runner, "_work", fail_once)
    done = benchmark(replace(RUN, bits=(8,)), tmp_path / "out", cache=cache)
    assert [(cell.variant, cell.seed, line) for cell, line in done.failed] == [
        ("ce", 1, "the loss became nan")
    ]
    assert len(done.result["cells"]) == len(list(replace(RUN, bits=(8,)).cells())) - 1


def test_cells_of_other_images_are_refused_and_stay(folder: Path, cache: Path) -> None:
    for path in (folder / "cells").iterdir():
        path.write_text(path.read_text().replace('"split_hash": "', '"split_hash": "0000'))
    before = {path.name: path.read_bytes() for path in (folder / "cells").iterdir()}
    with pytest.raises(
        DataError, match=r"10 finished cells are of other images than digits holds now.*--force"
    ):
        benchmark(RUN, folder, cache=cache)
    assert {path.name: path.read_bytes() for path in (folder / "cells").iterdir()} == before
    assert (
        len(benchmark(replace(RUN, methods=("itq",)), folder, cache=cache, force=True).result["cells"]) == 6
    )


def test_several_processes_give_the_same(
    tmp_path: Path, cache: Path, finished: tuple[Finished, Path]
) -> None:
    done = benchmark(replace(RUN, bits=(8,), rivals=()), tmp_path / "out", cache=cache, workers=2)
    known = {cell["hash"]: cell["map"] for cell in finished[0].result["cells"]}
    assert {cell["hash"]: cell["map"] for cell in done.result["cells"]} == {
        cell.hash: known[cell.hash] for cell in replace(RUN, bits=(8,), rivals=()).cells()
    }


def test_a_class_of_the_queries_that_none_trains_is_named(tmp_path: Path, cache: Path) -> None:
    rows = ["file_name,label,split"]
    for number in range(3):
        for part in ("train", "query", "database"):
            if (number, part) != (2, "train"):
                shade = 40 * number + {"train": 0, "query": 10, "database": 20}[part]
                name = f"{number}-{part}.png"
                Image.new("RGB", (8, 8), (shade, number, 9)).save(tmp_path / name)
                rows.append(f"{name},{'abc'[number]},{part}")
    (tmp_path / "table.csv").write_text("\n".join(rows))
    run = replace(RUN, data=str(tmp_path / "table.csv"), protocol="given")
    with pytest.raises(DataError, match=r"1 classes of the queries have no training image \(first: c\)"):
        benchmark(run, tmp_path / "out", cache=cache)
