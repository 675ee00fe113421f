from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from anglehash.codes import Codes, pack
from anglehash.errors import CodeMismatchError, ConfigError, DataError, ModelError, OutputExistsError
from anglehash.files import sha256_json
from anglehash.gallery.gallery import Gallery
from anglehash.gallery.query import Hit
from anglehash.gallery.store.verify import verify
from anglehash.index import ENGINES
from anglehash.manifest import write_manifest

BITS = 4
#                     distance to 1111:      2             0             4             2
CODES = pack(np.array([[1, 1, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0], [0, 1, 0, 1]]))
QUERY = pack(np.array([[1, 1, 1, 1], [0, 0, 0, 0]]))
IDS = ["cat/1.jpg", "dog/1.jpg", "dog/2.jpg", "no label.jpg"]
LABELS = [["cat"], ["dog", "pet"], ["dog"], []]


def make(path: Path, **changes: Any) -> Gallery:
    arguments: dict[str, Any] = {
        "codes": CODES, "ids": IDS, "labels": LABELS, "bits": BITS, "model_id": "model-1",
        "problems": [("bad.jpg", "truncated", "ends after 12 bytes")], "root": "photos",
    }  # fmt: skip
    return Gallery.create(path, **(arguments | changes))


@pytest.fixture
def gallery(tmp_path: Path) -> Gallery:
    return make(tmp_path / "gallery")


def test_opens_what_was_created(gallery: Gallery) -> None:
    again = Gallery.open(gallery.path)
    for opened in (gallery, again):
        assert len(opened) == 4
        assert np.array_equal(opened.codes, CODES)
        assert opened.ids == tuple(IDS)
        assert opened.labels == (("cat",), ("dog", "pet"), ("dog",), ())
        assert opened.problems == (("bad.jpg", "truncated", "ends after 12 bytes"),)
        assert (opened.bits, opened.model_id, opened.root) == (4, "model-1", "photos")


@pytest.mark.parametrize("engine", list(ENGINES))
def test_search(gallery: Gallery, engine: str) -> None:
    first, second = gallery.search(QUERY, 3, engine=engine)
    assert [hit.code for hit in first] == [gallery.item(hit.id).item.code for hit in first]
    assert [hit._replace(code=b"") for hit in first] == [
        Hit(rank=1, id="dog/1.jpg", distance=0, labels=("dog", "pet")),
        Hit(rank=2, id="cat/1.jpg", distance=2, labels=("cat",)),
        Hit(rank=3, id="no label.jpg", distance=2, labels=()),
    ]
    assert [hit.id for hit in second] == ["dog/2.jpg", "cat/1.jpg", "no label.jpg"]


@pytest.mark.parametrize("engine", list(ENGINES))
def test_search_within_a_radius(gallery: Gallery, engine: str) -> None:
    everything = gallery.search(QUERY, 4, engine=engine)
    for radius in range(BITS + 1):
        inside = [[hit for hit in hits if hit.distance <= radius] for hits in everything]
        assert gallery.search(QUERY, radius=radius, engine=engine) == inside
        for k in (1, 3, 9):
            assert gallery.search(QUERY, k, radius=radius, engine=engine) == [hits[:k] for hits in inside]


def test_search_refuses(gallery: Gallery) -> None:
    with pytest.raises(ConfigError, match="give k, radius, or both"):
        gallery.search(QUERY)
    with pytest.raises(ConfigError, match="k is a number of neighbours"):
        gallery.search(QUERY, 0)
    for k in (None, 3):
        with pytest.raises(ConfigError, match=r"radius is a whole number of bits in 0\.\.4, got 5"):
            gallery.search(QUERY, k, radius=5)
    with pytest.raises(ConfigError, match="unknown engine 'exakt'; did you mean 'exact'"):
        gallery.search(QUERY, 1, engine="exakt")
    with pytest.raises(CodeMismatchError):
        gallery.search(pack(np.ones((1, 16))), 1)


def test_require_model_names_both(gallery: Gallery) -> None:
    gallery.require_model("model-1")
    with pytest.raises(ModelError, match=r"gallery holds codes of the model model-1, .* model is model-2"):
        gallery.require_model("model-2")


