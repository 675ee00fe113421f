"""The commands on remote galleries, as a user gives them, and what is exported for other tools."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from sklearn.neighbors import KNeighborsClassifier

from anglehash import Hasher
from anglehash.cli.main import cli
from anglehash.codes import hamming, pack
from anglehash.errors import ConfigError
from anglehash.gallery.export import export_codes
from anglehash.gallery.gallery import Gallery
from anglehash.gallery.opening import open_gallery

BITS = 12


@pytest.fixture
def gallery(tmp_path: Path) -> Gallery:
    codes = pack(np.random.default_rng(0).normal(size=(40, BITS)))
    ids = [*(f"{i:02d}.jpg" for i in range(39)), "caf\udce9.jpg"]
    labels = [["é", f"l{i % 2}"] for i in range(40)]
    return Gallery.create(tmp_path / "g", codes=codes, ids=ids, labels=labels, bits=BITS, model_id="m")


def run(*words: object) -> Any:
    found = CliRunner().invoke(cli, [*map(str, words), "--json"], catch_exceptions=False)
    assert found.exit_code == 0, found.output
    return json.loads(found.stdout)


def test_push_search_list_pull(tmp_path: Path, target: str, gallery: Gallery) -> None:
    assert run("push", gallery.path, target)["items"] == 40
    for words in (["-k", 5], ["--radius", 4], ["-k", 3, "--label", "l1", "--glob", "[012]*"]):
        here = run("search", gallery.path, "--similar-to", "07.jpg", *words)
        assert run("search", target, "--similar-to", "07.jpg", *words)["results"] == here["results"]
    listed = run("list", target, "--limit", 3)
    assert [item["id"] for item in listed["items"]] == ["00.jpg", "01.jpg", "02.jpg"]
    assert run("info", target)["items"] == 40
    assert run("export-codes", target, "-o", tmp_path / "codes.npz")["items"] == 40
    with np.load(tmp_path / "codes.npz") as found:
        assert np.array_equal(found["codes"], gallery.codes)
    run("pull", target, "-o", tmp_path / "back")
    assert Gallery.open(tmp_path / "back").ids == gallery.ids


def test_real_valued_queries_are_of_galleries_in_folders(
    tmp_path: Path, target: str, gallery: Gallery
) -> None:
    run("push", gallery.path, target)
    logits: Any = np.ones((1, gallery.bits), dtype=np.float32)
    with open_gallery(target) as opened:
        for ask in (opened.search, opened.page):
            with pytest.raises(ConfigError, match="kept by an engine, which compares codes alone"):
                ask(logits, 1, asymmetric=True)
        expected = [hit.id for hit in opened.search(pack(logits), 5)[0]]
        assert [hit.id for hit in opened.search(logits, 5)[0]] == expected
    (tmp_path / "q.png").write_bytes(b"")
    found = CliRunner().invoke(cli, ["search", target, str(tmp_path / "q.png"), "--asymmetric"])
    assert found.exit_code == 1
    assert "compares codes alone: leave out --asymmetric" in str(found.exception)


def test_errors_are_one_line(gallery: Gallery) -> None:
    for target, said in (
        ("milvsu:http://localhost", "did you mean 'milvus'"),
        ("postgres:dbname=x#no-name", "up to 40 letters, digits and _"),
        ("postgres://me:secret@127.0.0.1:1/x", "refused"),
    ):
        command = [sys.executable, "-m", "anglehash", "push", str(gallery.path), target]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert said in done.stderr
        assert "secret" not in done.stderr
        assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("words", [("verify",), ("index", "m", "photos", "-o"), ("backup",)])
def test_a_target_is_not_path(words: tuple[str, ...]) -> None:
    more = ["out.tar"] if words == ("backup",) else []
    found = CliRunner().invoke(cli, [*words, "postgres://me:secret@db/x#y", *more])
    assert found.exit_code == 2
    assert "is a gallery in an engine, and this takes a path" in found.output
    assert "secret" not in found.output


def test_exports_hold_what_the_gallery_holds(tmp_path: Path, gallery: Gallery) -> None:
    for suffix in (".parquet", ".npz", ".faiss"):
        assert run("export-codes", gallery.path, "-o", tmp_path / f"codes{suffix}")["items"] == 40
    table = pq.read_table(tmp_path / "codes.parquet")
    assert table.schema.metadata == {b"bits": b"12", b"model": b"m"}
    rows = table.to_pylist()
    assert [row["code"] for row in rows] == [code.tobytes() for code in gallery.codes]
    assert [row["labels"] for row in rows] == [list(own) for own in gallery.labels]
    assert [row["id"] for row in rows] == [*gallery.ids[:39], "caf\\udce9.jpg"]
    with np.load(tmp_path / "codes.npz") as found:
        assert np.array_equal(found["codes"], gallery.codes)
        assert tuple(found["ids"].tolist()) == gallery.ids
        assert int(found["bits"]) == BITS
    index = faiss.read_index_binary(str(tmp_path / "codes.faiss"))
    distances, _ = index.search(gallery.codes[:3], 40)
    assert np.array_equal(distances, np.sort(hamming(gallery.codes[:3], gallery.codes), axis=1))
    ids = json.loads((tmp_path / "codes.faiss.ids.json").read_bytes())
    assert tuple(ids) == gallery.ids


def test_export_refuses(tmp_path: Path, gallery: Gallery) -> None:
    with pytest.raises(ConfigError, match=r"'\.parqet'; did you mean '\.parquet'"):
        export_codes(gallery, tmp_path / "x.parqet")


def test_neighbours_by_scikit_learn_are_those_of_hamming_distance(model: Path) -> None:
    """docs/scale.md shows it; that a pipeline can fit a hasher, and clone it, is in tests/training/test_hasher.py."""
    images = np.random.default_rng(0).integers(0, 256, (50, 12, 12, 3), dtype=np.uint8)
    hasher = Hasher.load(model)
    columns, codes = hasher.transform(images), hasher.encode(images)
    neighbours = KNeighborsClassifier(5, metric="hamming").fit(columns[:40], np.arange(40) % 2)
    nearest, _ = neighbours.kneighbors(columns[40:])
    expected = np.sort(hamming(codes[40:], codes[:40]), axis=1)[:, :5]
    assert np.array_equal(np.round(nearest * hasher.bits), expected)
    assert len(np.unique(expected)) > 1
