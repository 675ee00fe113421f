"""The command line as people use it: on folders, by exit codes, with JSON."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from PIL import Image

from anglehash.cli.main import COMMANDS, cli
from anglehash.cli.options import Moment
from anglehash.gallery.filters import nanoseconds
from anglehash.gallery.gallery import Gallery
from anglehash.gallery.image_search import read_query
from anglehash.server.originals import Originals

TRAIN = ["--backbone", "tiny", "--image-size", "12", "--epochs", "3", "--bits", "16"]


def write_images(folder: Path, classes: Sequence[str], each: int, *, seed: int = 0) -> Path:
    """Class folders of small noisy images, each class in a grey of its own."""
    rng = np.random.default_rng(seed)
    for c, name in enumerate(classes):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(each):
            pixels = rng.integers(0, 60, (14, 12, 3)) + 180 * c // max(1, len(classes) - 1)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{i:02d}.png")
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("data") / "photos", ["cat", "dog", "owl"], 20)


@pytest.fixture(scope="module")
def trained(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of the holdout split, trained once for the module."""
    model = tmp_path_factory.mktemp("models") / "m"
    arguments = ["train", str(photos), "-o", str(model), "--protocol", "holdout", *TRAIN]
    assert cli.main(arguments, standalone_mode=False) == 0
    return model


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_explains_itself(name: str) -> None:
    command: click.Command = COMMANDS[name].command
    assert command.name == name
    assert command.help
    assert "Example:" in command.help
    assert f"anglehash {name}" in command.help
    assert "json" in {p.name for p in command.params} | {
        p.name.removeprefix("as_") for p in command.params if p.name
    }


def test_train_evaluate_index_search(photos: Path, trained: Path, tmp_path: Path, anglehash: Any) -> None:
    out = tmp_path / "r.json"
    done = anglehash(
        "evaluate",
        trained,
        photos,
        "--protocol",
        "holdout",
        "-o",
        out,
        "--html",
        tmp_path / "r.html",
        "--json",
    )
    assert done.code == 0, done.err
    wanted = {
        "method", "bits", "protocol", "split_hash", "split_seed", "seed", "backbone", "size", "map",
        "map_convention", "map_logits", "map_asymmetric", "posterior_map", "class_id_map", "precision_at", "per_class",
        "unique_codes", "queries", "database", "dropped_queries", "seconds",
    }  # fmt: skip
    assert wanted <= done.json.keys()
    assert done.json["map"] > 0.6
    assert set(done.json["per_class"]) == {"cat", "dog", "owl"}
    assert json.loads(out.read_text()) == done.json
    assert "<html" in (tmp_path / "r.html").read_text()

    gallery = tmp_path / "g"
    assert anglehash("index", trained, photos, "-o", gallery).code == 0
    query = photos / "dog" / "03.png"
    found = anglehash("search", gallery, query, "-k", 5, "--json")
    assert found.code == 0, found.err
    assert (found.json["query"], found.json["k"], len(found.json["results"])) == (str(query), 5, 5)
    first = found.json["results"][0]
    assert (first["rank"], first["distance"]) == (1, 0)
    assert {"rank", "id", "distance", "labels"} <= first.keys()
    assert all(r["labels"] == [r["id"].split("/")[0]] for r in found.json["results"])
    by_radius = anglehash("search", gallery, query, "--radius", 0, "--json").json["results"]
    assert by_radius
    assert {r["distance"] for r in by_radius} == {0}
    assert "dog" in anglehash("search", gallery, query).out