def test_info(gallery: Gallery) -> None:
    info = gallery.info()
    assert json.loads(json.dumps(info)) == info
    assert info.pop("created_by").startswith("anglehash ")
    assert info == {
        "kind": "gallery",
        "version": 2,
        "path": str(gallery.path),
        "items": 4,
        "bits": 4,
        "model": "model-1",
        "unique_codes": 4,
        "labels": {"cat": 1, "dog": 2, "pet": 1},
        "skipped": 1,
        "root": "photos",
        "generation": 2,
    }


def test_empty_gallery(tmp_path: Path) -> None:
    empty = make(tmp_path / "empty", codes=CODES[:0], ids=[], labels=[])
    assert len(empty) == 0
    assert empty.search(QUERY, 3) == empty.search(QUERY, radius=4) == [[], []]


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    names=st.lists(st.binary(min_size=1, max_size=12), min_size=4, max_size=4, unique=True),
    label=st.text(max_size=8),
)
def test_names_come_back_byte_for_byte(tmp_path: Path, names: list[bytes], label: str) -> None:
    opened = make(
        tmp_path / "gallery",
        ids=[os.fsdecode(name) for name in names],
        labels=[[label], [os.fsdecode(names[0])], [], []],
        problems=[(os.fsdecode(names[1]), "truncated", label)],
        root=os.fsdecode(b"caf\xe9/\n"),
        force=True,
    )
    assert [os.fsencode(hit.id) for hit in opened.search(CODES[1:2], 4)[0]] == [
        names[i] for i in (1, 0, 3, 2)
    ]
    assert opened.labels[0] == (label,)
    assert os.fsencode(opened.labels[1][0]) == names[0]
    assert os.fsencode(opened.problems[0][0]) == names[1]
    assert os.fsencode(opened.root) == b"caf\xe9/\n"


def test_labels_may_hold_any_character(tmp_path: Path) -> None:
    labels = [["\ud800"], ["\u2028\x85\r\n\0"], ["🦊"], ["<img onerror=alert(1)>"]]
    assert make(tmp_path / "gallery", labels=labels).labels == tuple(map(tuple, labels))


@pytest.mark.parametrize("bits", [4, 12, 64, 1000])
def test_codes_of_any_length(tmp_path: Path, bits: int) -> None:
    codes = pack(np.random.default_rng(0).normal(size=(30, bits)))
    opened = make(
        tmp_path / "gallery", codes=codes, ids=[str(i) for i in range(30)], labels=[[]] * 30, bits=bits
    )
    assert np.array_equal(Gallery.open(opened.path).codes, codes)
    assert [hits[0].id for hits in opened.search(codes, 1)] == [str(_first(codes, i)) for i in range(30)]


def _first(codes: Codes, row: int) -> int:
    """The first row with the same code: short codes repeat, and ties go in the gallery's order."""
    return int(np.flatnonzero((codes == codes[row]).all(axis=1))[0])


def test_create_refuses(tmp_path: Path) -> None:
    path = tmp_path / "gallery"
    with pytest.raises(DataError, match="4 codes need as many ids and labels, got 3 and 4"):
        make(path, ids=IDS[:3])
    with pytest.raises(DataError, match="got 4 and 5"):
        make(path, labels=[*LABELS, []])
    with pytest.raises(DataError, match=r"'cat/1\.jpg' comes twice"):
        make(path, ids=["cat/1.jpg", "b", "c", "cat/1.jpg"])
    with pytest.raises(CodeMismatchError):
        make(path, bits=12)
    with pytest.raises(ConfigError):
        make(path, bits=3)
    assert list(tmp_path.iterdir()) == []


def test_existing_output(gallery: Gallery) -> None:
    with pytest.raises(OutputExistsError, match="--force"):
        make(gallery.path, model_id="model-2")
    assert Gallery.open(gallery.path).model_id == "model-1"
    assert make(gallery.path, model_id="model-2", force=True).model_id == "model-2"


def test_force_never_replaces_a_folder_of_photos(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"precious")
    with pytest.raises(OutputExistsError, match="so it is not replaced"):
        make(tmp_path / "photos", force=True)
    assert (tmp_path / "photos" / "cat.jpg").read_bytes() == b"precious"


