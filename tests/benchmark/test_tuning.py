from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from anglehash.config import TrainConfig
from anglehash.errors import ConfigError, TrainingError
from anglehash.training.fit_head import Labelled
from benchmarks import tuning

ROOT = Path(__file__).parents[2]
DEEP = {"name": "csq", "options": [{"gamma": 0.0}, {"gamma": 0.1}]}
CONVENTIONAL = {"name": "itq", "options": [{}, {"iterations": 10}, {"iterations": 100}]}
RUN: dict[str, Any] = {
    "data": "digits",
    "protocol": "holdout",
    "options": {},
    "split": "ab12",
    "bits": 16,
    "folds": 2,
    "settings": {"epochs": 20},
    "longer": 2,
    "heads": [{"hidden": 0}, {"hidden": 256}],
    "methods": [DEEP, CONVENTIONAL],
}
BASE = {"method": "csq", "preset": "default", "loss": {}}


def scored(score: float, **settings: Any) -> dict[str, Any]:
    return {"settings": settings, "score": score}


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The settings that were trained, in order; a wider head, a larger gamma and more epochs score better."""
    seen: list[dict[str, Any]] = []

    def trial(run: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
        seen.append(settings)
        loss = settings["loss"]
        score = settings.get("hidden", 0) / 1000 + loss.get("gamma", 0) + loss.get("iterations", 0) / 1000
        return {"settings": settings, "score": score + settings.get("epochs", 0) / 1000}

    monkeypatch.setattr(tuning, "trial", trial)
    return seen


def test_an_option_is_of_the_loss_or_of_the_head() -> None:
    settings = {"method": "csq", "hidden": 256, "loss": {"gamma": 1.0, "seed": 1}}
    assert tuning.joined(settings, {"gamma": 0.1, "head": {"dropout": 0.3, "hidden": 0}}) == {
        "method": "csq",
        "hidden": 0,
        "dropout": 0.3,
        "loss": {"gamma": 0.1, "seed": 1},
    }
    assert settings == {"method": "csq", "hidden": 256, "loss": {"gamma": 1.0, "seed": 1}}


def test_the_first_of_equal_trials_is_chosen() -> None:
    trials = [scored(0.4, hidden=0), scored(0.6, hidden=1), scored(0.6, hidden=2), scored(0.5, hidden=3)]
    assert tuning.choose(trials) == {"settings": {"hidden": 1}, "validation_map": 0.6, "trials": 4}


def test_a_trial_that_failed_is_chosen_last() -> None:
    failed = scored(0.0, hidden=0) | {"error": "loss is NaN"}
    assert tuning.choose([failed, scored(0.1, hidden=1)])["settings"] == {"hidden": 1}


def test_a_deep_method_tries_heads_then_options_then_more_epochs(tried: list[dict[str, Any]]) -> None:
    assert tuning.budget(RUN, DEEP) == 2 + 2 + 1
    trials = tuning.tune(RUN, DEEP, [])
    wide = BASE | {"hidden": 256}
    assert tried == [
        BASE | {"hidden": 0},
        wide,
        wide | {"loss": {"gamma": 0.0}},
        wide | {"loss": {"gamma": 0.1}},
        wide | {"loss": {"gamma": 0.1}, "epochs": 40},  # the best so far, twice as long
    ]
    assert tuning.choose(trials)["settings"] == tried[-1]


def test_more_epochs_are_tried_on_a_head_if_no_option_beats_it() -> None:
    trials = [scored(0.7, **BASE, hidden=0), scored(0.5), scored(0.6), scored(0.65)]
    assert tuning.upcoming(RUN, DEEP, trials) == BASE | {"hidden": 0, "epochs": 40}


def test_options_are_tried_on_the_best_head_not_on_the_best_trial() -> None:
    trials = [
        scored(0.7, **BASE, hidden=0),
        scored(0.5, **BASE, hidden=256),
        scored(0.9, loss={"gamma": 0.0}),
    ]
    assert tuning.upcoming(RUN, DEEP, trials) == BASE | {"hidden": 0, "loss": {"gamma": 0.1}}


def test_a_conventional_method_has_its_options_only(tried: list[dict[str, Any]]) -> None:
    assert tuning.budget(RUN, CONVENTIONAL) == 3
    tuning.tune(RUN, CONVENTIONAL, [])
    own = {"method": "itq", "preset": "default"}
    assert tried == [own | {"loss": loss} for loss in CONVENTIONAL["options"]]


def test_a_row_may_be_another_method_with_settings_of_its_own(tried: list[dict[str, Any]]) -> None:
    row = {"name": "itq-10", "method": "itq", "loss": {"iterations": 10}, "options": [{"standardise": True}]}
    assert tuning.budget(RUN, row) == 1
    tuning.tune(RUN, row, [])
    assert tried == [{"method": "itq", "preset": "default", "loss": {"iterations": 10, "standardise": True}}]


def test_finished_trials_of_equal_settings_are_kept(tried: list[dict[str, Any]]) -> None:
    whole = tuning.tune(RUN, DEEP, [])
    tried.clear()
    assert tuning.tune(RUN, DEEP, whole[:3]) == whole
    assert tried == [trial["settings"] for trial in whole[3:]]
    tried.clear()
    assert tuning.tune(RUN, DEEP, [scored(0.99, hidden=7), *whole[1:]]) == whole
    assert tried == [whole[0]["settings"]]


def write(path: Path, run: dict[str, Any], trials: Mapping[str, Sequence[dict[str, Any]]]) -> Path:
    path.write_text(json.dumps({"run": tuning.facts(run), "chosen": {}, "trials": trials}))
    return path


@pytest.mark.usefixtures("tried")
def test_a_stopped_search_goes_on_where_it_was(tmp_path: Path) -> None:
    trials = {"csq": tuning.tune(RUN, DEEP, [])}
    assert tuning.resumed(tmp_path / "none.json", RUN) == ({}, [DEEP, CONVENTIONAL])
    assert tuning.resumed(write(tmp_path / "t.json", RUN, trials), RUN) == (trials, [CONVENTIONAL])


@pytest.mark.usefixtures("tried")
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("data", "mnist"),
        ("protocol", "given"),
        ("options", {"drop_labels": ["person"]}),
        ("split", "cd34"),
        ("bits", 32),
        ("folds", 1),
        ("settings", {"epochs": 5}),
    ],
)
def test_trials_under_other_facts_are_refused(tmp_path: Path, key: str, value: object) -> None:
    path = write(tmp_path / "t.json", RUN, {"csq": tuning.tune(RUN, DEEP, [])})
    with pytest.raises(ConfigError, match=f"{key} is .* there, .* was asked for: choose another") as caught:
        tuning.resumed(path, RUN | {key: value})
    assert "\n" not in str(caught.value)
    assert tuning.resumed(path, RUN | {key: value}, force=True) == ({}, [DEEP, CONVENTIONAL])


CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "head": ({"heads": [{"hidden": 0}, {"hidden": 512}]}, "trial 2 of csq has .*256.* there, .*512.* was"),
    "option": ({"methods": [DEEP | {"options": [{"gamma": 0.0}, {"gamma": 0.2}]}]}, "trial 4 of csq has"),
    "longer": ({"longer": 3}, "trial 5 of csq has .*40.* there, .*60.* was asked for"),
    "fewer": ({"methods": [DEEP | {"options": [{"gamma": 0.0}]}]}, "trial 4 of csq has"),
    "loss": ({"methods": [DEEP | {"loss": {"seed": 1}}]}, "trial 1 of csq has"),
}


@pytest.mark.usefixtures("tried")
@pytest.mark.parametrize("change", CHANGES)
def test_trials_of_another_space_are_refused(tmp_path: Path, change: str) -> None:
    trials = {"csq": tuning.tune(RUN, DEEP, []), "itq": tuning.tune(RUN, CONVENTIONAL, [])}
    path = write(tmp_path / "t.json", RUN, trials)
    space, words = CHANGES[change]
    asked = RUN | space
    with pytest.raises(ConfigError, match=words):
        tuning.resumed(path, asked)
    assert tuning.resumed(path, asked, force=True) == (trials, [asked["methods"][0]])


@pytest.mark.usefixtures("tried")
def test_a_trial_too_many_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "t.json", RUN, {"itq": tuning.tune(RUN, CONVENTIONAL, [])})
    asked = RUN | {"methods": [CONVENTIONAL | {"options": CONVENTIONAL["options"][:2]}]}
    with pytest.raises(ConfigError, match="itq has 3 trials there, 2 were asked for"):
        tuning.resumed(path, asked)


@pytest.mark.usefixtures("tried")
def test_an_older_file_without_a_split_is_resumed_aloud(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trials = {"csq": tuning.tune(RUN, DEEP, [])}
    path = tmp_path / "t.json"
    run = {key: RUN[key] for key in ("data", "protocol", "bits", "folds", "settings")}
    path.write_text(json.dumps({"run": run, "chosen": {}, "trials": trials}))
    assert tuning.resumed(path, RUN) == (trials, [CONVENTIONAL])
    assert "does not say on which split" in capsys.readouterr().err
    with pytest.raises(ConfigError, match=r"options is \{\} there"):
        tuning.resumed(path, RUN | {"options": {"drop_labels": ["person"]}})


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"run": {}, "trials": {"csq": [{"score": 0.5}]}}'])
def test_a_file_of_something_else_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "t.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match="is not a file of this command"):
        tuning.resumed(path, RUN, force=True)


@pytest.mark.parametrize("path", sorted((ROOT / "results" / "tuning").glob("*.json")), ids=lambda p: p.stem)
def test_what_is_recorded_follows_from_the_space(path: Path) -> None:
    kept = json.loads(path.read_text())
    run = tomllib.loads((ROOT / "runs" / "tuning.toml").read_text()) | kept["run"]
    assert tuning.resumed(path, run) == (kept["trials"], [])
    assert kept["chosen"] == {name: tuning.choose(tried) for name, tried in kept["trials"].items()}


@pytest.fixture
def part(monkeypatch: pytest.MonkeyPatch) -> int:
    """Thirty images whose only feature is their row."""
    rows = np.arange(30)
    whole = Labelled(rows[:, None].astype(np.float32), np.eye(2, dtype=bool)[rows % 2])
    monkeypatch.setattr(tuning, "training_part", lambda *_: whole)
    return 30


def test_a_trial_averages_folds_that_never_train(part: int, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[set[int]]] = []
    seeds: list[int] = []

    def learn_head(known: Labelled, config: TrainConfig) -> SimpleNamespace:
        seeds.append(config.seed)
        assert (config.bits, config.epochs, config.likeness) == (16, 20, 0)
        return SimpleNamespace(head=known)

    def map_among(head: Labelled, query: Labelled, database: Labelled) -> float:
        seen.append([set(one.features[:, 0].astype(int)) for one in (head, query, database)])
        assert (query.labels[:, 1] == query.features[:, 0] % 2).all()
        return (0.2, 0.6)[len(seen) - 1]

    monkeypatch.setattr(tuning, "learn_head", learn_head)
    monkeypatch.setattr(tuning, "map_among", map_among)
    found = tuning.trial(RUN, BASE)
    assert (found["settings"], found["score"]) == (BASE, 0.4)
    assert seeds == [0, 1]
    assert [[len(rows) for rows in fold] for fold in seen] == [
        [24, 2, 4]
    ] * 2  # a third of six queries the rest
    assert all(set.union(*fold) == set(range(part)) for fold in seen)
    assert not (seen[0][1] | seen[0][2]) & (seen[1][1] | seen[1][2])


@pytest.mark.usefixtures("part")
def test_a_trial_that_fails_scores_nothing_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def learn_head(*_: object) -> None:
        raise TrainingError("the loss is NaN")

    monkeypatch.setattr(tuning, "learn_head", learn_head)
    assert tuning.trial(RUN, BASE) == {"settings": BASE, "score": 0.0, "error": "the loss is NaN"}


@pytest.mark.usefixtures("part")
def test_a_real_trial_scores_between_0_and_1() -> None:
    score = tuning.trial(RUN, BASE | {"method": "lsh"})["score"]
    assert 0.3 < score <= 1