@pytest.mark.parametrize(
    ("source", "of"),
    [
        ("validation", "known pictures have an item"),
        ("training", "the pictures that the model learned from have another one"),
    ],
)
def test_an_unknown_picture_says_so(
    photos: Path, trained: Path, tmp_path: Path, anglehash: Any, source: str, of: str
) -> None:
    from anglehash.encode.unknown_level import Level
    from anglehash.models.model import Model

    model, gallery = Model.load(trained), tmp_path / "g"
    model.level = Level(-1, 0.049, 450, source)  # below every distance: only what is an item is known
    model.save(tmp_path / "m")
    assert anglehash("index", tmp_path / "m", photos, "-o", gallery).code == 0
    query = write_images(tmp_path / "new", ["cat"], 1, seed=9) / "cat" / "00.png"
    found = anglehash("search", gallery, query, "--json").json
    assert found["unknown"] is True
    nearest = min(result["distance"] for result in found["results"])
    line = f"nothing in this gallery looks like it (nearest at {nearest} bits; 95 % of {of} within -1)"
    assert anglehash("search", gallery, query).out.splitlines()[-1] == line
    for words in ([photos / "cat" / "00.png"], ["--similar-to", "cat/00.png"]):
        assert anglehash("search", gallery, *words, "--json").json["unknown"] is False
        assert "looks like" not in anglehash("search", gallery, *words).out


def test_a_gallery_moves_and_answers_on_its_own(
    photos: Path, trained: Path, tmp_path: Path, anglehash: Any
) -> None:
    model = tmp_path / "model"
    shutil.copytree(trained, model)
    anglehash("index", model, photos, "-o", tmp_path / "g")
    shutil.rmtree(model)
    (tmp_path / "elsewhere").mkdir()
    moved = shutil.move(tmp_path / "g", tmp_path / "elsewhere" / "g")
    assert anglehash("search", moved, photos / "cat" / "00.png").code == 0


def test_encode_writes_sorted_ids_and_packed_codes(
    photos: Path, trained: Path, tmp_path: Path, anglehash: Any
) -> None:
    assert anglehash("encode", trained, photos, "-o", tmp_path / "c.npz").code == 0
    with np.load(tmp_path / "c.npz", allow_pickle=False) as arrays:
        codes, ids, bits = arrays["codes"], arrays["ids"], int(arrays["bits"])
    assert (codes.dtype, codes.shape, bits) == (np.uint8, (60, 2), 16)
    assert ids.dtype.kind == "U"
    assert ids.tolist() == sorted(ids.tolist())
    assert ids[0] == "cat/00.png"


def test_bad_images_are_skipped_listed_and_shift_nothing(
    photos: Path, trained: Path, tmp_path: Path, anglehash: Any
) -> None:
    damaged = tmp_path / "photos"
    shutil.copytree(photos, damaged)
    bad = [damaged / "cat" / f"{i:02d}.png" for i in (0, 7, 13)]
    for path in bad:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    (damaged / "dog" / "x.jpg").write_text("<html>")
    good = anglehash("encode", trained, photos, "-o", tmp_path / "good.npz")
    done = anglehash("encode", trained, damaged, "-o", tmp_path / "bad.npz", "--json")
    assert (good.code, done.code) == (0, 3)
    assert done.json["skipped"] == 4
    assert "cat/07.png" in done.err
    with np.load(tmp_path / "good.npz") as a, np.load(tmp_path / "bad.npz") as b:
        codes = dict(zip(a["ids"].tolist(), a["codes"].tolist(), strict=True))
        kept = dict(zip(b["ids"].tolist(), b["codes"].tolist(), strict=True))
    assert len(kept) == 57
    assert all(codes[name] == code for name, code in kept.items())
    trained_on_bad = anglehash("train", damaged, "-o", tmp_path / "m", *TRAIN)
    assert trained_on_bad.code == 3
    assert "skipped 4 images" in trained_on_bad.err


def test_a_fifth_of_unreadable_files_does_not_stop_the_main_job(tmp_path: Path, anglehash: Any) -> None:
    folder = write_images(tmp_path / "p", ["a", "b"], 20)
    for path in sorted(folder.rglob("*.png"))[::5]:
        path.write_bytes(b"\xff\xd8\xff broken")
    assert anglehash("train", folder, "-o", tmp_path / "m", *TRAIN).code == 3
    assert anglehash("index", tmp_path / "m", folder, "-o", tmp_path / "g").code == 3
    assert anglehash("search", tmp_path / "g", folder / "a" / "01.png").code == 0
    checked = anglehash("check", folder, "--json")
    assert checked.code == 3
    assert checked.json["problems"]["images"] == 8


