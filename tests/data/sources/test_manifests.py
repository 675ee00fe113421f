from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any
from unicodedata import normalize

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from anglehash.data.dataset import Dataset
from anglehash.data.sources.manifests import read_manifest
from anglehash.data.sources.records import MAX_LINE, SHOWN
from anglehash.errors import DataError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.png", "b.png", "c, d.png", "sub/e.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


def csv(folder: Path, text: str | bytes, name: str = "labels.csv") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def rows(data: Dataset) -> list[tuple[str, set[str], str]]:
    names = [{data.class_names[c] for c in row.nonzero()[0]} for row in data.labels]
    return list(zip(data.ids, names, data.parts.tolist(), strict=True))


def jsonl(folder: Path, *records: object) -> Path:
    return csv(folder, "\n".join(map(json.dumps, records)), "labels.jsonl")


EXPECTED = [
    ("a.png", {"sky", "sea"}, "train"),
    ("b.png", set(), "query"),
    ("sub/e.png", {"sky"}, "validation"),
]


def test_csv(folder: Path) -> None:
    text = "file_name,label,split\nsub/e.png,sky,val\na.png,sky|sea,train\nb.png,,query\n"
    assert rows(read_manifest(csv(folder, text))) == EXPECTED


def test_byte_order_mark_crlf_and_empty_lines(folder: Path) -> None:
    text = "\ufefffile_name,label,split\r\nsub/e.png,sky,val\r\n\r\na.png,sky|sea,train\r\nb.png,,query\r\n"
    assert rows(read_manifest(csv(folder, text))) == EXPECTED


def test_jsonl_takes_lists_numbers_and_null(folder: Path) -> None:
    path = jsonl(
        folder,
        {"file_name": "sub/e.png", "label": "sky", "split": "val"},
        {"file_name": "a.png", "label": ["sky", "sea"], "split": "train"},
        {"file_name": "b.png", "label": None, "split": "query"},
    )
    assert rows(read_manifest(path)) == EXPECTED
    assert rows(read_manifest(jsonl(folder, {"file_name": "a.png", "label": [3, "x|y"]}))) == [
        ("a.png", {"3", "x|y"}, "")
    ]


@pytest.mark.parametrize("cells", [["sky", "sky|sea", None], [["sky"], ["sky", "sea"], []]])
def test_parquet(folder: Path, cells: list[object]) -> None:
    table = pa.table(
        {
            "file_name": ["sub/e.png", "a.png", "b.png"],
            "label": cells,
            "split": ["val", "train", "query"],
            "image_id": [1, 2, 3],
        }
    )
    pq.write_table(table, folder / "labels.parquet")
    assert rows(read_manifest(folder / "labels.parquet")) == EXPECTED


def test_a_quoted_comma_is_part_of_the_name(folder: Path) -> None:
    data = read_manifest(csv(folder, 'file_name,label\n"c, d.png","x, y"\n'))
    assert rows(data) == [("c, d.png", {"x, y"}, "")]


def test_the_order_of_lines_does_not_matter(folder: Path) -> None:
    forward = read_manifest(csv(folder, "file_name,label\na.png,x\nb.png,y\n"))
    backward = read_manifest(csv(folder, "label,file_name\ny,b.png\nx,a.png\n"))
    assert rows(forward) == rows(backward)


def test_further_columns_and_images_are_stated(folder: Path) -> None:
    data = read_manifest(csv(folder, "file_name,width,label,height\na.png,1,x,2\nb.png,3,y,4\n"))
    assert data.facts["ignored_columns"] == ["height", "width"]
    assert data.facts["unlisted_images"] == 1  # 'c, d.png'; sub/ is not named, so nothing in it is looked at


def test_a_repeated_line_counts_once(folder: Path) -> None:
    data = read_manifest(csv(folder, "file_name,label\na.png,x|y\nb.png,x\n./a.png,y|x\n"))
    assert data.ids == ("a.png", "b.png")
    assert data.facts["repeated_lines"] == 1


