from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import numpy as np
import pytest

from anglehash.benchmark.report.leaderboard import Leaderboard
from anglehash.benchmark.report.page import Example, render_benchmark, write_benchmark_report
from anglehash.benchmark.report.plots import charts_of
from anglehash.errors import OutputExistsError
from anglehash.report.figures import Chart
from anglehash.report.html import Markup
from anglehash.report.pictures import Tile

HOSTILE = "<img src=x onerror=alert(1)>\"'&</style></script><script>alert(1)</script>"
CLASSES = ("cat", "dog", "ship")
OTHER_KINDS: list[Any] = [
    None,
    "text",
    3,
    -0.5,
    10**400,
    float("nan"),
    True,
    [],
    [None],
    {},
    {"a": "b"},
    [[{}]],
]


def cell(variant: str, bits: int | None, score: float, **others: Any) -> dict[str, Any]:
    return {
        "variant": variant, "method": variant.casefold(), "kind": "deep", "bits": bits, "seed": 0, "split_seed": 0,
        "bytes": bits and bits / 8, "hash": "77", "map": score, "map_convention": score + 0.001,
        "map_logits": None, "precision_at": {"100": score},
        "precision_recall": [{"radius": r, "precision": 0.8 - r / 50, "recall": r / 32} for r in range(33)],
        "per_class": {name: score + i / 100 for i, name in enumerate(CLASSES)}, "unique_codes": 1234,
        "precision_radius_2": {"value": 0.5, "empty_balls": 0.1}, "train_seconds": 3.2,
        "ndcg": None,
    } | others  # fmt: skip


def result(cells: Iterable[dict[str, Any]]) -> dict[str, Any]:
    cells = list(cells)
    named = {c["variant"]: {"method": c["method"], "kind": c["kind"]} for c in cells}
    return {
        "name": "cifar10-I", "title": "CIFAR-10, protocol I", "notes": ["The JPEG copy."], "cells": cells,
        "run": {"bits": [16, 32]}, "circumstances": {"python": "3.11.2", "versions": {"numpy": "2.1"}},
        "place": {"data": "cifar10", "protocol": "cifar10-I", "backbone": "efficientnet_lite0", "size": 128,
                  "rank_cut": None, "trains_on_database": True, "tie_rule": "exact", "options": {}},
        "splits": [{"seed": 0, "hash": "9f2c", "train": 4500, "validation": 500, "queries": 1000,
                    "database": 59000, "classes": 10, "dropped_queries": 0, "held_out": [], "posterior_map": 0.691,
                    "class_id_map": 0.525, "class_id_bytes": 1}],
        "variants": [{"name": name, **own, "settings": {"epochs": 30, "loss": {"margin": 0.2}},
                      "tuned": {"trials": 16, "validation_map": 0.634}} for name, own in named.items()],
        "published": [{"method": "DPSH", "bits": 48, "map": ".757-.783", "features": "CNN-F", "source": "paper"}],
    }  # fmt: skip


FULL = result(
    [cell(n, b, s + b / 1000 + i / 500, seed=i) for n, s in (("AnDSH", 0.60), ("CSQ", 0.57)) for b in (16, 32)
     for i in range(3)]
    + [cell("AnDSH", 32, 0.66, split_seed=1), cell("ITQ", 32, 0.3, kind="classical", train_seconds=0.1)]
    + [cell("PQ", None, 0.2, kind="baseline", bytes=size, train_seconds=None) for size in (4, 100)]
)  # fmt: skip


MEASURED = {
    **FULL,
    "cells": [
        {**c, "likeness": {"finer_map": 0.4, "distinct_lists": 0.9}} if c["bits"] == 32 else c
        for c in FULL["cells"]
    ],
    "splits": [
        {**FULL["splits"][0], "likeness": {"copies": 300, "finer_queries": 900, "feature_width": 1280,
                                           "references": {"feature_signs": {"map": 0.3, "distinct_lists": 1.0}}}}
    ],
}  # fmt: skip


def read(html: str) -> Element:
    """The page as a strict reader sees it."""
    doctype, _, page = html.partition("\n")
    assert doctype == "<!doctype html>"
    return ElementTree.fromstring(re.sub(r"<(meta|img)( [^>]*)>", r"<\1\2/>", page))