def test_queries_that_were_trained_on_are_refused(photos: Path, trained: Path, anglehash: Any) -> None:
    done = anglehash("evaluate", trained, photos, "--protocol", "holdout", "--split-seed", 1)
    assert done.code == 1
    assert "were seen in training" in done.err
    assert done.err.splitlines()[-1].startswith("Error: ")


def test_two_folders(photos: Path, trained: Path, tmp_path: Path, anglehash: Any) -> None:
    new = write_images(tmp_path / "new", ["cat", "dog", "owl"], 4, seed=9)
    done = anglehash("evaluate", trained, "--query", new, "--database", photos, "--json")
    assert done.code == 0, done.err
    assert (done.json["queries"], done.json["database"], done.json["protocol"]) == (12, 60, "given")
    tables = []
    for folder in (new, photos):
        rows = [
            f"{name.relative_to(folder)},{name.parent.name},{int(name.stem) % 2 or ''}"
            for name in sorted(folder.rglob("*.png"))
        ]
        tables.append(tmp_path / f"{folder.parent.name}-{folder.name}.csv")
        tables[-1].write_text("\n".join(["file_name,label,odd", *rows]))
    lists = [tmp_path / "q.csv", tmp_path / "d.csv"]
    for place, folder, table in zip(lists, (new, photos), tables, strict=True):
        (folder / place.name).write_text(table.read_text())
    asked = ("evaluate", trained, "--query", new / "q.csv", "--database", photos / "d.csv")
    finer = anglehash(*asked, "--finer-label", "odd", "--json")
    assert finer.code == 0, finer.err
    likeness = finer.json["likeness"]
    assert (likeness["finer_queries"], likeness["copies"]) == (6, 60)
    assert 0 < likeness["finer_map"] <= 1
    assert list(likeness["references"]) == [
        "float_cosine", "feature_signs", "right_class_random", "right_class_cosine",
    ]  # fmt: skip
    assert finer.json["map"] == done.json["map"]
    assert "finer P@10" in anglehash(*asked, "--finer-label", "odd").out
    assert anglehash(*asked, "--finer-label", "even").code == 1
    checked = anglehash("check", photos / "d.csv", "--finer-label", "odd", "--json")
    assert checked.json["finer"] == {"classes": 1, "without": 30}
    refused = anglehash("check", photos, "--finer-label", "odd")
    assert (refused.code, "is a column of a .csv" in refused.err) == (1, True)
    leak = anglehash("evaluate", trained, "--query", photos, "--database", photos)
    assert leak.code == 1
    assert "inflated" in leak.err
    assert anglehash("evaluate", trained, photos, "--query", new).code == 2


def test_data_may_bring_their_split(tmp_path: Path, anglehash: Any) -> None:
    for seed, (part, each) in enumerate((("train", 8), ("query", 2), ("database", 5))):
        write_images(tmp_path / "d" / part, ["a", "b"], each, seed=seed)
    assert anglehash("train", tmp_path / "d", "-o", tmp_path / "m", *TRAIN).code == 0
    done = anglehash("evaluate", tmp_path / "m", tmp_path / "d", "--json")
    assert done.code == 0, done.err
    assert (done.json["protocol"], done.json["queries"], done.json["database"]) == ("given", 4, 10)


def test_outputs_are_replaced_only_with_force(
    photos: Path, trained: Path, tmp_path: Path, anglehash: Any
) -> None:
    for command in (["encode", trained, photos], ["index", trained, photos], ["train", photos, *TRAIN]):
        output = tmp_path / str(command[0])
        assert anglehash(*command, "-o", output).code == 0
        again = anglehash(*command, "-o", output)
        assert again.code == 1
        assert "--force" in again.err
        assert anglehash(*command, "-o", output, "--force").code == 0


