from __future__ import annotations

from typing import Any

from anglehash.benchmark.report.leaderboard import Leaderboard
from anglehash.benchmark.report.notes import how_to_read, tuning_words


def variant(name: str, trials: object = None, kind: str = "deep") -> dict[str, Any]:
    tuned = None if trials is None else {"trials": trials, "validation_map": 0.6}
    return {"name": name, "method": name, "kind": kind, "tuned": tuned}


def words(*variants: dict[str, Any], **others: Any) -> str:
    result = {"variants": list(variants), **others}
    return tuning_words(Leaderboard.of(result), result)


def test_tells_the_budget_of_each_kind() -> None:
    deep = [variant(name, 15) for name in ("andsh", "csq")]
    shallow = [variant("itq", 8, "classical"), variant("lsh", 4, "classical")]
    assert words(*deep, *shallow) == (
        "The settings of 4 variants were chosen by cross-validation inside the training part, never on queries: "
        "2 deep with 15 trials each, 2 conventional with up to 8 trials."
    )
    assert words(variant("andsh", 1)).endswith(": 1 deep with 1 trial.")


def test_names_what_was_not_tuned() -> None:
    found = words(
        variant("andsh", 15),
        variant("csq"),
        variant("itq", None, "classical"),
        variant("pq", None, "baseline"),
    )
    assert found.endswith("1 deep with 15 trials. Not tuned, settings as given in the run file: csq, itq.")


def test_says_nothing_of_tuning_where_none_was() -> None:
    result = {"variants": [variant("andsh"), variant("csq", 0), variant("dpn", "many")]}
    assert tuning_words(Leaderboard.of(result), result) == ""
    said = " ".join(how_to_read(Leaderboard.of(result), result).values())
    assert not {"trials", "cross-validation", "tuned"} & set(said.replace(".", " ").split())


def test_classes_kept_out_of_training_may_have_been_known_to_the_tuning() -> None:
    found = words(variant("andsh", 15), splits=[{"seed": 0, "held_out": ["cat"]}])
    assert "never on queries" not in found
    assert "inside the training part of the run that tuned them" in found


def test_the_rule_of_what_is_level_is_that_of_the_page() -> None:
    seeds: dict[str, Any] = {"cells": [{"variant": "a", "bits": 32, "map": 0.5}]}
    draws: dict[str, Any] = {"cells": [{"variant": "a", "bits": 32, "map": 0.5, "draw": 0}]}
    assert "larger of their two deviations" in how_to_read(Leaderboard.of(seeds), seeds)["± and level"]
    rule = how_to_read(Leaderboard.of(draws), draws)["± and level"]
    assert "twice its standard error" in rule
    assert "training seeds" not in rule


def test_what_all_methods_share() -> None:
    frozen = how_to_read(Leaderboard.of({}), {})["One harness"]
    learned = how_to_read(Leaderboard.of({}), {"place": {"fine_tuned": True}})["One harness"]
    assert frozen.startswith("All methods see the same features,")
    assert learned.startswith("All methods see the same images,")