def tile(label: str = "cat", **others: Any) -> Tile:
    return Tile(np.zeros((8, 8, 3), np.uint8), (label,), **others)


def text(root: Element) -> str:
    return "\n".join(root.itertext())


def headings(root: Element) -> list[str]:
    return [text(heading) for heading in root.iter("h2")]


def of_class(root: Element, name: str) -> list[Element]:
    return [element for element in root.iter() if name in element.get("class", "").split()]


def scores(root: Element) -> dict[str, list[str]]:
    """The score table: name of a row -> its cells."""
    (table,) = of_class(root, "scores")
    rows = {text(row[0]): [" ".join(td.itertext()) for td in row[1:]] for row in table.iter("tr")}
    return {name: cells for name, cells in rows.items() if cells}


def test_needs_nothing_else() -> None:
    html = render_benchmark(FULL, [Example(tile(), {"AnDSH": [tile(distance=1, correct=True)]})])
    tags = {element.tag for element in read(html).iter()}
    assert not {"script", "link", "iframe", "object", "base", "form"} & tags
    assert not re.search(r"https?:|//|url\(|@import", re.sub(r"data:image/[^\"]*", "", html))
    assert "default-src &#x27;none&#x27;; style-src &#x27;unsafe-inline&#x27;; img-src data:" in html


def test_every_part_is_there() -> None:
    page = read(render_benchmark(FULL, [Example(tile(), {"AnDSH": []})]))
    assert headings(page) == [
        "mAP by code length", "All scores", "Against what needs no training",
        "Precision and recall at 32 bits", "Seconds to train", "By class at 32 bits",
        "The same queries, asked of several methods", "Published figures", "Settings and circumstances",
        "How to read this",
    ]  # fmt: skip
    said = text(page)
    for fact in (
        "protocol cifar10-I · efficientnet_lite0 · 128 px · 1,000 queries · 59,000 in the database · "
        "4,500 training images · 500 for validation · mAP over all ranks · ties: exact",
        "The JPEG copy.", ".757-.783", "epochs = 30", "loss.margin = 0.2", "0.634", "9f2c", "3.11.2", "numpy 2.1",
    ):  # fmt: skip
        assert fact in said


def test_means_deviations_seeds_and_splits() -> None:
    rows = scores(read(render_benchmark(FULL)))
    # seeds .600 .602 .604 + .016 or .032: mean .618 and .634, deviation .002
    assert rows["AnDSH"] == ["0.618 ± 0.002", "0.634 ± 0.002", "3", "0.632–0.660"]  # splits: first seed
    assert rows["CSQ"] == ["0.588 ± 0.002", "0.604 ± 0.002", "3", ""]
    assert rows["ITQ"] == ["–", "0.300", "1", ""]
    assert rows["PQ"] == ["0.200 4 bytes 0.200 100 bytes", "1", ""]
    assert rows["Class-id code"] == ["0.525 1 byte"]
    assert list(rows) == ["", "AnDSH", "CSQ", "ITQ", "PQ", "Posterior agreement", "Class-id code"]


def test_variants_with_fewer_seeds_are_named() -> None:
    assert "Fewer seeds than the others, so their means and ± are less sure: ITQ (1)." in render_benchmark(
        FULL
    )
    assert "Fewer seeds" not in render_benchmark(result([cell("AnDSH", 32, 0.6), cell("CSQ", 32, 0.5)]))


def test_references_say_what_they_learned_from() -> None:
    (group,) = [th for th in of_class(read(render_benchmark(FULL)), "group") if "References" in text(th)]
    assert text(group) == "References\nlearned from training and validation images"


def test_failed_cells_stand_above_the_headline() -> None:
    failed = [{"variant": "CE", "bits": 32, "seed": 0, "split_seed": 0, "error": "the loss is NaN"}]
    said = text(read(render_benchmark(FULL | {"failed": failed})))
    assert said.index("CE, 32 bits, seed 0, split 0: the loss is NaN") < said.index("Leaders by code length")
    assert of_class(read(render_benchmark(FULL)), "warning") == []


