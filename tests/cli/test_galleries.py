"""Galleries as people keep them: grown, synchronised, encoded again, looked through; by the command line."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from anglehash.cli.main import cli
from anglehash.data.image_hash import picture_of
from anglehash.errors import ConfigError
from anglehash.gallery import build as galleries
from anglehash.gallery import ingest
from anglehash.gallery import reindex as reindexing
from anglehash.gallery.build import largest_batch
from anglehash.gallery.gallery import Gallery
from anglehash.gallery.metadata import manifest_metadata
from anglehash.gallery.store.opening import open_writer
from anglehash.gallery.store.writer import Changes
from anglehash.models.model import Model
from anglehash.training.hasher import Hasher

TRAIN = ["--backbone", "tiny", "--image-size", "12", "--epochs", "1"]


def write_image(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (14, 12, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, format="PNG")


def write_images(folder: Path) -> Path:
    for c, name in enumerate(["cat", "dog"]):
        for i in range(8):
            write_image(folder / name / f"{i}.png", 100 * c + i)
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two models of 16 and 24 bits."""
    photos = write_images(tmp_path_factory.mktemp("data") / "photos")
    folder = tmp_path_factory.mktemp("models")
    for bits in ("16", "24"):
        arguments = ["train", str(photos), "-o", str(folder / bits), "--bits", bits, *TRAIN]
        assert cli.main(arguments, standalone_mode=False) == 0
    return [folder / "16", folder / "24"]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return write_images(tmp_path / "photos")


@pytest.fixture
def gallery(photos: Path, models: list[Path], tmp_path: Path, anglehash: Any) -> Path:
    assert anglehash("index", models[0], photos, "-o", tmp_path / "g").code == 0
    return tmp_path / "g"


def codes(path: Path) -> dict[str, bytes]:
    with Gallery.open(path) as opened:
        return dict(zip(opened.ids, map(bytes, opened.codes), strict=True))


def right_codes(model: Path, files: dict[str, Path]) -> dict[str, bytes]:
    """The codes that a model gives to these files, by id, one at a time."""
    from anglehash.data.dataset import Encoded

    loaded = Model.load(model)
    return {name: loaded.encode(Encoded([file.read_bytes()])).codes.tobytes() for name, file in files.items()}


def images_of(folder: Path, prefix: str = "") -> dict[str, Path]:
    return {prefix + p.relative_to(folder).as_posix(): p for p in sorted(folder.rglob("*.png"))}


def test_index_gives_every_image_its_own_code(gallery: Path, photos: Path, models: list[Path]) -> None:
    assert codes(gallery) == right_codes(models[0], images_of(photos))
    assert not list(gallery.parent.glob("*.indexing"))


def test_add_skips_replaces_and_reports(
    gallery: Path, photos: Path, models: list[Path], tmp_path: Path, anglehash: Any
) -> None:
    done = anglehash("add", gallery, photos, "--json")
    assert (done.code, done.json["unchanged"], done.json["added"]) == (0, 16, 0)
    write_image(photos / "cat" / "0.png", 77)
    write_image(photos / "cat" / "new.png", 78)
    (photos / "dog" / "bad.png").write_bytes((photos / "dog" / "0.png").read_bytes()[:60])
    done = anglehash("add", gallery, photos, "--json")
    assert done.code == 3
    counts = {key: done.json[key] for key in ("added", "replaced", "unchanged", "skipped")}
    assert counts == {"added": 1, "replaced": 1, "unchanged": 15, "skipped": 1}
    expected = images_of(photos)
    del expected["dog/bad.png"]
    assert codes(gallery) == right_codes(models[0], expected)
    assert [p["id"] for p in anglehash("problems", gallery, "--json").json["problems"]] == ["dog/bad.png"]
    assert "dog/bad.png" in anglehash("problems", gallery).out
    write_image(photos / "dog" / "bad.png", 5)  # mended
    assert anglehash("add", gallery, photos, "--json").json["added"] == 1
    assert anglehash("problems", gallery).out == "no problems\n"


def test_a_prefix_keeps_folders_apart(
    gallery: Path, photos: Path, models: list[Path], tmp_path: Path, anglehash: Any
) -> None:
    write_image(tmp_path / "other" / "cat" / "0.png", 500)
    assert anglehash("add", gallery, tmp_path / "other", "--prefix", "trip/2019").code == 0
    files = {**images_of(photos), **images_of(tmp_path / "other", "trip/2019/")}
    assert codes(gallery) == right_codes(models[0], files)
    assert anglehash("add", gallery, photos, "--prefix", "../x").code == 1
    done = anglehash("sync", gallery, tmp_path / "other", "--prefix", "trip/2019", "--json")
    assert (done.json["removed"], done.json["unchanged"]) == (0, 1)