def test_a_failed_create_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        make(tmp_path / "gallery", root=object())
    assert list(tmp_path.iterdir()) == []


def test_takes_its_model_along(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_bytes(b"12")
    make(tmp_path / "gallery", model=tmp_path / "model")
    moved = (tmp_path / "gallery").rename(tmp_path / "moved")
    assert (Gallery.open(moved).model_folder / "weights").read_bytes() == b"12"


@pytest.mark.parametrize("name", ["manifest.json", "1/items.db", "1/receipt"])
@pytest.mark.parametrize("damage", ["flip", "cut", "append", "empty", "remove"])
def test_damage_is_refused_by_name(gallery: Gallery, name: str, damage: str) -> None:
    before = gallery.search(QUERY, 4)
    gallery.close()
    file = gallery.path / name
    spoil(file, damage)
    assert [fault.file for fault in verify(gallery.path)] == [str(file)]
    if (name, damage) == ("1/items.db", "append"):  # SQLite never looks there
        assert Gallery.open(gallery.path).search(QUERY, 4) == before
        return
    with pytest.raises(ModelError, match=file.name):
        Gallery.open(gallery.path)


@pytest.mark.parametrize("damage", ["flip", "cut", "append", "empty", "remove"])
def test_a_damaged_segment_is_named_and_never_answered_from(
    gallery: Gallery, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    (segment,) = (gallery.path / "1" / "codes").iterdir()
    before = gallery.search(QUERY, 4)
    spoil(segment, damage)
    again = Gallery.open(gallery.path)
    assert segment.name in caplog.text
    assert again.search(QUERY, 4) == before
    assert np.array_equal(again.codes, CODES)


def spoil(file: Path, damage: str) -> None:
    whole = file.read_bytes()
    file.unlink()
    if damage != "remove":
        flipped = bytes([whole[0] ^ 1]) + whole[1:]
        file.write_bytes({"flip": flipped, "cut": whole[:-2], "append": whole + b"\n", "empty": b""}[damage])


@pytest.mark.parametrize(
    "changes",
    [
        {"bits": "four"}, {"bits": 12}, {"bits": None}, {"count": 3}, {"count": 10**30}, {"count": "4"},
        {"model": 1}, {"store": "../x"}, {"generation": -1}, {"generation": 9}, {"last_row": None},
        {"segments": [{"name": "../x"}]}, {"segments": 4},
    ],
)  # fmt: skip
def test_forged_manifests_are_refused(gallery: Gallery, changes: dict[str, Any]) -> None:
    file = gallery.path / "manifest.json"
    manifest = json.loads(file.read_bytes()) | changes
    del manifest["seal"]
    file.write_text(json.dumps({**manifest, "seal": sha256_json(manifest)}, indent=2) + "\n")
    with pytest.raises(ModelError, match=r"is not a gallery that anglehash wrote|but items\.db holds"):
        Gallery.open(gallery.path)


def read_facts(path: Path) -> dict[str, Any]:
    manifest = json.loads((path / "manifest.json").read_bytes())
    return {k: v for k, v in manifest.items() if k not in {"format", "version", "files", "seal"}}


def test_newer_galleries_say_upgrade(gallery: Gallery) -> None:
    write_manifest(gallery.path, "gallery", 3, read_facts(gallery.path))
    with pytest.raises(ModelError, match="upgrade anglehash"):
        Gallery.open(gallery.path)
    write_manifest(gallery.path, "model", 2, read_facts(gallery.path))
    with pytest.raises(ModelError, match="anglehash-gallery is wanted"):
        Gallery.open(gallery.path)
    with pytest.raises(ModelError, match="is not an anglehash gallery"):
        Gallery.open(gallery.path.parent)


def test_a_text_in_place_of_a_list_of_labels_is_refused(tmp_path: Path) -> None:
    codes = np.zeros((1, 1), np.uint8)
    with pytest.raises(DataError, match="a list for each item"):
        Gallery.create(tmp_path / "g", codes=codes, ids=["a"], labels=["cat"], bits=8, model_id="m")