def test_untuned_runs_do_not_speak_of_tuning() -> None:
    untuned = FULL | {"variants": [variant | {"tuned": None} for variant in FULL["variants"]]}
    said = text(read(render_benchmark(untuned)))
    assert "epochs = 30" in said
    assert not re.search("trials|chosen|cross-validation|validation mAP", said)
    assert "2 deep with 16 trials each, 1 conventional with 16 trials" in text(read(render_benchmark(FULL)))


def test_of_draws_the_page_speaks_of_draws() -> None:
    cells = [cell(name, 32, score + 0.1 * draw, draw=draw, per_class={f"class {draw}": score})
             for draw in range(3) for name, score in (("AnDSH", 0.5), ("CSQ", 0.4))]  # fmt: skip
    page = read(render_benchmark(result(cells), [Example(tile(), {})]))
    said = text(page)
    assert scores(page)["AnDSH"] == ["0.600 ± 0.100", "3"]
    (leaders,) = of_class(page, "leaders")
    assert [text(cell) for cell in list(leaders.iter("td"))] == [
        "AnDSH",
        "0.600",
    ]  # in each draw, far within the ±
    assert not re.search("over seeds|over training seeds|first seed|over 3 seeds", said)
    for words in (
        "standard deviation over draws",
        "of the first draw",
        "Of the first draw.",
        "twice its standard error",
    ):
        assert words in said
    (table,) = of_class(page, "heat")
    assert "class 0" in text(table)
    assert "class 1" not in text(table)


def test_of_many_variants_the_highlighted_and_the_best_are_drawn() -> None:
    kinds = ["deep"] * 9 + ["classical"] * 5
    cells = [
        cell(f"v{i:02}", bits, 0.3 + i / 100, kind=kind) for i, kind in enumerate(kinds) for bits in (16, 32)
    ]
    low = [cell("AnDSH", bits, 0.1) for bits in (16, 32)]
    own = result([*low, *cells])
    drawn = charts_of(Leaderboard.of(own, "andsh"), own)
    for name in ("bits", "recall"):
        names = [
            line.name
            for line in drawn[name].lines
            if line.name not in ("posterior agreement", "class-id code")
        ]
        assert names == ["v13", "v12", "v11", "v08", "v07", "v06", "v05", "v04", "v03", "AnDSH"]
    colors = {line.name: line.color for line in drawn["recall"].lines}
    assert [colors[name] for name in ("AnDSH", "v13", "v12", "v11", "v08")] == [
        "accent",
        "c0",
        "c1",
        "c2",
        "faint",
    ]
    plain = charts_of(Leaderboard.of(own), own)["recall"].lines
    assert "accent" not in {line.color for line in plain}
    assert "AnDSH" not in {line.name for line in plain}


def test_the_best_and_all_that_are_level_with_it_are_marked() -> None:
    close = [cell("CSQ", 32, score, seed=i) for i, score in enumerate((0.60, 0.61, 0.62))]
    page = read(render_benchmark(result([cell("AnDSH", 32, 0.615), *close, cell("CE", 32, 0.5)])))
    assert [text(td).split()[0] for td in of_class(page, "best")] == ["0.615", "0.610"]


def test_a_rival_whose_sizes_are_all_columns_stands_in_them() -> None:
    baselines = [cell("PQ", None, 0.2 + size / 100, kind="baseline", bytes=size) for size in (2, 4)]
    rows = scores(
        read(render_benchmark(result([cell("AnDSH", 16, 0.5), cell("AnDSH", 32, 0.6), *baselines])))
    )
    assert rows["PQ"] == ["0.220", "0.240", "1"]


def test_charts_hold_means_deviations_and_references() -> None:
    drawn = charts_of(Leaderboard.of(FULL, "AnDSH"), FULL)
    assert list(drawn) == ["bits", "bytes", "recall"]
    lines = {line.name: line for line in drawn["bits"].lines}
    assert lines["AnDSH"].y == pytest.approx((0.618, 0.634))
    assert lines["AnDSH"].spread == pytest.approx((0.002, 0.002))
    assert lines["posterior agreement"].y == (0.691, 0.691)
    lines = {line.name: line for line in drawn["bytes"].lines}
    assert (lines["PQ"].x, lines["PQ"].y) == ((4, 100), (0.2, 0.2))
    assert (lines["class-id code"].x, lines["class-id code"].y) == ((1,), (0.525,))
    lines = {line.name: line for line in drawn["recall"].lines}
    assert (lines["CSQ"].x[4], lines["CSQ"].y[4]) == pytest.approx((5 / 32, 0.7))
    assert len(list(read(render_benchmark(FULL)).iter("svg"))) == 3