def test_a_repeated_file_with_another_label_is_a_mistake(folder: Path) -> None:
    with pytest.raises(
        DataError, match=r"line 4: contradiction: 'a.png' has other labels or split in line 2"
    ):
        read_manifest(csv(folder, "file_name,label\na.png,x\nb.png,x\na.png,y\n"))


def test_a_missing_file_is_skipped_with_its_line(folder: Path) -> None:
    data = read_manifest(csv(folder, "file_name,label\na.png,x\ngone.png,y\nsub,y\nb.png,x\n"))
    assert data.ids == ("a.png", "b.png")
    assert data.problems == (
        ("gone.png", "unreadable-file", "line 3: No such file or directory"),
        ("sub", "not-a-file", "line 4: a folder"),
    )
    assert data.facts["empty_classes"] == ["y"]


def test_no_file_at_all_names_the_start(folder: Path) -> None:
    path = csv(folder / "sub", "file_name,label\na.png,x\nb.png,y\n")
    with pytest.raises(DataError, match=r"none of its 2 files is there .* --root"):
        read_manifest(path)
    assert read_manifest(path, root=folder).ids == ("a.png", "b.png")


@pytest.mark.parametrize(
    "name", ["../a.png", "sub/../../a.png", "/etc/passwd", "C:/a.png", r"..\a.png", r"\\host\share\a.png"]
)
def test_a_path_out_of_the_folder_is_refused(folder: Path, name: str) -> None:
    with pytest.raises(DataError, match="line 2: path leaves the folder"):
        read_manifest(csv(folder, f"file_name,label\n{name},x\na.png,x\n"))


def test_windows_1252_names_the_line_and_the_byte(folder: Path) -> None:
    text = "file_name,label\na.png,x\nb.png,café\n".encode("cp1252")
    with pytest.raises(DataError, match=r"line 3: not UTF-8: byte 0xe9"):
        read_manifest(csv(folder, text))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be"])
