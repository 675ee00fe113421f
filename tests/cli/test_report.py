from __future__ import annotations

import functools
import json
import math
import re
from base64 import b64decode
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from anglehash.codes import pack
from anglehash.errors import OutputExistsError
from anglehash.evaluation.evaluate import Outputs, evaluate
from anglehash.report import figures
from anglehash.report.evaluation import render, write_report
from anglehash.report.pictures import Row, Tile
from anglehash.report.sections import charts_of

HOSTILE = "<img src=x onerror=alert(1)>\"'&</style></script><script>alert(1)</script>"
inline = functools.cache(figures.inline)
VOID = {"meta", "img"}

RESULT: dict[str, Any] = {
    "method": "andsh", "bits": 32, "protocol": "cifar10-I", "split_hash": "9f2c", "split_seed": 0, "seed": 1,
    "backbone": "efficientnet_lite0", "size": 128, "dataset": "cifar10", "rank_cut": None,
    "map": 0.58124, "map_convention": 0.5831, "map_logits": 0.6023, "class_id_map": 0.525, "posterior_map": 0.689,
    "map_at": {"all": 0.58124, "5000": 0.6112},
    "precision_at": {"1": 0.71, "10": 0.695, "100": 0.67},
    "recall_at": {"1": 0.001, "10": 0.015, "100": 0.13},
    "precision_recall": [{"radius": r, "precision": 0.8 - r / 50, "recall": r / 32} for r in range(33)],
    "precision_radius_2": {"value": 0.612, "empty_balls": 0.034},
    "per_class": {"cat": 0.33, "ship": 0.77, "deer": 0.49, "unasked": None},
    "bit_balance": {"min": 0.123, "mean": 0.482, "max": 0.911},
    "class_codes": {"mean": 17.12, "std": 1.42, "min": 13},
    "unique_codes": 18211, "queries": 1000, "database": 59000, "dropped_queries": 12, "seconds": 3.2817,
    "acg": None, "ndcg": None, "wap": None,
}  # fmt: skip

OTHER_KINDS: list[Any] = [
    None, "text", 3, -0.5, 10**400, math.nan, math.inf, True, [], [None], {}, {"a": "b"}, [[{}]],
]  # fmt: skip