def test_few_classes_are_a_heat_table_easiest_first() -> None:
    page = read(render_benchmark(FULL))
    (table,) = of_class(page, "heat")
    head, first, *_ = table.iter("tr")
    assert [text(th) for th in head][1:] == ["ship", "dog", "cat"]
    assert [td.text for td in first] == ["AnDSH", ".65", ".64", ".63"]  # .634 + 0, .01, .02
    shares = [
        float(str(td.get("style")).removeprefix("--share: ")) for td in table.iter("td") if td.get("style")
    ]
    assert (min(shares), max(shares)) == (0, 1)


def test_of_many_classes_the_spread_is_shown() -> None:
    many = {f"class {i}": i / 40 for i in range(41)}
    page = read(render_benchmark(result([cell("AnDSH", 32, 0.5, per_class=many)])))
    (table,) = of_class(page, "spread")
    _, row = table.iter("tr")
    ends = ["0.000class 0", "0.250", "0.500", "0.750", "1.000class 40"]
    assert ["".join(td.itertext()) for td in row][2:] == ends
    assert of_class(page, "heat") == []


@pytest.mark.parametrize(("slowest", "wide"), [(4.9, False), (5.1, True)])
def test_seconds_that_differ_much_stand_on_a_logarithmic_axis(slowest: float, wide: bool) -> None:
    cells = [cell("a", 32, 0.5, train_seconds=0.1), cell("b", 32, 0.5, train_seconds=slowest)]
    page = read(render_benchmark(result(cells)))
    assert bool(of_class(page, "dots")) is wide
    bars = [str(span.get("style")) for td in of_class(page, "bar") for span in td]
    if wide:  # .1 to 10 s: two decades, log10(51) = 1.708
        assert bars == ["--share: 0.0%", "--share: 85.4%"]
        assert [text(span) for span in of_class(page, "steps")[0].iter("span")] == ["0.1 s", "1 s", "10 s"]
    else:
        assert bars == ["--share: 2.0%", "--share: 100.0%"]


def test_right_and_wrong_differ_by_more_than_color() -> None:
    answers = {
        "AnDSH": [tile(distance=0, correct=True), tile("dog", distance=3, correct=False)],
        "CSQ": [tile(distance=1, correct=True), tile(distance=1, correct=None)],
    }
    page = read(render_benchmark({}, [Example(tile(), answers)]))
    assert [mark.text for mark in of_class(page, "mark") if mark.text] == ["✓", "✗", "✓"]
    spoken = [str(img.get("alt")) for img in page.iter("img")]
    assert spoken == [
        "query: cat",
        "right answer: cat",
        "wrong answer: dog",
        "right answer: cat",
        "answer: cat",
    ]
    assert [text(name).split("\n") for name in of_class(page, "by")] == [
        ["AnDSH", "1 of 2 right"],
        ["CSQ"],
    ]


def test_hostile_text_stays_text() -> None:
    def spoil(value: Any) -> Any:
        if isinstance(value, dict):
            return {HOSTILE if key in CLASSES else key: spoil(own) for key, own in value.items()}
        if isinstance(value, list):
            return [spoil(own) for own in value]
        return HOSTILE if isinstance(value, str) and value not in ("deep", "baseline", "classical") else value

    html = render_benchmark(spoil(FULL), [Example(tile(HOSTILE), {HOSTILE: [tile(HOSTILE, id=HOSTILE)]})])
    page = read(html)
    assert "script" not in {element.tag for element in page.iter()}
    assert not [name for element in page.iter() for name in element.attrib if name.startswith("on")]
    assert len(list(page.iter("img"))) == 2
    assert HOSTILE in text(page)