@pytest.mark.parametrize(
    ("classes", "each", "code", "message"),
    [
        (["only"], 8, 1, "of 1 class"),
        (["a", "b"], 1, 0, ""),  # a class of one image trains
        (["a", "b"], 3, 0, ""),
    ],
)
def test_small_folders_train_or_explain_themselves(
    tmp_path: Path, anglehash: Any, classes: list[str], each: int, code: int, message: str
) -> None:
    folder = write_images(tmp_path / "p", classes, each)
    done = anglehash("train", folder, "-o", tmp_path / "m", *TRAIN)
    assert done.code == code, done.err
    assert message in done.err


def test_classes_of_very_different_sizes(tmp_path: Path, anglehash: Any) -> None:
    write_images(tmp_path / "p", ["few"], 3)
    write_images(tmp_path / "p", ["many", "more"], 60, seed=1)
    assert anglehash("train", tmp_path / "p", "-o", tmp_path / "m", "--protocol", "holdout", *TRAIN).code == 0
    done = anglehash("evaluate", tmp_path / "m", tmp_path / "p", "--protocol", "holdout", "--json")
    assert done.code == 0, done.err


def test_settings_come_from_a_file_and_the_command_line_wins(
    photos: Path, tmp_path: Path, anglehash: Any
) -> None:
    (tmp_path / "run.toml").write_text(
        'method = "andsh"\nbackbone = "tiny"\nimage_size = 12\nepochs = 1\nbits = 48\n[loss]\ngamma = 1.0\n'
    )
    done = anglehash(
        "train", photos, "-o", tmp_path / "m", "--config", tmp_path / "run.toml", "--bits", 8, "--json"
    )
    assert done.code == 0, done.err
    assert (done.json["bits"], done.json["config"]["loss"]["gamma"], done.json["config"]["epochs"]) == (
        8,
        1.0,
        1,
    )
    assert (done.json["config"]["likeness"], done.json["head"]) == (1, "likeness+hash")
    assert anglehash("train", photos, "-o", tmp_path / "n", "--config", tmp_path / "no.toml").code == 1


def test_without_likeness_a_model_has_the_methods_own_code(
    photos: Path, tmp_path: Path, anglehash: Any
) -> None:
    done = anglehash("train", photos, "-o", tmp_path / "m", *TRAIN, "--likeness", 0)
    assert f"{tmp_path / 'm'}: 16-bit andsh, likeness 0, 3 classes" in done.out
    facts = anglehash("info", tmp_path / "m", "--json").json
    assert (facts["likeness"], facts["head"]) == (0, "hash")
    refused = anglehash("train", photos, "-o", tmp_path / "n", *TRAIN, "--likeness", -1)
    assert refused.err == "Error: likeness must be in 0..100, got -1.0\n"


def test_info_knows_what_anglehash_writes(
    photos: Path, trained: Path, tmp_path: Path, anglehash: Any
) -> None:
    anglehash("index", trained, photos, "-o", tmp_path / "g")
    anglehash("encode", trained, photos, "-o", tmp_path / "c.npz")
    anglehash("evaluate", trained, photos, "--protocol", "holdout", "-o", tmp_path / "r.json")
    kinds = [anglehash("info", p, "--json").json["kind"] for p in (trained, *sorted(tmp_path.glob("*")))]
    assert kinds == ["model", "codes", "gallery", "result"]
    (tmp_path / "x.txt").write_text("hello")
    assert anglehash("info", tmp_path / "x.txt").code == 1
    assert anglehash("info", tmp_path / "nothing").code == 74


def test_check_warns_before_training(tmp_path: Path, anglehash: Any) -> None:
    folder = write_images(tmp_path / "p", ["a", "b"], 4)
    shutil.copy(folder / "a" / "00.png", folder / "b" / "copy.png")
    done = anglehash("check", folder)
    assert done.code == 0
    assert "different labels" in done.out


