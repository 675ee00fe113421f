from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from anglehash.errors import DataError
from benchmarks.tables import MARKED, filled, tables

SPLIT = {
    "seed": 0,
    "hash": "0123456789abcdef",
    "queries": 1000,
    "database": 59000,
    "train": 4500,
    "validation": 500,
    "dropped_queries": 0,
    "posterior_map": 0.6912,
    "class_id_map": 0.525,
}


def cell(variant: str, bits: int | None, score: float, seed: int = 0, **others: Any) -> dict[str, Any]:
    own = {"variant": variant, "method": variant, "kind": "deep", "bits": bits, "map": score}
    return own | {"seed": seed, "split_seed": 0} | others


def rows(*cells: dict[str, Any], cut: str | None = None, key: str = "map", **others: Any) -> list[list[str]]:
    """The cells of each line of a table; a line of text is a single one."""
    text = tables({"name": "x", "splits": [SPLIT], "cells": list(cells), **others}, cut, key)
    lines = [line for line in text.splitlines() if line and "---" not in line]
    return [line.removeprefix("| ").removesuffix(" |").split(" | ") for line in lines]


def test_mean_and_deviation_by_length_the_best_first() -> None:
    # ce: mean .5, sample deviation sqrt(.02 / 2) = .1; seconds 1, 2, 9: median 2
    found = rows(
        *(cell("ce", 32, 0.4 + seed / 10, seed, train_cpu_seconds=(1, 2, 9)[seed]) for seed in range(3)),
        cell("csq", 32, 0.6),
    )
    assert found[:3] == [["method", "32", "CPU s"], ["csq", ".600", "-"], ["ce", ".500 ± .100", "2.0"]]


def test_a_length_that_a_variant_lacks_is_a_dash() -> None:
    """It has lengths of its own, or its cells failed."""
    found = rows(
        cell("ce", 16, 0.3, train_cpu_seconds=1.0),
        cell("ce", 32, 0.4, train_cpu_seconds=2.0),
        cell("ce", 64, 0.5, train_cpu_seconds=3.0),
        cell("csq", 64, 0.6, train_cpu_seconds=4.0),
    )
    assert found[:3] == [
        ["method", "16", "32", "64", "CPU s"],
        ["csq", "-", "-", ".600", "-"],
        ["ce", ".300", ".400", ".500", "2.0"],
    ]


def test_a_variant_that_the_first_split_lacks_is_left_out() -> None:
    found = rows(cell("ce", 32, 0.5), cell("csq", 32, 0.9, split_seed=1))
    assert [row[0] for row in found] == ["method", "ce", found[-1][0]]


def test_the_range_over_splits_is_of_the_first_seed() -> None:
    found = rows(
        cell("ce", 32, 0.5, 0),
        cell("ce", 32, 0.9, 1),
        cell("ce", 32, 0.45, 0, split_seed=1),
        cell("csq", 32, 0.6),
    )
    assert found[0] == ["method", "32", "splits", "CPU s"]
    assert found[1:3] == [["ce", ".700 ± .283", ".450-.500", "-"], ["csq", ".600", "-", "-"]]


def test_draws_count_not_their_seeds() -> None:
    # draws (.3 + .5) / 2 = .4 and .6: mean .5, deviation .141; pooled cells would give .467 ± .153
    found = rows(
        cell("ce", 32, 0.3, 0, draw=0), cell("ce", 32, 0.5, 1, draw=0), cell("ce", 32, 0.6, 0, draw=1)
    )
    assert found[1] == ["ce", ".500 ± .141", "-"]


def test_untrained_baselines_stand_by_their_bytes() -> None:
    found = rows(
        cell("ce", 32, 0.5),
        cell("pq", None, 0.3, kind="baseline", bytes=8),
        cell("float", None, 0.31, kind="baseline", bytes=5120),
    )
    assert found[2:5] == [
        ["untrained, bytes an item", "8", "5,120"],
        ["pq", ".300", ""],
        ["float", "", ".310"],
    ]


def test_another_number_and_a_cut() -> None:
    both = [
        cell("ce", 32, 0.5, map_logits=0.7, map_at={"100": 0.8}),
        cell("float", None, 0.3, kind="baseline", bytes=5120, map_at={"100": 0.4}),
    ]
    assert rows(*both, key="map_logits")[1] == ["ce", ".700", "-"]
    assert not any(row[0] == "float" for row in rows(*both, key="map_logits"))  # it has none
    found = rows(*both, cut="100")
    assert (found[1], found[3]) == (["ce", ".800", "-"], ["float", ".400"])
    with pytest.raises(DataError, match="no cell has map_at 7"):
        rows(*both, cut="7")


def test_the_last_line_says_what_the_table_is_held_against() -> None:
    (line,) = rows(cell("ce", 32, 0.5), failed=[{"variant": "csq", "bits": 32}])[-1]
    assert line == (
        "Class-id code .525, posterior agreement .691; 1,000 queries, 59,000 database images, 4,500 training and "
        "500 validation images, 0 queries dropped; split 0123456789ab. Cells that failed and are missing here: 1."
    )
    unknown = [SPLIT | {"posterior_map": None, "class_id_map": None}]
    assert rows(cell("ce", 32, 0.5), splits=unknown)[-1][0].startswith("1,000 queries")