@pytest.fixture
def _not_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Charts are checked, and not drawn, which takes a tenth of a second each."""

    def inline(chart: Chart) -> Markup:
        for line in chart.lines:
            assert len(line.x) == len(line.y)
            assert np.isfinite([*line.x, *line.y, *line.spread]).all()
        assert all(x > 0 for line in chart.lines for x in line.x) or not chart.base
        return Markup('<svg role="img"/>')

    monkeypatch.setattr("anglehash.report.figures.inline", inline)


@pytest.mark.usefixtures("_not_drawn")
@pytest.mark.parametrize("key", FULL)
def test_any_key_may_be_missing_or_of_another_kind(key: str) -> None:
    rest = {name: value for name, value in FULL.items() if name != key}
    read(render_benchmark(rest))
    for value in OTHER_KINDS:
        read(render_benchmark(rest | {key: value}))


@pytest.mark.usefixtures("_not_drawn")
@pytest.mark.parametrize("where", ["cells", "splits", "variants", "published", "place"])
def test_so_may_any_key_inside(where: str) -> None:
    inside = FULL[where] if where == "place" else FULL[where][0]
    for key in inside:
        for value in [*OTHER_KINDS, KeyError]:
            changed = {name: own for name, own in inside.items() if name != key}
            changed |= {} if value is KeyError else {key: value}
            read(
                render_benchmark(FULL | {where: changed if where == "place" else [changed, *FULL[where][1:]]})
            )


@pytest.mark.usefixtures("_not_drawn")
@pytest.mark.parametrize("value", OTHER_KINDS)
def test_draws_and_failures_may_be_of_another_kind(value: Any) -> None:
    cells = [cell("AnDSH", 32, 0.5, draw=value), cell("AnDSH", 32, 0.6, draw=1), cell("CSQ", 32, 0.6, draw=0)]
    failed = [{"variant": value, "bits": value, "seed": value, "split_seed": value, "error": value}, value]
    splits = [{"seed": 0, "options": value}, {"seed": 0, "options": {"draw": value}}]
    read(render_benchmark(result(cells) | {"failed": failed, "splits": splits}))


def test_parts_without_anything_to_show_are_left_out() -> None:
    page = read(render_benchmark({}))
    assert headings(page) == ["How to read this"]
    assert not list(page.iter("svg"))
    only = {"cells": [{"variant": "AnDSH", "bits": 32, "map": 0.5}]}  # one length: nothing grows
    assert headings(read(render_benchmark(only))) == ["mAP by code length", "All scores", "How to read this"]
    assert "Seconds to train" not in render_benchmark(only)


def test_one_cell() -> None:
    page = read(render_benchmark(result([cell("AnDSH", 32, 0.6)]), highlight="AnDSH"))
    assert "1 of 1 · best" in text(page)
    assert scores(page)["AnDSH"] == ["0.600", "1"]


def test_writes_one_file_and_keeps_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_benchmark_report(path, FULL | {"title": "\udcff é"})
    before = path.read_bytes()
    assert "� é" in before.decode()
    with pytest.raises(OutputExistsError):
        write_benchmark_report(path, {})
    assert path.read_bytes() == before
    write_benchmark_report(path, {}, force=True)
    assert path.read_bytes() != before
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


@pytest.mark.usefixtures("_not_drawn")
def test_likeness_is_shown_where_it_was_measured() -> None:
    assert "Likeness" not in headings(read(render_benchmark(FULL)))
    page = read(render_benchmark(MEASURED))
    assert "Likeness" in headings(page)
    (table,) = [t for t in page.iter("table") if "finer mAP" in text(t)]
    rows = [[text(cell) for cell in row] for row in table.iter("tr")]
    assert rows[0] == ["", "class mAP", "finer mAP", "distinct lists"]
    assert [row[0] for row in rows[1:]] == ["AnDSH", "CSQ", "ITQ", "1,280 signs"]
    assert rows[-1] == ["1,280 signs", "0.300", "–", "1.000"]
    assert "300 copies, 900 queries with a finer label" in text(page)
    for value in OTHER_KINDS:
        cells = [{**c, "likeness": value} for c in FULL["cells"]]
        for own in (
            value,
            {"references": value},
            {"references": {"feature_signs": value}, "feature_width": value},
        ):
            read(render_benchmark({**FULL, "cells": cells, "splits": [{"seed": 0, "likeness": own}]}))
            splits = [{"seed": 0, "likeness": own}]
            read(render_benchmark({**MEASURED, "splits": splits}))