def test_sync_finds_new_changed_renamed_and_deleted_files(
    gallery: Path, photos: Path, models: list[Path], anglehash: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (photos / "cat" / "1.png").rename(photos / "dog" / "moved.png")
    (photos / "cat" / "2.png").unlink()
    write_image(photos / "cat" / "3.png", 1000)
    write_image(photos / "cat" / "zz.png", 1001)
    encoded: list[int] = []
    encode = Model.encode

    def counting(model: Model, images: Any, **options: Any) -> Any:
        encoded.extend(options["rows"].tolist())
        return encode(model, images, **options)

    monkeypatch.setattr(Model, "encode", counting)
    done = anglehash("sync", gallery, photos, "--json")
    monkeypatch.undo()
    names = ("added", "replaced", "renamed", "removed", "unchanged")
    assert {n: done.json[n] for n in names} == dict(zip(names, (1, 1, 1, 1, 13), strict=True))
    assert len(encoded) == 2  # the renamed one kept its code
    assert codes(gallery) == right_codes(models[0], images_of(photos))
    moved = Gallery.open(gallery).item("dog/moved.png")
    assert moved.item.labels == ("dog",)
    assert anglehash("sync", gallery, photos).out.endswith("16 unchanged\n")


def test_sync_removes_the_many_only_if_reported(gallery: Path, photos: Path, anglehash: Any) -> None:
    shutil.rmtree(photos / "cat")
    for i in range(5):
        (photos / "dog" / f"{i}.png").unlink()
    done = anglehash("sync", gallery, photos)
    assert done.code == 1
    assert "13 of 16 items have no file" in done.err
    assert len(codes(gallery)) == 16
    assert anglehash("sync", gallery, photos, "--force").code == 0
    assert codes(gallery).keys() == images_of(photos).keys()


def test_sync_keeps_what_it_cannot_see(gallery: Path, photos: Path, anglehash: Any) -> None:
    """A folder that cannot be read (here: one that is reached in a circle) says nothing of its files."""
    shutil.rmtree(photos / "cat")
    (photos / "cat").symlink_to("cat")
    done = anglehash("sync", gallery, photos, "--json")
    assert (done.code, done.json["removed"]) == (3, 0)
    assert len(codes(gallery)) == 16


def test_a_file_with_the_date_of_another_is_found_by_its_content(
    gallery: Path, photos: Path, models: list[Path], anglehash: Any
) -> None:
    file = photos / "cat" / "0.png"
    before, size = os.stat(file), file.stat().st_size
    write_image(file, 4000)
    file.write_bytes(file.read_bytes()[:size].ljust(size, b"\0"))
    if file.stat().st_size != size:
        pytest.skip("the other picture has another size")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert anglehash("sync", gallery, photos, "--json").json["unchanged"] == 16
    done = anglehash("sync", gallery, photos, "--verify-content", "--json")
    assert done.json["unchanged"] == 15


def test_remove_names_what_is_not_there(gallery: Path, anglehash: Any) -> None:
    refused = anglehash("remove", gallery, "cat/0.png", "cat/99.png")
    assert (refused.code, len(codes(gallery))) == (1, 16)
    assert "no item 'cat/99.png'" in refused.err
    assert anglehash("remove", gallery, "cat/0.png", "cat/1.png", "--json").json["removed"] == 2
    assert len(codes(gallery)) == 14


def test_columns_of_a_manifest_are_metadata_and_filters(
    photos: Path, models: list[Path], tmp_path: Path, anglehash: Any
) -> None:
    manifest = tmp_path / "m.csv"
    lines = [f"{name},{name.split('/')[0]},{2010 + i}" for i, name in enumerate(images_of(photos))]
    manifest.write_text("\n".join(["file_name,label,year", *lines]))
    g = tmp_path / "g"
    assert anglehash("index", models[0], manifest, "--root", photos, "-o", g).code == 0
    query = photos / "cat" / "0.png"

    def found(*options: object) -> list[str]:
        done = anglehash("search", g, query, "-k", 99, *options, "--json")
        assert done.code == 0, done.err
        return sorted(hit["id"] for hit in done.json["results"])

    every = sorted(images_of(photos))
    assert found() == every
    assert found("--where", "year>=2020") == every[10:]
    assert found("--where", "year>=2020", "--label", "cat") == []
    assert found("--label", "dog", "--label", "cat") == every
    assert found("--glob", "*/3.png") == ["cat/3.png", "dog/3.png"]
    assert found("--before", "2000-01-01") == []
    assert found("--after", "2000-01-01") == every
    assert anglehash("search", g, query, "--where", "year").code == 1
    listed = anglehash("list", g, "--where", "year=2012", "--json").json
    assert listed["items"] == [{"id": every[2], "labels": ["cat"], "metadata": {"year": "2012"}}]
    # another column value is not another image
    manifest.write_text(manifest.read_text().replace("2012", "1999"))
    done = anglehash("add", g, manifest, "--root", photos, "--json")
    assert (done.json["relabelled"], done.json["unchanged"]) == (1, 15)


def test_metadata_of_every_kind_of_manifest(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    (tmp_path / "a.jsonl").write_text(
        '{"file_name": "a.png", "label": 1, "tags": ["x"], "n": 2, "no": null}\n'
    )
    assert manifest_metadata(str(tmp_path / "a.jsonl")) == {"a.png": {"tags": ["x"], "n": 2}}
    (tmp_path / "a.csv").write_text("file_name,label,place\n./b.png,x,Rome\nc.png,y,\n")
    assert manifest_metadata(str(tmp_path / "a.csv"))["./b.png"] == {"place": "Rome"}
    pq.write_table(pa.table({"file_name": ["a.png"], "n": [1.5]}), tmp_path / "a.parquet")
    assert manifest_metadata(str(tmp_path / "a.parquet")) == {"a.png": {"n": 1.5}}
    assert manifest_metadata(str(tmp_path)) == manifest_metadata("digits") == {}


def test_pages_join_to_the_whole_answer(gallery: Path, photos: Path, anglehash: Any) -> None:
    query = photos / "cat" / "0.png"
    whole = anglehash("search", gallery, query, "-k", 16, "--json").json
    assert whole["cursor"] is None
    pages, cursor = [], None
    while True:
        more: list[object] = ["--cursor", cursor] if cursor else []
        page = anglehash("search", gallery, query, "-k", 5, *more, "--json").json
        pages += page["results"]
        if (cursor := page["cursor"]) is None:
            break
    assert pages == whole["results"]
    first = anglehash("search", gallery, query, "-k", 5, "--json").json["cursor"]
    other = anglehash("search", gallery, photos / "dog" / "1.png", "-k", 5, "--cursor", first)
    assert "belongs to another search" in other.err
    assert "was not given by a search" in anglehash("search", gallery, query, "--cursor", "x").err


def test_more_like_this_leaves_itself_out(gallery: Path, anglehash: Any) -> None:
    done = anglehash("search", gallery, "--similar-to", "cat/3.png", "-k", 20, "--json")
    ids = [hit["id"] for hit in done.json["results"]]
    assert sorted([*ids, "cat/3.png"]) == sorted(codes(gallery))
    assert [hit["rank"] for hit in done.json["results"]] == list(range(1, 16))
    assert anglehash("search", gallery, "--similar-to", "x").code == 1
    assert anglehash("search", gallery).code == 2


def test_list_in_parts(gallery: Path, anglehash: Any) -> None:
    first = anglehash("list", gallery, "--limit", 10, "--json").json
    second = anglehash("list", gallery, "--limit", 10, "--cursor", first["cursor"], "--json").json
    assert [item["id"] for item in first["items"] + second["items"]] == list(codes(gallery))
    assert second["cursor"] is None
    assert "cat/0.png" in anglehash("list", gallery).out


def test_duplicates_by_bytes_pixels_and_likeness(gallery: Path, photos: Path, anglehash: Any) -> None:
    assert anglehash("duplicates", gallery).out == "no duplicates\n"
    shutil.copy(photos / "cat" / "0.png", photos / "dog" / "copy.png")
    with Image.open(photos / "cat" / "1.png") as image:
        image.save(photos / "cat" / "1.bmp")
    with Image.open(photos / "dog" / "2.png") as image:
        image.resize((48, 56), Image.Resampling.BICUBIC).save(photos / "dog" / "large.jpg", quality=95)
    anglehash("add", gallery, photos)
    done = anglehash("duplicates", gallery, "--json").json
    assert (done["items"], done["without_pixels"]) == (19, 0)
    facts = [(g["kind"], [i["id"] for i in g["images"]], g["keep"], g["reason"]) for g in done["groups"]]
    assert facts == [
        ("same bytes", ["cat/0.png", "dog/copy.png"], "cat/0.png", "added first"),
        # of noise a PNG file is larger than a BMP file
        ("same pixels", ["cat/1.png", "cat/1.bmp"], "cat/1.png", "least compressed"),
        ("near copies", ["dog/2.png", "dog/large.jpg"], "dog/large.jpg", "most pixels"),
    ]
    size = (photos / "dog" / "large.jpg").stat().st_size
    assert done["groups"][2]["images"][1] == {"id": "dog/large.jpg", "width": 48, "height": 56, "bytes": size}
    text = anglehash("duplicates", gallery).out.splitlines()
    assert text[-2:] == [
        f"  dog/2.png  12 x 14, {(photos / 'dog' / '2.png').stat().st_size:,} bytes",
        f"  dog/large.jpg  48 x 56, {size:,} bytes  keep: most pixels",
    ]
    assert (photos / "dog" / "copy.png").exists()


def test_duplicates_are_the_same_after_reindex_and_in_a_renamed_file(
    gallery: Path, photos: Path, models: list[Path], anglehash: Any
) -> None:
    with Image.open(photos / "dog" / "2.png") as image:
        image.resize((48, 56), Image.Resampling.BICUBIC).save(photos / "dog" / "large.png")
    anglehash("add", gallery, photos)
    (photos / "dog" / "2.png").rename(photos / "dog" / "renamed.png")
    assert anglehash("sync", gallery, photos, "--json").json["renamed"] == 1
    before = anglehash("duplicates", gallery, "--json").json
    assert [image["id"] for image in before["groups"][0]["images"]] == ["dog/large.png", "dog/renamed.png"]
    anglehash("reindex", gallery, "--model", models[1])
    assert anglehash("duplicates", gallery, "--json").json == before


def test_a_gallery_of_codes_says_that_it_knows_no_pixels(tmp_path: Path, anglehash: Any) -> None:
    codes = np.zeros((3, 2), np.uint8)
    Gallery.create(tmp_path / "g", codes=codes, ids=["a", "b", "c"], labels=[()] * 3, bits=16, model_id="m")
    said = anglehash("duplicates", tmp_path / "g").out
    assert said == "3 of 3 items came without pixels: of these only equal bytes are found\n"
    assert anglehash("duplicates", tmp_path / "g", "--json").json["without_pixels"] == 3


def test_reindex_changes_all_codes_at_once(
    gallery: Path, photos: Path, models: list[Path], anglehash: Any, tmp_path: Path
) -> None:
    write_image(tmp_path / "other" / "x.png", 9)
    anglehash("add", gallery, tmp_path / "other", "--prefix", "more")
    (photos / "dog" / "7.png").unlink()
    reader = Gallery.open(gallery)
    before = codes(gallery)
    done = anglehash("reindex", gallery, "--model", models[1], "--json")
    assert done.code == 3
    assert [p["id"] for p in done.json["problems"]] == ["dog/7.png"]
    files = {**images_of(photos), **images_of(tmp_path / "other", "more/")}
    after = codes(gallery)
    assert after == right_codes(models[1], files)
    assert list(after) == [name for name in before if name != "dog/7.png"]
    assert (done.json["bits"], done.json["model"]) == (24, Model.load(models[1]).id)
    assert dict(zip(reader.ids, map(bytes, reader.codes), strict=True)) == before  # a reader keeps its own
    assert reader.refresh()
    assert reader.bits == 24
    assert sorted(p.name for p in gallery.iterdir()) == ["2", "manifest.json"]
    assert anglehash("search", gallery, photos / "cat" / "0.png").code == 0
    assert "of this model already" in anglehash("reindex", gallery, "--model", models[1]).err
    assert anglehash("verify", gallery).code == 0


@pytest.mark.parametrize("command", ["index", "reindex"])
def test_what_was_stopped_is_gone_on_with(
    command: str,
    photos: Path,
    models: list[Path],
    gallery: Path,
    anglehash: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = gallery.with_name("g2")
    arguments = ["index", models[0], photos, "-o", out] if command == "index" else [
        "reindex", gallery, "--model", models[1]
    ]  # fmt: skip
    module = ingest if command == "index" else reindexing
    monkeypatch.setattr(module, "SMALLEST", 1)
    monkeypatch.setattr(module, "next_size", lambda *_: 4)
    encode, encoded = Model.encode, list[int]()

    def dying(model: Model, images: Any, **options: Any) -> Any:
        if len(encoded) == 8:
            raise KeyboardInterrupt
        encoded.extend(options["rows"].tolist())
        return encode(model, images, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Model, "encode", dying)
        assert anglehash(*arguments).code == 130
    assert not out.exists()
    if command == "reindex":
        assert codes(gallery) == right_codes(models[0], images_of(photos))
    encoded.append(-1)  # from now on it lives
    with monkeypatch.context() as patch:
        patch.setattr(Model, "encode", dying)
        done = anglehash(*arguments, "--json")
    assert done.code == 0, done.err
    assert len(encoded) == 16 + 1  # nothing twice
    model, path = (models[0], out) if command == "index" else (models[1], gallery)
    assert codes(path) == right_codes(model, images_of(photos))


def test_an_index_that_died_as_it_began_is_begun_again(
    photos: Path, models: list[Path], tmp_path: Path, anglehash: Any
) -> None:
    work = tmp_path / "g.indexing"
    (work / "1" / "codes").mkdir(parents=True)
    (work / "1" / "items.db").write_bytes(b"")
    (work / ".manifest.json.x.tmp").write_bytes(b"{")
    assert anglehash("index", models[0], photos, "-o", tmp_path / "g").code == 0
    assert codes(tmp_path / "g") == right_codes(models[0], images_of(photos))
    work.mkdir()
    (work / "holiday.jpg").write_bytes(b"precious")
    refused = anglehash("index", models[0], photos, "-o", tmp_path / "g", "--force")
    assert "is in the way" in refused.err
    assert (work / "holiday.jpg").exists()


def test_an_unfinished_index_of_another_model_is_not_mixed(
    photos: Path, models: list[Path], tmp_path: Path, anglehash: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(galleries, "ingest", stop)
        assert anglehash("index", models[0], photos, "-o", tmp_path / "g").code == 130
    refused = anglehash("index", models[1], photos, "-o", tmp_path / "g")
    assert "is an unfinished gallery of the model" in refused.err
    assert anglehash("index", models[1], photos, "-o", tmp_path / "g", "--force").code == 0
    assert codes(tmp_path / "g") == right_codes(models[1], images_of(photos))


def test_verify_repair_backup_restore(gallery: Path, tmp_path: Path, anglehash: Any) -> None:
    assert anglehash("verify", gallery, "--json").json["sound"]
    assert anglehash("backup", gallery, tmp_path / "b.tar").code == 0
    before = codes(gallery)
    (gallery / "1" / "receipt").unlink()
    found = anglehash("verify", gallery, "--json")
    assert (found.code, found.json["faults"][0]["file"]) == (1, str(gallery / "1" / "receipt"))
    assert anglehash("repair", gallery).code == 0
    assert anglehash("verify", gallery).out.endswith("all is well\n")
    assert anglehash("restore", tmp_path / "b.tar", "-o", tmp_path / "again").code == 0
    assert codes(tmp_path / "again") == codes(gallery) == before
    assert json.loads(anglehash("info", tmp_path / "again", "--json").out)["items"] == 16


def test_a_second_writer_is_reported_who_is_first(gallery: Path, photos: Path, anglehash: Any) -> None:
    with open_writer(gallery):
        done = anglehash("add", gallery, photos, "--lock-timeout", "0.1")
    assert done.code == 1
    assert f"process {os.getpid()}" in done.err


def test_memory_bounds_the_batch(photos: Path, gallery: Path, anglehash: Any) -> None:
    assert largest_batch(2**30, 10) < largest_batch(2**31, 10) <= ingest.LARGEST
    with pytest.raises(ConfigError, match=r"at least \d+M is needed"):
        largest_batch(512 * 2**20, 10)
    assert anglehash("add", gallery, photos, "--memory", "1G").code == 0
    assert "is needed" in anglehash("add", gallery, photos, "--memory", "100M").err
    assert anglehash("add", gallery, photos, "--memory", "much").code == 2


def test_the_picture_itself_comes_first(gallery: Path, photos: Path, tmp_path: Path, anglehash: Any) -> None:
    """By bytes under another name, and by pixels in another format; an item that went or changed is not it."""

    def first(query: Path, *options: object) -> dict[str, Any]:
        done = anglehash("search", gallery, query, "-k", 3, *options, "--json").json
        assert not any(hit["same_picture"] for hit in done["results"][1:])
        return dict(done["results"][0])

    copy, resaved = tmp_path / "copy", tmp_path / "other.bmp"
    copy.write_bytes((photos / "dog" / "3.png").read_bytes())
    with Image.open(copy) as image:
        image.save(resaved)
    for query in (copy, resaved):
        found = first(query)
        assert (found["id"], found["same_picture"]) == ("dog/3.png", True)
        assert not first(query, "--label", "cat")["same_picture"]
    # The code may be any: the picture comes first all the same, and once.
    with open_writer(gallery) as writer:
        item = writer.items(["dog/3.png"])["dog/3.png"].item
        writer.commit(Changes([item._replace(code=bytes(255 - byte for byte in item.code))]))
    found = first(resaved)
    assert (found["id"], found["distance"] > 8, found["same_picture"]) == ("dog/3.png", True, True)
    page = anglehash("search", gallery, copy, "-k", 5, "--json").json
    more = anglehash("search", gallery, copy, "-k", 20, "--cursor", page["cursor"], "--json").json
    assert sorted(hit["id"] for hit in page["results"] + more["results"]) == sorted(images_of(photos))
    assert [hit["same_picture"] for hit in page["results"] + more["results"]] == [True, *[False] * 15]
    text = anglehash("search", gallery, copy, "-k", 3).out.splitlines()
    assert ["same picture" in line for line in text[:4]] == [False, True, False, False]
    # A moved file keeps its keys; one that is written over loses them.
    (photos / "dog" / "3.png").rename(photos / "cat" / "moved.png")
    assert anglehash("sync", gallery, photos, "--json").json["renamed"] == 1
    assert first(resaved)["id"] == "cat/moved.png"
    write_image(photos / "cat" / "moved.png", 9)
    assert anglehash("add", gallery, photos, "--json").json["replaced"] == 1
    assert not first(resaved)["same_picture"]
    assert anglehash("remove", gallery, "dog/4.png").code == 0
    assert not first(photos / "dog" / "4.png")["same_picture"]


def test_reindexing_keeps_the_keys_of_pictures(
    gallery: Path, photos: Path, models: list[Path], tmp_path: Path, anglehash: Any
) -> None:
    with Gallery.open(gallery) as opened:
        before = {stored.item.id: picture_of(photos / stored.item.id) for stored in opened}
    assert anglehash("reindex", gallery, "--model", models[1]).code == 0
    with Gallery.open(gallery) as opened:
        assert {s.item.id: (s.item.content, s.item.pixels) for s in opened} == before


def test_an_item_asks_with_its_own_code(gallery: Path, anglehash: Any) -> None:
    done = anglehash("search", gallery, "--similar-to", "cat/0.png", "-k", 3, "--json").json
    with Gallery.open(gallery) as opened:
        own = np.frombuffer(opened.item("cat/0.png").item.code, np.uint8)[None]
        expected = [hit for hit in opened.search(own, 4)[0] if hit.id != "cat/0.png"][:3]
    assert [(hit["id"], hit["distance"]) for hit in done["results"]] == [(h.id, h.distance) for h in expected]


def test_a_real_valued_query(gallery: Path, photos: Path, models: list[Path], anglehash: Any) -> None:
    query = photos / "cat" / "0.png"
    done = anglehash("search", gallery, query, "-k", 16, "--asymmetric", "--json")
    with Gallery.open(gallery) as opened:
        logits = Hasher.load(models[0]).logits([str(query)])
        expected = opened.search(logits, 16, asymmetric=True, pictures=[picture_of(query)])[0]
    assert [(hit["id"], hit["distance"]) for hit in done.json["results"]] == [
        (h.id, h.distance) for h in expected
    ]
    assert done.json["asymmetric"]
    assert done.json["results"][0]["distance"] == 0  # an equal code has no bit that differs
    page = anglehash("search", gallery, query, "-k", 5, "--asymmetric", "--json").json
    more = anglehash(
        "search", gallery, query, "-k", 5, "--asymmetric", "--cursor", page["cursor"], "--json"
    ).json
    assert page["results"] + more["results"] == done.json["results"][:10]
    assert "belongs to another search" in anglehash("search", gallery, query, "--cursor", page["cursor"]).err
    assert (
        "an item has its bits alone" in anglehash("search", gallery, "--similar-to", "x", "--asymmetric").err
    )
