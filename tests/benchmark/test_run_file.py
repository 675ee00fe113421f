from __future__ import annotations

import json
from pathlib import Path

import pytest

from anglehash.benchmark import run_file as run_module
from anglehash.benchmark.circumstances import variants_of
from anglehash.benchmark.run_file import Run
from anglehash.errors import ConfigError
from anglehash.methods.catalogue import default_options

SMALL = """
data = "digits"
protocol = "holdout"
bits = [8, 16]
seeds = [0, 1]
methods = ["andsh", "itq"]
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "small.toml"
    path.write_text(text)
    return path


def test_cells_are_variants_by_bits_by_seeds(tmp_path: Path) -> None:
    run = Run.from_toml(written(tmp_path, SMALL))
    cells = list(run.cells())
    assert run.name == "small"
    assert [(c.variant, c.kind, c.bits, c.seed) for c in cells] == [
        (variant, kind, bits, seed)
        for variant, kind in (("andsh", "deep"), ("itq", "classical"))
        for bits in (8, 16)
        for seed in (0, 1)
    ]
    assert len({cell.hash for cell in cells}) == len(cells)


def test_other_splits_have_their_own_seeds_and_lengths(tmp_path: Path) -> None:
    run = Run.from_toml(written(tmp_path, SMALL + "split_seeds = [0, 5]\nother_bits = [16]\n"))
    others = [cell for cell in run.cells() if cell.split_spec.split_seed == 5]
    assert [(c.variant, c.bits, c.seed) for c in others] == [("andsh", 16, 0), ("itq", 16, 0)]


def test_draws_are_splits_of_their_own(tmp_path: Path) -> None:
    text = SMALL.replace("holdout", "unseen") + "draws = [0, 3]\n"
    split_specs = Run.from_toml(written(tmp_path, text)).split_specs()
    assert [split_spec.options for split_spec in split_specs] == [{"draw": 0}, {"draw": 3}]


def test_baselines_have_sizes_where_they_can_be_chosen(tmp_path: Path) -> None:
    run = Run.from_toml(written(tmp_path, SMALL + 'baselines = ["float", "pq"]\nbaseline_bytes = [2, 4]\n'))
    baselines = [(c.variant, c.bytes_asked, c.seed) for c in run.cells() if c.kind == "baseline"]
    assert baselines == [("float", None, 0), ("pq", 2, 0), ("pq", 2, 1), ("pq", 4, 0), ("pq", 4, 1)]


def test_the_hash_tells_every_setting_and_nothing_else(tmp_path: Path) -> None:
    def hashes(text: str, kind: str = "deep shallow") -> set[str]:
        return {c.hash for c in Run.from_toml(written(tmp_path, text)).cells() if c.kind in kind}

    same = SMALL + 'title = "another"\n[settings]\nimage_size = 128\n'  # the default size, and words
    assert hashes(same) == hashes(SMALL)
    for change in ("[settings]\nimage_size = 64\n", "split_seeds = [1]\n"):
        assert not hashes(SMALL + change) & hashes(SMALL)
    epochs = SMALL + "[settings]\nepochs = 3\n"
    assert not hashes(epochs, "deep") & hashes(SMALL, "deep")
    assert hashes(epochs, "classical") == hashes(SMALL, "classical")  # it has no epochs
    assert hashes(SMALL.replace("[8, 16]", "[8]")) < hashes(SMALL)


def test_chosen_settings_come_between_the_run_and_the_variant(tmp_path: Path) -> None:
    chosen = {
        "andsh": {
            "settings": {"method": "andsh", "hidden": 0, "epochs": 7, "loss": {"gamma": 1.0, "beta": 0.5}}
        }
    }
    (tmp_path / "tuned.json").write_text(json.dumps({"chosen": chosen}))
    text = """
    data = "digits"
    protocol = "holdout"
    tuned = "tuned.json"
    variants = [{ name = "andsh", loss = { beta = 2.0 } }]
    settings = { epochs = 9, dropout = 0.1 }
    """
    config = next(Run.from_toml(written(tmp_path, text)).cells()).config
    assert (config.hidden, config.epochs, config.dropout) == (0, 7, 0.1)
    assert (config.loss["gamma"], config.loss["beta"]) == (1.0, 2.0)
    override = next(Run.from_toml(written(tmp_path, text + "override = { epochs = 2 }\n")).cells()).config
    assert (override.epochs, override.hidden) == (2, 0)


def test_a_variant_may_take_the_chosen_settings_of_another_row(tmp_path: Path) -> None:
    entry = {"settings": {"hidden": 0, "epochs": 7}, "trials": 3, "validation_map": 0.5}
    (tmp_path / "tuned.json").write_text(json.dumps({"chosen": {"andsh": entry}}))
    text = SMALL + 'tuned = "tuned.json"\nvariants = [{ name = "other", tuned = "andsh", epochs = 9 }]\n'
    run = Run.from_toml(written(tmp_path, text))
    config = next(c for c in run.cells() if c.variant == "other").config
    assert (config.hidden, config.epochs) == (0, 9)
    reported = {v["name"]: v["tuned"] for v in variants_of(run)}
    assert reported == {
        "andsh": reported["other"],
        "other": {"trials": 3, "validation_map": 0.5},
        "itq": None,
    }
    with pytest.raises(ConfigError, match="unknown row of the chosen settings 'andhs'; did you mean 'andsh'"):
        Run.from_toml(written(tmp_path, text.replace('tuned = "andsh"', 'tuned = "andhs"')))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ('methods = ["andhs"]', "variant 'andhs': unknown method 'andhs'; did you mean 'andsh'"),
        ("metods = []", "unknown key of a run file 'metods'; did you mean 'methods'"),
        ('protocol = "holdot"', "unknown protocol 'holdot'; did you mean 'holdout'"),
        ('bits = "8"', "bits must be a list, each item a whole number, got '8'"),
        ("bits = [8, true]", "bits must be a list, each item a whole number"),
        ("bits = [2]", "variant 'andsh': .*bits"),
        ("seeds = []", "there is nothing to run"),
        ('baselines = ["pqq"]', "unknown baseline 'pqq'; did you mean 'pq'"),
        ('variants = [{ name = "itq", method = "itq" }]', "two variants are called 'itq'"),
        ("variants = [{ bits = [8] }]", "a variant needs a name"),
        ("settings = { epoch = 3 }", "unknown setting 'epoch'; did you mean 'epochs'"),
        (
            'variants = [{ name = "a", method = "andsh", loss = { gama = 1 } }]',
            "unknown option of the method andsh 'gama'",
        ),
        (
            'variants = [{ name = "a", method = "andsh", preset = "papper" }]',
            "unknown preset of andsh 'papper'",
        ),
        ('tuned = "absent.json"', "absent.json is not a file of chosen settings"),
        ('examples = { variants = ["csq"] }', "unknown variant of the examples 'csq'"),
        ("examples = { querys = 3 }", "unknown key of the examples 'querys'; did you mean 'queries'"),
        ("examples = { queries = 0 }", "queries of the examples must be a whole number >= 1, got 0"),
        ("examples = { bits = true }", "bits of the examples must be a whole number >= 1, got True"),
        ('examples = { variants = "itq" }', "variants of the examples must be a list of names, got 'itq'"),
        ("seeds = [0, 1, 0]", "seeds holds 0 twice"),
        ('methods = ["itq", "itq"]', "methods holds 'itq' twice"),
        ('baselines = ["pq"]', r"the baseline pq needs baseline_bytes, such as \[4, 8, 16\]"),
        ('variants = [{ name = "a", loss = 3 }]', "variant 'a': loss must be a table, got 3"),
        ("settings = { loss = 3 }", "variant 'andsh': loss must be a table, got 3"),
        ('variants = [{ name = "a", image_size = 64 }]', r"variant 'a': image_size belongs to \[settings\]"),
        ('variants = [{ name = "a", backbone = "tiny" }]', r"variant 'a': backbone belongs to \[settings\]"),
        ("settings = { use_validation = true }", "use_validation has no effect in a benchmark: leave it out"),
        (
            "settings = { allow_truncated = true }",
            "allow_truncated has no effect in a benchmark: leave it out",
        ),
    ],
)
def test_a_wrong_file_is_refused_in_one_line_that_names_it(tmp_path: Path, change: str, message: str) -> None:
    key = change.split(" = ")[0]
    kept = [line for line in SMALL.splitlines() if not line.startswith(f"{key} =")]
    with pytest.raises(ConfigError, match=message) as caught:
        Run.from_toml(written(tmp_path, "\n".join([*kept, change])))
    assert str(caught.value).startswith(str(tmp_path / "small.toml"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["[]", "{", '{"chosen": 3}', '{"chosen": {"andsh": 3}}', '{"chosen": {"a": {}}}']
)
def test_a_file_of_chosen_settings_that_is_none_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "tuned.json").write_text(text)
    with pytest.raises(ConfigError, match=r"tuned: .*tuned\.json is not a file of chosen settings"):
        Run.from_toml(written(tmp_path, SMALL + 'tuned = "tuned.json"'))


def test_a_variant_may_say_itself_that_its_backbone_learns(tmp_path: Path) -> None:
    text = SMALL + 'variants = [{ name = "tuned", fine_tune = true, bits = 16, epochs = 1 }]'
    tuned = [c for c in Run.from_toml(written(tmp_path, text)).cells() if c.variant == "tuned"]
    assert [(c.config.fine_tune, c.bits) for c in tuned] == [(True, 16), (True, 16)]


def test_the_hash_knows_the_defaults_of_a_method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hashes() -> dict[tuple[str, int | None, int], str]:
        cells = Run.from_toml(written(tmp_path, SMALL)).cells()
        return {(c.variant, c.bits, c.seed): c.hash for c in cells}

    before = hashes()
    monkeypatch.setattr(run_module, "default_options", lambda name: {"iterations": 7 if name == "itq" else 1})
    after = hashes()
    assert not set(before.values()) & set(after.values())


def test_a_preset_and_its_settings_written_out_are_the_same_cell(tmp_path: Path) -> None:
    short = SMALL + 'variants = [{ name = "a", method = "andsh", preset = "softmax" }]'
    named = next(c for c in Run.from_toml(written(tmp_path, short)).cells() if c.variant == "a")
    options = {**default_options("andsh"), **named.config.loss}
    loss = ", ".join(f"{k} = {json.dumps(v)}" for k, v in options.items() if v is not None)
    head = ", ".join(
        f"{k} = {json.dumps(getattr(named.config, k))}"
        for k in ("hidden", "batch_norm", "dropout", "epochs", "learning_rate", "weight_decay")
    )
    long = SMALL + f'variants = [{{ name = "a", method = "andsh", loss = {{ {loss} }}, {head} }}]'
    assert (
        next(c for c in Run.from_toml(written(tmp_path, long)).cells() if c.variant == "a").hash == named.hash
    )


def test_data_and_protocol_are_needed(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the key 'protocol' is missing"):
        Run.from_toml(written(tmp_path, 'data = "digits"\nmethods = ["itq"]'))


RUNS = sorted((Path(__file__).parents[2] / "runs").glob("*.toml"))


@pytest.mark.parametrize("path", [p for p in RUNS if p.stem != "tuning"], ids=lambda p: p.stem)
def test_every_run_file_of_the_project_can_be_run(path: Path) -> None:
    assert list(Run.from_toml(path).cells())