def test_unknown_names_are_met_with_suggestions(photos: Path, tmp_path: Path, anglehash: Any) -> None:
    assert "did you mean" in anglehash("train", "digts", "-o", tmp_path / "m").err
    assert "holdout" in anglehash("train", photos, "-o", tmp_path / "m", "--protocol", "holdot", *TRAIN).err
    assert anglehash("nonsense").code == 2
    assert anglehash("train", photos).code == 2


def test_hostile_names_cannot_drive_the_terminal(trained: Path, tmp_path: Path, anglehash: Any) -> None:
    folder = tmp_path / "p"
    folder.mkdir()
    os.close(os.open(os.fsencode(folder) + b"/\x1b[31m\n\xe9.png", os.O_CREAT | os.O_WRONLY))
    done = anglehash("encode", trained, folder, "-o", tmp_path / "c.npz")
    assert done.code == 3
    assert "\x1b" not in done.err
    assert "\\x1b[31m\\n\\udce9.png" in done.err


def test_a_full_disk_and_missing_rights_have_codes_of_their_own(
    photos: Path, trained: Path, tmp_path: Path, anglehash: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for error, code in (
        (OSError(28, "No space left on device"), 74),
        (PermissionError(13, "denied", "/x"), 77),
    ):

        def fail(*_: object, error: OSError = error, **__: object) -> None:
            raise error

        monkeypatch.setattr("anglehash.encode.codes_file.write_atomic", fail)
        done = anglehash("encode", trained, photos, "-o", tmp_path / "c.npz")
        assert done.code == code
        assert done.err.splitlines()[-1].startswith("Error: ")
        assert not (tmp_path / "c.npz").exists()


def test_the_demo_does_everything(tmp_path: Path, anglehash: Any, photos: Path) -> None:
    done = anglehash("demo", "--out", tmp_path / "d", "--json")
    assert done.code == 0, done.err
    assert (done.json["bits"], done.json["protocol"], done.json["dataset"]) == (64, "holdout", "digits")
    assert done.json["map"] > 0.9
    names = {p.name for p in (tmp_path / "d").iterdir()}
    assert names == {"model", "gallery", "result.json", "report.html", "answers.png"}
    with Image.open(tmp_path / "d" / "answers.png") as picture:
        assert picture.width > 500
    digit = Image.fromarray(np.zeros((8, 8), np.uint8))
    digit.save(tmp_path / "q.png")
    assert anglehash("search", tmp_path / "d" / "gallery", tmp_path / "q.png").code == 0
    with Gallery.open(
        tmp_path / "d" / "gallery"
    ) as gallery:  # as index makes one: every item has its picture
        assert len(gallery) == 1797
        originals = Originals(gallery)
        assert all(len(originals.read(gallery.item(name).item)) for name in gallery.ids[::300])


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["search", "/nowhere", "x.png"]])
def test_as_a_process(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "anglehash", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == (1 if arguments[0] == "search" else 0)
    assert "Traceback" not in done.stderr


def begin_training(photos: Path, model: Path, *options: str) -> subprocess.Popen[str]:
    """A training in a process of its own that has finished an epoch and continues."""
    command = [sys.executable, "-m", "anglehash", "train", str(photos), "-o", str(model), *TRAIN, *options]
    heard = signal.signal(signal.SIGINT, signal.default_int_handler)  # tests in the background may ignore it
    try:
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    finally:
        signal.signal(signal.SIGINT, heard)
    checkpoint = model.with_name("m.training") / "checkpoint.safetensors"
    while process.poll() is None and not checkpoint.exists():
        time.sleep(0.01)
    return process


@pytest.mark.parametrize(("number", "code"), [(2, 130), (15, 143)])
def test_a_signal_ends_a_training_and_keeps_its_epochs(
    photos: Path, tmp_path: Path, number: int, code: int
) -> None:
    process = begin_training(photos, tmp_path / "m", "--epochs", "4000")
    process.send_signal(number)
    try:
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == code
    assert "Traceback" not in err
    assert (tmp_path / "m.training" / "checkpoint.safetensors").exists()
    assert not (tmp_path / "m").exists()


def test_resuming_after_kill_9_gives_the_weights_of_an_unbroken_run(
    photos: Path, tmp_path: Path, anglehash: Any
) -> None:
    process = begin_training(photos, tmp_path / "m", "--epochs", "60")
    process.kill()
    process.communicate(timeout=60)
    command = ["train", photos, "-o", tmp_path / "m", *TRAIN, "--epochs", 60]
    again = anglehash(*command)
    assert again.code == 1
    assert "--resume" in again.err
    other = anglehash(*command, "--resume", "--bits", 32)
    assert other.code == 1
    assert "config.bits: 16 -> 32" in other.err
    assert anglehash(*command, "--resume").code == 0
    assert not (tmp_path / "m.training").exists()
    assert anglehash("train", photos, "-o", tmp_path / "unbroken", *TRAIN, "--epochs", 60).code == 0
    for name in ("head", "backbone", "data"):
        file = f"{name}.safetensors"
        assert (tmp_path / "m" / file).read_bytes() == (tmp_path / "unbroken" / file).read_bytes(), name


def test_a_training_and_a_validation_folder_are_kept_apart(tmp_path: Path, anglehash: Any) -> None:
    for seed, (part, each) in enumerate((("train", 8), ("val", 3))):
        write_images(tmp_path / "d" / part, ["a", "b"], each, seed=seed)
    done = anglehash("train", tmp_path / "d", "-o", tmp_path / "m", *TRAIN, "--json")
    assert done.code == 0, done.err
    assert done.json["seen"] == 22
    log = (tmp_path / "m" / "log.jsonl").read_text()
    assert "validation_map" in log


def test_a_folder_named_like_a_known_set_is_the_users(
    tmp_path: Path, anglehash: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed, part in enumerate(("train", "query", "database")):
        write_images(tmp_path / "digits" / part, ["a", "b"], 6, seed=seed)
    monkeypatch.chdir(tmp_path)
    done = anglehash("train", "./digits", "-o", "m", *TRAIN, "--json")
    assert done.code == 0, done.err
    assert done.json["split"]["protocol"] == "given"
    assert done.json["seen"] == 12


def test_images_without_a_label_follow_the_setting(photos: Path, tmp_path: Path, anglehash: Any) -> None:
    rows = [
        f"{p.relative_to(photos).as_posix()},{p.parent.name if i else ''}"
        for i, p in enumerate(sorted(photos.rglob("*.png")))
    ]
    table = photos.parent / "table.csv"
    table.write_text("\n".join(["file_name,label", *rows]))
    train = ["train", table, "--root", photos, "-o", tmp_path / "m", *TRAIN]
    refused = anglehash(*train)
    assert refused.code == 1
    assert "have no label" in refused.err
    (tmp_path / "run.toml").write_text('unlabelled = "skip"')
    done = anglehash(*train, "--config", tmp_path / "run.toml", "--json")
    assert done.code == 0, done.err
    assert done.json["seen"] == len(rows) - 1


def test_a_saved_split_is_evaluated_again(photos: Path, trained: Path, anglehash: Any) -> None:
    first = anglehash("evaluate", trained, photos, "--protocol", "holdout", "--json").json
    again = anglehash("evaluate", trained, photos, "--protocol", trained / "split.json", "--json").json
    assert (again["split_hash"], again["map"]) == (first["split_hash"], first["map"])


def test_a_report_is_replaced_with_force(photos: Path, trained: Path, tmp_path: Path, anglehash: Any) -> None:
    command = ["evaluate", trained, photos, "--protocol", "holdout", "--html", tmp_path / "r.html"]
    assert anglehash(*command).code == 0
    assert anglehash(*command).code == 1
    assert anglehash(*command, "--force").code == 0
    assert anglehash(*command, "-o", tmp_path / "r.html").code == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[loss]\ngama = 1", "did you mean 'gamma'"),
        ("image_size = 12.5", "whole number"),
        ("epoch = 3", "'epochs'"),
    ],
)
def test_a_mistake_in_the_settings_is_named(
    photos: Path, tmp_path: Path, anglehash: Any, text: str, message: str
) -> None:
    (tmp_path / "run.toml").write_text(text)
    done = anglehash(
        "train", photos, "-o", tmp_path / "m", "--backbone", "tiny", "--config", tmp_path / "run.toml"
    )
    assert done.code == 1
    assert message in done.err
    assert len(list(tmp_path.iterdir())) == 1


