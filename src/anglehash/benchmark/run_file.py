"""What a benchmark is asked for: one TOML file, checked before anything is computed."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import product
from pathlib import Path
from typing import Any, Self

from anglehash.benchmark.baselines import BASELINES, LEAST_BYTES
from anglehash.benchmark.run_checks import check_examples, check_kind, check_layers, check_once, read_tuned
from anglehash.codes import width
from anglehash.config import TrainConfig
from anglehash.data.protocols import PROTOCOLS
from anglehash.errors import ConfigError, unknown
from anglehash.files import sha256_json
from anglehash.methods.catalogue import default_options, is_frozen, kind_of, settled


@dataclass(frozen=True, slots=True)
class SplitSpec:
    """Where cells are computed: one split of one data set, as one backbone sees it.

    Attributes:
        split_seed: seed of the protocol's draws.
        options: the protocol's own options.
    """

    split_seed: int
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One training and one evaluation.

    Attributes:
        variant: name of the row that it belongs to.
        kind: ``deep``, ``shallow``, or ``baseline`` where nothing is trained on labels.
        method: name of the method, or of the baseline.
        bits: length of a code; ``None`` where a baseline has none.
        bytes_asked: size of an item that a baseline is given; ``None`` where it has no choice.
        seed: seed of the training.
        split_spec: the split.
        settings: the settled config as JSON values.
        hash: of all the cell depends on.
    """

    variant: str
    kind: str
    method: str
    bits: int | None
    bytes_asked: int | None
    seed: int
    split_spec: SplitSpec
    settings: Mapping[str, Any]
    hash: str

    @property
    def config(self) -> TrainConfig:
        """The settings of a trained method."""
        return TrainConfig.from_dict(dict(self.settings))


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A benchmark. Every setting below is a key of its TOML file.

    Attributes:
        name: of the run; the file's name without ``.toml``.
        source: the file, as it was named.
        data: name of a known set, or a folder or manifest.
        protocol: how it is split.
        options: the protocol's own options, a table.
        draws: values of the protocol's option ``draw``, each a split of its own; none by default.
        unlabelled: what happens to images without a label: ``refuse`` or ``skip``.
        title: a line for people.
        notes: further lines for people.
        bits: code lengths.
        seeds: training seeds.
        split_seeds: seeds of the split. The headline is the first.
        other_seeds: training seeds on the other splits, which tell the spread over draws of the split.
        other_bits: code lengths on the other splits; all by default.
        methods: names of methods that are variants under their own name.
        variants: tables with ``name`` and the settings in which the variant differs; ``bits`` may be a list;
            ``tuned`` names the row of the file of chosen settings that it takes, if that is not its own name.
        settings: settings of every variant (:class:`TrainConfig`), a table.
        tuned: JSON file of chosen settings by method (``benchmarks/tuning.py``), relative to the TOML file.
        override: settings that win over those chosen, a table.
        baselines: names of untrained baselines (:data:`~anglehash.benchmark.baselines.BASELINES`).
        baseline_bytes: sizes of an item that baselines are given, those that are too small for one left out.
        map_logits: also rank by the real-valued logits; off where there are too many pairs to sort.
        map_asymmetric: also rank by those of the queries, against codes; likewise.
        likeness_bits: code lengths at which the measures of likeness are taken, on the first split; all by default.
        finer_label: column of the data's manifest with a label that training never sees.
        examples: table ``variants`` (two names), ``bits``, ``queries``, ``answers``: retrieved images to show.
        published: tables ``method``, ``bits``, ``map``, ``features``, ``source``: figures of others.
    """

    name: str
    data: str
    protocol: str
    options: Mapping[str, Any] = field(default_factory=dict)
    draws: Sequence[int] = ()
    unlabelled: str = "refuse"
    title: str = ""
    notes: Sequence[str] = ()
    bits: Sequence[int] = (12, 24, 32, 48, 64)
    seeds: Sequence[int] = (0, 1, 2)
    split_seeds: Sequence[int] = (0,)
    other_seeds: Sequence[int] = (0,)
    other_bits: Sequence[int] = ()
    methods: Sequence[str] = ()
    variants: Sequence[Mapping[str, Any]] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    tuned: str = ""
    override: Mapping[str, Any] = field(default_factory=dict)
    baselines: Sequence[str] = ()
    baseline_bytes: Sequence[int] = ()
    map_logits: bool = True
    map_asymmetric: bool = False
    likeness_bits: Sequence[int] | None = None
    finer_label: str = ""
    examples: Mapping[str, Any] = field(default_factory=dict)
    published: Sequence[Mapping[str, Any]] = ()
    chosen: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    source: str = ""

    @classmethod
    def from_toml(cls, path: Path) -> Self:
        """Read and check a run file.

        Raises:
            ConfigError: it cannot be read, or a key, method, protocol or setting is unknown or out of range.
        """
        try:
            table = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError(f"{path}: cannot read the run file: {error}") from error
        known = {f.name for f in fields(cls)} - {"name", "chosen", "source"}
        try:
            for key, value in table.items():
                if key not in known:
                    raise unknown("key of a run file", key, known)
                check_kind(key, value)
            for key in ("data", "protocol"):
                if key not in table:
                    raise ConfigError(f"the key {key!r} is missing: name the data set and its protocol")
            chosen = read_tuned(path.parent / table["tuned"]) if table.get("tuned") else {}
            run = cls(name=path.stem, source=str(path), chosen=chosen, **table)
            run.check()
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from error
        return run

    def check(self) -> None:
        """Every cell can be made, so that nothing fails after hours.

        Raises:
            ConfigError: saying which setting is wrong.
        """
        if self.protocol not in PROTOCOLS:
            raise unknown("protocol", self.protocol, PROTOCOLS)
        for key in (
            "bits",
            "seeds",
            "split_seeds",
            "other_seeds",
            "other_bits",
            "draws",
            "methods",
            "baselines",
        ):
            check_once(key, getattr(self, key))
        check_once("baseline_bytes", self.baseline_bytes)
        check_once("likeness_bits", self.likeness_bits or ())
        check_examples(self.examples)
        cells = list(self.cells())
        if not cells:
            raise ConfigError(
                "there is nothing to run: name methods, variants or baselines, and bits and seeds"
            )
        seen: set[tuple[Any, ...]] = set()
        for cell in cells:
            split_spec = (cell.split_spec.split_seed, cell.split_spec.options.get("draw"))
            row = (cell.variant, cell.bits, cell.bytes_asked, cell.seed, *split_spec)
            if row in seen:
                raise ConfigError(f"two variants are called {cell.variant!r}: give each a name of its own")
            seen.add(row)
        names = {cell.variant for cell in cells}
        for name in self.examples.get("variants", ()):
            if name not in names:
                raise unknown("variant of the examples", name, names)

    def split_specs(self) -> list[SplitSpec]:
        """The splits, the headline first."""
        draws = [{"draw": draw} for draw in self.draws] or [{}]
        return [SplitSpec(seed, {**self.options, **draw}) for seed in self.split_seeds for draw in draws]

    def cells(self, split_spec: SplitSpec | None = None) -> Iterator[Cell]:
        """The cells of one split, or of all."""
        for where in [split_spec] if split_spec else self.split_specs():
            first = where.split_seed == self.split_seeds[0]
            seeds = self.seeds if first else self.other_seeds
            lengths = self.bits if first else self.other_bits or self.bits
            for variant in self.all_variants():
                own = variant.get("bits", lengths)
                for bits, seed in product([own] if isinstance(own, int) else own, seeds):
                    yield self._trained(variant, bits, seed, where)
            if first:
                yield from self._baselines(where)

    def all_variants(self) -> list[Mapping[str, Any]]:
        """The variants, those of ``methods`` first."""
        return [*({"name": name, "method": name} for name in self.methods), *self.variants]

    def chosen_for(self, variant: Mapping[str, Any]) -> Mapping[str, Any]:
        """The entry of the file of chosen settings that a variant takes: its own, or that of the row it names.

        Raises:
            ConfigError: no row of the name that it gives.
        """
        row = variant.get("tuned", variant["name"])
        if "tuned" in variant and row not in self.chosen:
            raise unknown("row of the chosen settings", str(row), self.chosen)
        return self.chosen.get(row, {})

    def _trained(self, variant: Mapping[str, Any], bits: int, seed: int, split_spec: SplitSpec) -> Cell:
        if not isinstance(variant.get("name"), str):
            raise ConfigError(f"a variant needs a name, got {dict(variant)!r}")
        own = {k: v for k, v in variant.items() if k not in ("name", "bits", "tuned")}
        chosen = self.chosen_for(variant).get("settings", {})
        layers = [self.settings, chosen, self.override, own]
        check_layers(variant["name"], layers)
        loss = {k: v for layer in layers for k, v in layer.get("loss", {}).items()}
        merged = {k: v for layer in layers for k, v in layer.items()}
        try:
            config = settled(
                TrainConfig.from_dict({**_PLAIN, **merged, "loss": loss, "bits": bits, "seed": seed})
            )
        except ConfigError as error:
            raise ConfigError(f"variant {variant['name']!r}: {error}") from error
        return Cell(
            variant=variant["name"],
            kind=kind_of(config.method),
            method=config.method,
            bits=bits,
            bytes_asked=width(bits),
            seed=seed,
            split_spec=split_spec,
            settings=config.to_dict(),
            hash=self._identity(split_spec, _decisive(config)),
        )

    def _baselines(self, split_spec: SplitSpec) -> Iterator[Cell]:
        base = TrainConfig.from_dict({**self.settings})
        eyes = {"backbone": base.backbone, "image_size": base.image_size}
        for name in self.baselines:
            if name not in BASELINES:
                raise unknown("baseline", name, BASELINES)
            sized = name in LEAST_BYTES
            if sized and not self.baseline_bytes:
                raise ConfigError(f"the baseline {name} needs baseline_bytes, such as [4, 8, 16]")
            sizes: list[int | None] = [None]
            if sized:
                sizes = [size for size in self.baseline_bytes if size >= LEAST_BYTES[name]]
            for size, seed in product(sizes, self.seeds if sized else self.seeds[:1]):
                yield Cell(
                    variant=name,
                    kind="baseline",
                    method=name,
                    bits=None,
                    bytes_asked=size,
                    seed=seed,
                    split_spec=split_spec,
                    settings=eyes,
                    hash=self._identity(split_spec, {"baseline": name, "bytes": size, "seed": seed, **eyes}),
                )

    def _identity(self, split_spec: SplitSpec, settings: Mapping[str, Any]) -> str:
        where = {"data": self.data, "protocol": self.protocol, "options": dict(split_spec.options)}
        return sha256_json({"settings": settings, "split_seed": split_spec.split_seed, **where})[:16]


_PLAIN: dict[str, Any] = {"likeness": 0.0}
"""Methods are compared by their own codes: a variant says so where likeness is added."""

_OF_FEATURES = ("method", "loss", "bits", "seed", "backbone", "image_size")
_AROUND = ("likeness", "networks")  # what is made of the heads of any method
_OF_ALL = (
    *_OF_FEATURES,
    "hidden",
    "batch_norm",
    "dropout",
    "epochs",
    "batch_size",
    "learning_rate",
    "weight_decay",
)


def telling_settings(config: TrainConfig) -> dict[str, Any]:
    """The settings that are not at their default and mean something, for people."""
    usual = TrainConfig(**_PLAIN).to_dict()
    telling = {name: value for name, value in config.to_dict().items() if value != usual[name]}
    if is_frozen(config):
        return {name: value for name, value in telling.items() if name in (*_OF_FEATURES, *_AROUND)}
    return telling


def _decisive(config: TrainConfig) -> dict[str, Any]:
    """The settings that make a cell what it is, with every option of its method.

    Those of every method are always named, so that a new default is another cell. Others are named where
    they are not at their default, so that a setting that is added later leaves finished cells as they are.
    """
    own, usual = config.to_dict(), TrainConfig(**_PLAIN).to_dict()
    own["loss"] = {**default_options(config.method), **config.loss}
    if is_frozen(config):
        around = [name for name in _AROUND if own[name] != usual[name]]
        return {name: own[name] for name in (*_OF_FEATURES, *around)}
    del own["preset"]  # its values are among the others
    return {name: value for name, value in own.items() if name in _OF_ALL or value != usual[name]}