def on_splits(name: str, bits: int, *scores: float) -> list[dict[str, Any]]:
    """Two seeds on each of some splits."""
    return [cell(name, bits, score, i % 2, split_seed=i // 2) for i, score in enumerate(scores)]


def test_the_lead_is_taken_split_by_split() -> None:
    found = rows(
        *on_splits("posterior", 16, 0.60, 0.62, 0.50, 0.52),  # splits .61, .51
        *on_splits("posterior", 32, 0.70, 0.70, 0.60, 0.60),
        *on_splits("csq", 16, 0.55, 0.57, 0.46, 0.50),  # .56, .48: .05 and .03 behind, deviation .0141
        *on_splits("csq", 32, 0.61, 0.61, 0.53, 0.53),  # to our 16 bits 0 and -.02
        *on_splits("ce", 16, 0.50, 0.60, 0.40, 0.42),  # .55, .41: .06 and .10, mean .08, deviation .0283
        *on_splits("ce", 32, 0.5, 0.5),  # of one split: no pair
        cell("pq", None, 0.99, kind="baseline", bytes=2),
        cell("csq", 64, 0.99),
        key="leads",
    )
    assert found == [
        ["bits", "16", "32"],
        ["posterior, mean of the splits", ".560", ".650"],
        ["best peer", "csq .520", "csq .570"],
        ["ahead by", "+0.0400 ± 0.0100", "+0.0800 ± 0.0100"],
        ["best peer of twice the length", "csq .570", "-"],
        ["ahead by", "-0.0100 ± 0.0100", "-"],
        ["least lead over a peer, in standard errors", "4.0", "8.0"],  # ce at 16: .08 / .02
    ]


@pytest.mark.parametrize("other", [[], on_splits("csq", 16, 0.5, 0.5), on_splits("csq", 32, 0.5, 0.5, 0.5)])
def test_a_lead_wants_a_peer_on_two_splits(other: list[dict[str, Any]]) -> None:
    with pytest.raises(DataError, match="no length was measured on two splits"):
        rows(*on_splits("posterior", 16, 0.6, 0.6, 0.6), *other, key="leads")
    with pytest.raises(DataError, match="no length was measured on two splits"):
        rows(*on_splits("csq", 16, 0.6, 0.6, 0.6), *other, key="leads")  # none is ours


def test_measures_of_likeness_stand_above_their_references() -> None:
    def measured(variant: str, seed: int, lists: float, **others: Any) -> dict[str, Any]:
        likeness = {"finer_map": None, "distinct_lists": lists, "self_retrieval": 0.5}
        return cell(variant, 64, 0.5 + lists / 10, seed, likeness=likeness) | others

    references = {"float_cosine": {"map": 0.4, "distinct_lists": 1.0}, "feature_signs": {"map": 0.3}}
    split = {**SPLIT, "likeness": {"feature_width": 1280, "references": references}}
    found = rows(
        measured("ce", 0, 0.2), measured("ce", 1, 0.4), measured("csq", 0, 0.9), cell("dsh", 64, 0.7),
        measured("ce", 0, 0.9, split_seed=1), measured("ce", 0, 0.9, bits=16, likeness={}),
        key="likeness", splits=[split],
    )  # fmt: skip
    assert found == [
        ["64 bits", "class mAP", "distinct lists", "self-retrieval"],
        ["csq", ".590", ".900", ".500"],
        ["ce", ".530", ".300", ".500"],  # means over two seeds
        ["float cosine", ".400", "1.000", "-"],
        ["1,280 signs", ".300", "-", "-"],
    ]
    with pytest.raises(DataError, match="no cell has measures of likeness"):
        rows(cell("ce", 64, 0.5), key="likeness")


def test_a_document_is_filled_between_its_marks_only(tmp_path: Path) -> None:
    (tmp_path / "results" / "small").mkdir(parents=True)
    result = {"name": "small", "splits": [SPLIT], "cells": [cell("ce", 32, 0.5, map_logits=0.75)]}
    (tmp_path / "results" / "small" / "result.json").write_text(json.dumps(result))
    text = "before\n<!-- results/small map_logits -->\nold\n<!-- end -->\nafter <!-- end -->\n"
    found = filled(text, tmp_path)
    assert found.startswith("before\n<!-- results/small map_logits -->\n\n| method | 32 | CPU s |\n")
    assert "| ce | .750 | - |" in found
    assert "old" not in found
    assert found.endswith("\n\n<!-- end -->\nafter <!-- end -->\n")
    assert filled(found, tmp_path) == found
    with pytest.raises(DataError, match=r"absent.result\.json is not there"):
        filled(text.replace("small", "absent"), tmp_path)


def test_the_tables_of_the_documentation_are_those_of_the_recorded_results() -> None:
    root = Path(__file__).parents[2]
    text = (root / "docs" / "results.md").read_text(encoding="utf-8")
    assert len(MARKED.findall(text)) >= 5
    assert filled(text, root) == text