class Page(HTMLParser):
    """A page as a browser reads it; elements that are not closed in order fail."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.cells: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.cells:
            self.cells[-1] += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self) -> str:
        return "\n".join(self.cells)


def tile(side: int = 8, label: str = "cat", **others: Any) -> Tile:
    pixels = np.random.default_rng(side).integers(0, 256, (side, side, 3), dtype=np.uint8)
    return Tile(pixels, (label,), **others)


def rows(label: str = "cat") -> list[Row]:
    answers = [
        tile(distance=d, correct=c, label=label, id=label) for d, c in ((0, True), (3, False), (1, None))
    ]
    return [Row(tile(label=label, id=label), answers)]


def test_needs_nothing_else() -> None:
    html = render(RESULT, rows())
    page = Page(html)
    assert html.startswith("<!doctype html>")
    assert not {"script", "link", "iframe", "object", "base", "form"} & {tag for tag, _ in page.elements}
    assert not re.search(r"https?:|//|url\(|@import", re.sub(r"data:image/[^\"]*", "", html))
    (policy,) = [m["content"] for m in page.all("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def test_states_the_figures() -> None:
    text = Page(render(RESULT)).text
    for figure in ("0.581", "0.583", "0.602", "0.525", "0.689", "0.612"):
        assert figure in text
    for fact in (
        "cifar10-I",
        "32-bit codes · andsh · efficientnet_lite0 · 128 px",
        "9f2c",
        "1,000",
        "59,000",
    ):
        assert fact in text
    assert "30.9% of the database" in text  # 18211 / 59000
    assert "3.4% found nothing" in text
    assert "12 more were dropped" in text
    assert "all 0.5812, 5000 0.6112" in text
    assert "Between 12.3% and 91.1% of the database have a 1 in a bit, 48.2% on average." in text
    assert "differ in 17.1 bits on average (standard deviation 1.4), and in 13 at least." in text
    assert "over all ranks" in text
    assert "over the first 5,000 ranks" in Page(render(RESULT | {"rank_cut": 5000})).text


def test_undefined_is_a_dash_not_a_zero() -> None:
    whole, without = render(RESULT), render(RESULT | {"posterior_map": None, "class_id_map": None})
    assert without.count("<td>–</td>") == whole.count("<td>–</td>") + 2


def test_bars_are_as_long_as_their_values() -> None:
    bars = [span["style"] for span in Page(render(RESULT)).all("span") if span.get("style")]
    ladder, classes = bars[:5], bars[5:]
    assert ladder == [f"--share: {share}%" for share in (58.1, 58.3, 60.2, 52.5, 68.9)]
    assert classes == [f"--share: {share}%" for share in ("77.0", "49.0", "33.0", "0.0")]


def test_few_classes_stand_best_first() -> None:
    text = Page(render(RESULT)).text
    order = [text.index(name) for name in ("ship", "deer", "cat", "unasked")]
    assert order == sorted(order)


def test_of_many_classes_the_best_and_the_worst_stand_first() -> None:
    scores = {f"class{i:02}": i / 100 for i in range(60)} | {"unasked": None}
    html = render(RESULT | {"per_class": scores})
    shown, folded = html.split("All 61 classes")
    assert re.findall(r"class\d\d", shown) == [f"class{i:02}" for i in (*range(59, 47, -1), *range(12))]
    assert re.findall(r"class\d\d", folded)[:60] == [f"class{i:02}" for i in range(59, -1, -1)]
    assert "unasked" not in shown


def test_charts_have_their_numbers_in_tables() -> None:
    page = Page(render(RESULT))
    assert len(page.all("svg")) == 2
    assert [svg["role"] for svg in page.all("svg")] == ["img", "img"]
    radii, ranks = charts_of(RESULT)
    assert (radii.lines[0].x[2], radii.lines[0].y[2]) == (2 / 32, 0.76)
    assert {line.name: line.y[0] for line in ranks.lines} == {"precision": 0.71, "recall": 0.001}
    for cell in ("0.695", "0.015", "0.760"):
        assert cell in page.cells


def test_ranks_are_in_order_of_number_not_of_text() -> None:
    page = Page(render({"precision_at": {"1000": 0.1, "5": 0.3, "20": 0.2, "all": 9}}))
    assert [cell for cell in page.cells if re.fullmatch(r"[\d,]+", cell)][-3:] == ["5", "20", "1,000"]


def test_acg_is_a_number_of_labels_and_not_in_the_chart() -> None:
    page = Page(render({"acg": {"10": 1.7}, "ndcg": {"10": 0.6}}))
    assert "1.700" in page.cells
    (chart,) = charts_of({"acg": {"10": 1.7}, "ndcg": {"10": 0.6}})
    assert [line.name for line in chart.lines] == ["NDCG"]


def test_hostile_text_stays_text() -> None:
    hostile: Any = {
        key: HOSTILE if isinstance(value, str) or value is None else value for key, value in RESULT.items()
    }
    hostile |= {"per_class": {HOSTILE: 0.5}, HOSTILE: HOSTILE, "map_at": {HOSTILE: HOSTILE}}
    html = render(hostile, rows(HOSTILE))
    page = Page(html)
    assert "script" not in {tag for tag, _ in page.elements}
    assert len(page.all("img")) == 4
    assert len(page.all("style")) == 1
    attributes = {name for _, own in page.elements for name in own}
    assert not {name for name in attributes if name.startswith("on")}
    assert all(str(img["src"]).startswith("data:image/") for img in page.all("img"))
    assert HOSTILE in page.text


def test_pictures_say_what_they_show() -> None:
    page = Page(render(RESULT, rows()))
    spoken = [img["alt"] for img in page.all("img")]
    assert spoken == ["query: cat", "right answer: cat", "wrong answer: cat", "answer: cat"]
    assert [f["class"] for f in page.all("figure") if f.get("class") != "plot"] == [
        "query",
        "right",
        "wrong",
        "answer",
    ]
    assert [mark for mark in page.cells if mark in {"✓", "✗"}] == ["✓", "✗"]
    assert [c for c in page.cells if re.fullmatch(r"\d bits?", c)] == ["0 bits", "3 bits", "1 bit"]


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 3), (80, 20, 3)])
def test_small_scans_are_kept_exactly(shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    (image,) = Page(render({}, [Row(Tile(pixels), [])])).all("img")
    kind, _, data = str(image["src"]).partition(";base64,")
    assert (kind, image["class"]) == ("data:image/png", "scan")
    with Image.open(BytesIO(b64decode(data))) as decoded:
        assert np.array_equal(np.asarray(decoded), pixels)


@pytest.mark.parametrize(("side", "kept"), [(112, 112), (600, 160)])
def test_photos_are_shrunk_and_never_enlarged(side: int, kept: int) -> None:
    (image,) = Page(render({}, [Row(tile(side), [])])).all("img")
    kind, _, data = str(image["src"]).partition(";base64,")
    assert kind == "data:image/jpeg"
    with Image.open(BytesIO(b64decode(data))) as decoded:
        assert decoded.size == (kept, kept)


def test_tables_can_be_read_out() -> None:
    page = Page(render(RESULT))
    assert len(page.all("caption")) == len(page.all("table")) == 4
    assert {th.get("scope") for th in page.all("th")} == {"row", "col"}
    assert page.all("html") == [{"lang": "en"}]
    assert len(page.all("h1")) == len(page.all("main")) == 1


@pytest.fixture(autouse=True)
def _drawn_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "inline", inline)


@pytest.mark.parametrize("key", RESULT)
def test_any_key_may_be_missing_or_of_another_kind(key: str) -> None:
    rest = {name: value for name, value in RESULT.items() if name != key}
    Page(render(rest))
    for value in OTHER_KINDS:
        Page(render(rest | {key: value}))


def test_an_empty_result_still_gives_a_page() -> None:
    page = Page(render({}))
    assert page.all("table") == page.all("svg") == []
    assert "How to read this" in page.text


def test_the_whole_result_is_there_as_json() -> None:
    result = RESULT | {"a new key": 7, "protocol": HOSTILE}
    html = render(result)
    text = "".join(re.findall(r"<pre[^>]*>(.*?)</pre>", html, flags=re.DOTALL))
    assert json.loads(Page(f"<p>{text}</p>").cells[0]) == result
    assert "a new key" in Page(html).cells


def test_draws_what_evaluate_returns() -> None:
    rng = np.random.default_rng(0)
    labels = np.eye(3, dtype=np.bool_)[np.arange(30) % 3]
    logits = rng.normal(size=(30, 16)).astype(np.float32)
    part = Outputs(codes=pack(logits), features=logits, labels=labels, posterior=labels.astype(np.float32))
    result = evaluate(part, part, bits=16, class_names=("cat", "dog", "owl")).to_dict()
    page = Page(render(result))
    bars = [span for span in page.all("span") if span.get("style")]
    assert len(bars) == 6 + 3  # all of the ladder, and the classes
    assert len(page.all("svg")) == 2
    assert "Balance of the bits" in page.text
    assert "–" not in page.cells


def test_writes_one_file_and_keeps_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_report(path, RESULT | {"protocol": "\udcff é"}, rows("\ud800"))
    assert "� é" in path.read_text(encoding="utf-8")
    before = path.read_bytes()
    with pytest.raises(OutputExistsError):
        write_report(path, {})
    assert path.read_bytes() == before
    write_report(path, {}, force=True)
    assert path.read_bytes() != before
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_likeness_stands_beside_its_references() -> None:
    references = {"float_cosine": {"map": 0.4, "finer_map": 0.3}, "right_class_random": {"map": 1.0}}
    likeness = {"finer_map": 0.35, "distinct_lists": 0.9, "copies": 300, "references": references}
    html = render({**RESULT, "likeness": likeness})
    for words in ("Likeness", "finer mAP", "float cosine", "right class, random inside", "300 copies"):
        assert words in html
    assert "<h2>Likeness</h2>" not in render(RESULT)
    for value in OTHER_KINDS:
        render({**RESULT, "likeness": value})
        render({**RESULT, "likeness": {"finer_map": value, "references": value, "feature_width": value}})
        render({**RESULT, "likeness": {"distinct_lists": 0.5, "references": {"a": value}}})