def test_utf_16_is_named(folder: Path, encoding: str) -> None:
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    with pytest.raises(DataError, match="UTF-16"):
        read_manifest(csv(folder, f"{mark}file_name,label\na.png,x\n".encode(encoding)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must name a column 'file_name'"),
        ("file_name:label\na.png:x\n", "'file_name:label'"),
        ("file_name,label,label\na.png,x,y\n", "names 'label' twice"),
        ("file_name,label\n", "names no image"),
        ("file_name,split\na.png,train\n", "no column 'label'"),
        ("file_name,label\na.png\n", "line 2: wrong number of cells: 1, the header has 2"),
        ("file_name,label\na.png,x,y\n", "line 2: wrong number of cells: 3"),
        ("file_name,label\n,x\n", "line 2: no file name"),
        ("file_name,label\na\0.png,x\n", "line 2: no file name"),
        ("file_name,label,split\na.png,x,holdout\n", "line 2: unknown split: 'holdout'"),
        ('file_name,label\n"a.png,x\nb.png,y\n', "not CSV"),
        ("file_name,label\na.png," + "x" * 200_000 + "\n", "line 2: not CSV: field larger"),
        ("file_name,label\na.png," + "x" * (MAX_LINE + 1) + "\n", "line 2: line too long"),
    ],
)
def test_mistakes_of_csv(folder: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_manifest(csv(folder, text))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2: not JSON"),
        ("[1]", "line 2: not JSON: an object is wanted, this is list"),
        ("[" * 100_000, "line 2: not JSON"),
        ("9" * 5000, "line 2: not JSON"),
        ('{"label": "x"}', "line 2: no file name"),
        ('{"file_name": 3}', "line 2: no file name"),
        (r'{"file_name": "\ud83d.png"}', "line 2: no file name"),
        ('{"file_name": "b.png", "label": 1.5}', "line 2: unusable label"),
        ('{"file_name": "b.png", "label": {"a": 1}}', "line 2: unusable label"),
        ('{"file_name": "b.png", "split": 3}', "line 2: unknown split"),
    ],
)
def test_mistakes_of_jsonl(folder: Path, line: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_manifest(csv(folder, f'{{"file_name": "a.png", "label": "x"}}\n{line}\n', "labels.jsonl"))


def test_all_mistakes_are_counted_and_the_first_are_listed(folder: Path) -> None:
    lines = ["file_name,label", *["../x.png,a"] * 30, "a.png", "b.png,x"]
    with pytest.raises(DataError) as caught:
        read_manifest(csv(folder, "\n".join(lines)))
    first, *listed = str(caught.value).splitlines()
    assert "31 (30 path leaves the folder, 1 wrong number of cells)" in first
    assert len(listed) == SHOWN
    assert listed[0].startswith("  line 2: ")
    assert listed[-1].startswith("  line 21: ")


def test_a_manifest_without_labels_serves_where_none_are_needed(folder: Path) -> None:
    data = read_manifest(csv(folder, "file_name\na.png\nb.png\n"), labelled=False)
    assert data.ids == ("a.png", "b.png")
    assert data.labels.shape == (2, 0)


@pytest.mark.skipif(os.name != "posix", reason="byte names")
def test_a_byte_name_is_reached_through_a_json_escape(folder: Path) -> None:
    (folder / os.fsdecode(b"caf\xe9.png")).write_bytes(b"y")
    data = read_manifest(jsonl(folder, {"file_name": "caf\udce9.png", "label": "x"}))
    assert os.fsencode(data.ids[0]) == b"caf\xe9.png"
    assert data.images.read(0) == b"y"


def test_a_damaged_parquet_file_is_named(folder: Path) -> None:
    path = csv(folder, b"PAR1" + bytes(100) + b"PAR1", "labels.parquet")
    with pytest.raises(DataError, match=r"labels.parquet cannot be read as Parquet"):
        read_manifest(path)


def finer(data: Dataset) -> dict[str, set[str]]:
    assert data.finer is not None
    return {
        i: {data.finer_names[c] for c in row.nonzero()[0]}
        for i, row in zip(data.ids, data.finer, strict=True)
    }


def test_a_column_may_hold_the_finer_label(folder: Path) -> None:
    wanted = {"a.png": {"blue", "grey"}, "b.png": set(), "sub/e.png": {"blue"}}
    table = csv(folder, "file_name,label,kind\nsub/e.png,sky,blue\na.png,sky,grey|blue\nb.png,sea,\n")
    data = read_manifest(table, finer_label="kind")
    assert finer(data) == wanted
    assert data.finer_names == ("blue", "grey")
    assert data.class_names == ("sea", "sky")
    assert data.facts["ignored_columns"] == []
    assert finer(data.select([2, 0])) == {"sub/e.png": {"blue"}, "a.png": {"blue", "grey"}}
    plain = read_manifest(table)
    assert plain.finer is None
    assert plain.facts["ignored_columns"] == ["kind"]
    lines = jsonl(
        folder,
        {"file_name": "a.png", "label": "sky", "kind": ["grey", "blue"]},
        {"file_name": "b.png", "label": "sea"},
        {"file_name": "sub/e.png", "label": "sky", "kind": "blue"},
    )
    assert finer(read_manifest(lines, finer_label="kind")) == wanted
    names = {"file_name": ["a.png", "b.png", "sub/e.png"], "label": ["sky", "sea", "sky"], "other": [1, 2, 3]}
    pq.write_table(pa.table({**names, "kind": ["grey|blue", None, "blue"]}), folder / "rows.parquet")
    assert finer(read_manifest(folder / "rows.parquet", finer_label="kind")) == wanted


def test_a_finer_label_is_checked_like_a_label(folder: Path) -> None:
    with pytest.raises(DataError, match="has no column 'kind' for the finer label, only file_name, label"):
        read_manifest(csv(folder, "file_name,label\na.png,sky\n"), finer_label="kind")
    twice = csv(folder, "file_name,label,kind\na.png,sky,blue\na.png,sky,grey\n")
    with pytest.raises(DataError, match="contradiction"):
        read_manifest(twice, finer_label="kind")
    assert read_manifest(twice).facts["repeated_lines"] == 1
    with pytest.raises(DataError, match="unusable label"):
        read_manifest(jsonl(folder, {"file_name": "a.png", "label": "sky", "kind": 1.5}), finer_label="kind")


# --- tables from elsewhere -------------------------------------------------------------------------------


@pytest.mark.parametrize("mark", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("start", ["", "\ufeff", "sep={mark}{end}"])
@pytest.mark.parametrize("suffix", ["csv", "tsv"])
def test_delimiters_line_ends_and_starts(folder: Path, mark: str, end: str, start: str, suffix: str) -> None:
    lines = ["file_name,label,split", "sub/e.png,sky,val", "a.png,sky|sea,train", "b.png,,query", ""]
    text = start.format(mark=mark, end=end) + end.join(lines).replace(",", mark)
    assert rows(read_manifest(csv(folder, text, f"labels.{suffix}"))) == EXPECTED


def test_a_mistake_keeps_its_line_behind_a_line_for_excel(folder: Path) -> None:
    with pytest.raises(DataError, match="line 3: no file name"):
        read_manifest(csv(folder, "sep=;\nfile_name;label\n ;x\na.png;x\n"))


def test_empty_columns_and_capitals_of_a_spreadsheet(folder: Path) -> None:
    data = read_manifest(csv(folder, ";File_Name;Label;;\n0;a.png;x;;\n1;b.png;y;;\n;;;;\n"))
    assert rows(data) == [("a.png", {"x"}, ""), ("b.png", {"y"}, "")]
    assert data.facts["ignored_columns"] == []


def test_backslashes_are_those_of_windows_unless_they_are_in_the_name(folder: Path) -> None:
    (folder / "odd\\f.png").write_bytes(b"x")
    data = read_manifest(csv(folder, "file_name,label\nsub\\e.png,x\n.\\a.png,x\nodd\\f.png,y\n"))
    assert data.ids == ("a.png", "odd\\f.png", "sub/e.png")
    with pytest.raises(DataError, match="line 3: contradiction"):
        read_manifest(csv(folder, "file_name,label\nsub\\e.png,x\nsub/e.png,y\n"))


@pytest.mark.parametrize(("on_disk", "in_table"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_the_unicode_form_of_a_name_does_not_matter(tmp_path: Path, on_disk: Any, in_table: Any) -> None:
    there, named = (normalize(form, "caf\u00e9/\u00fc\u00df.png") for form in (on_disk, in_table))
    (tmp_path / there).parent.mkdir()
    (tmp_path / there).write_bytes(b"x")
    data = read_manifest(csv(tmp_path, f"file_name,label\n{named},x\n"))
    assert data.ids == (there,)
    (tmp_path / named).parent.mkdir(exist_ok=True)  # both are there: each name means its own
    (tmp_path / named).write_bytes(b"y")
    assert read_manifest(csv(tmp_path, f"file_name,label\n{named},x\n{there},z\n")).ids == tuple(
        sorted((there, named))
    )


def test_whole_numbers_that_became_floats(folder: Path) -> None:
    records = [{"file_name": "a.png", "label": 1.0}, {"file_name": "b.png", "label": float("nan")}]
    data = read_manifest(jsonl(folder, *records, {"file_name": "sub/e.png", "label": 1}))
    assert rows(data) == [("a.png", {"1"}, ""), ("b.png", set(), ""), ("sub/e.png", {"1"}, "")]