def test_options_that_would_do_nothing_are_refused(
    photos: Path, trained: Path, tmp_path: Path, anglehash: Any
) -> None:
    assert anglehash("train", photos, "-o", tmp_path / "m", "--split-seed", 1, *TRAIN).code == 2
    assert anglehash("evaluate", trained, photos).code == 2
    assert anglehash("search", trained, photos, "-k", 0).code == 2


def test_pickled_weights_are_never_opened(photos: Path, tmp_path: Path, anglehash: Any) -> None:
    (tmp_path / "model.pt").write_bytes(b"\x80\x04.")
    done = anglehash("encode", tmp_path / "model.pt", photos, "-o", tmp_path / "c.npz")
    assert done.code == 1
    assert "ONNX" in done.err


def test_what_was_passed_over_is_remarked(trained: Path, tmp_path: Path, anglehash: Any) -> None:
    folder = tmp_path / "p"
    folder.mkdir()
    pixels = np.random.default_rng(3).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "fine.jpg")
    Image.fromarray(pixels).save(folder / "exif.jpg", exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff")
    done = anglehash("encode", trained, folder, "-o", tmp_path / "c.npz", "--json")
    assert done.code == 0, done.err
    assert {note["id"] for note in done.json["notes"]} == {"exif.jpg"}
    assert "EXIF" in done.err


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2024-05-01", datetime(2024, 5, 1)),
        ("2024-05-01 18:30", datetime(2024, 5, 1, 18, 30)),
        ("2024-05-01T18:30:15", datetime(2024, 5, 1, 18, 30, 15)),
        ("2024-05-01T18:30Z", datetime(2024, 5, 1, 18, 30, tzinfo=UTC)),
        ("2024-05-01T18:30:00+02:00", datetime(2024, 5, 1, 16, 30, tzinfo=UTC)),
    ],
)
def test_moments_have_a_time_zone_or_are_local(text: str, moment: datetime) -> None:
    assert nanoseconds(Moment().convert(text, None, None), 0) == nanoseconds(moment, 0)


def test_what_is_not_moment_is_explained() -> None:
    with pytest.raises(click.BadParameter, match=r"2024-05-01T18:30:00\+02:00; got 'yesterday'"):
        Moment().convert("yesterday", None, None)


def test_a_query_comes_from_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xff\xd8 picture")))
    assert read_query(Path("-")) == b"\xff\xd8 picture"


# a system that has no entry for its user, as a container's bare number is
NOBODY = (
    "import pwd, runpy; pwd.getpwuid = {}.__getitem__; runpy.run_module('anglehash', run_name='__main__')"
)


@pytest.mark.parametrize("command", [["check", "."], ["doctor"], ["check", "~/photos"]])
def test_nobody_can_work_without_a_home(photos: Path, command: list[str]) -> None:
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in ("HOME", "ANGLEHASH_CACHE", "XDG_CACHE_HOME")
    }
    done = subprocess.run(
        [sys.executable, "-c", NOBODY, *command],
        cwd=photos,
        env=kept,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr
