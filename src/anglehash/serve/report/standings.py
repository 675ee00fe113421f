"""The scores of a benchmark, ordered: variants x code lengths, over seeds and splits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, median, stdev
from typing import Any, NamedTuple

from anglehash.serve.report.values import mapping, number, sequence

KINDS = {"deep": "Deep", "shallow": "Conventional", "rival": "Untrained", "reference": "References"}


class Score(NamedTuple):
    """The mean of a measure over seeds, its sample standard deviation (0 of one seed), and how many seeds."""

    mean: float
    deviation: float
    seeds: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Score:
        """The score of one value or more.

        >>> Score.of([0.5, 0.6, 0.7])  # deviations -.1, 0, .1: sqrt(.02 / 2) = .1
        Score(mean=0.6, deviation=0.1, seeds=3)
        """
        deviation = stdev(values) if len(values) > 1 else 0.0
        return cls(float(f"{mean(values):.12g}"), float(f"{deviation:.12g}"), len(values))


def level(one: Score, other: Score) -> bool:
    """Whether the difference is within the noise.

    It is where it is smaller than the larger standard deviation of the two, or too small to be shown.

    >>> level(Score(0.65, 0.01, 3), Score(0.658, 0.002, 3)), level(Score(0.65, 0, 1), Score(0.658, 0, 1))
    (True, False)
    """
    gap = abs(one.mean - other.mean)
    return gap < 0.0005 or gap < max(one.deviation, other.deviation)


class Variant(NamedTuple):
    """A method with its settings, under the name that the page uses."""

    name: str
    method: str
    kind: str
    settings: Mapping[str, Any] = {}
    tuned: Mapping[str, Any] = {}

    @property
    def ours(self) -> bool:
        """Whether it is AnDSH, in any form."""
        return self.method.casefold().startswith("andsh")


class Cell(NamedTuple):
    """One measurement."""

    variant: str
    bits: int | None
    bytes: float | None
    seed: object
    split: object
    map: float
    all: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Standings:
    """What a benchmark measured.

    Attributes:
        variants: in the order of the result; those that have a cell only, last.
        cells: all measurements.
        lengths: the code lengths of trained variants (of all, if none is trained), ascending.
        example: the length that is shown where one must do.
        split: the first split seed: the table and the charts are of this one.
    """

    variants: Mapping[str, Variant]
    cells: Sequence[Cell]
    lengths: Sequence[int]
    example: int | None
    split: object

    @classmethod
    def of(cls, result: Mapping[str, Any]) -> Standings:
        """Read a result; what is not a cell or not a variant is passed over."""
        cells = [cell for cell in map(_cell, sequence(result.get("cells"))) if cell]
        listed = [variant for variant in map(_variant, sequence(result.get("variants"))) if variant]
        known = {variant.name: variant for variant in listed}
        for cell in cells:
            if cell.variant not in known and (variant := _variant(cell.all)):
                known[variant.name] = variant
        trained = {name for name, variant in known.items() if variant.kind not in ("rival", "reference")}
        lengths = sorted({c.bits for c in cells if c.bits and c.variant in trained})
        lengths = lengths or sorted({c.bits for c in cells if c.bits})
        return cls(known, cells, lengths, _example(result, lengths), _first_split(result, cells))

    def of_kind(self, kind: str | None) -> list[str]:
        """The variants of a kind that have a score, best mean over the lengths first; ``None``: other kinds."""
        same = [
            v.name for v in self.variants.values() if v.kind == kind or (kind is None and v.kind not in KINDS)
        ]
        means = {name: [cell.map for cell in self.cells_of(name)] for name in same}
        over_lengths = {
            name: mean(score.mean for score in self.scores(name).values())
            if self.scores(name)
            else max(means[name])
            for name in same
            if means[name]
        }
        return sorted(over_lengths, key=lambda name: -over_lengths[name])

    @property
    def order(self) -> list[str]:
        """All variants that have a score, group by group."""
        return [name for kind in (*KINDS, None) for name in self.of_kind(kind)]

    def cells_of(self, name: str, *, every_split: bool = False) -> list[Cell]:
        """The cells of a variant, of the first split or of all."""
        own = [cell for cell in self.cells if cell.variant == name]
        return own if every_split else [cell for cell in own if cell.split == self.split]

    def at(self, name: str, bits: int | None, *, every_split: bool = False) -> list[Cell]:
        """The cells of a variant at one length; of an untrained one, at as many bytes."""
        return [c for c in self.cells_of(name, every_split=every_split) if self._length(c) == bits and bits]

    def scores(self, name: str) -> dict[int, Score]:
        """The mAP of a variant by code length, of the lengths that it has."""
        found = {bits: [cell.map for cell in self.at(name, bits)] for bits in self.lengths}
        return {bits: Score.of(maps) for bits, maps in found.items() if maps}

    def by_bytes(self, name: str) -> dict[float, Score]:
        """The mAP of a variant by bytes an image."""
        maps: dict[float, list[float]] = {}
        for cell in self.cells_of(name):
            if cell.bytes:
                maps.setdefault(cell.bytes, []).append(cell.map)
        return {size: Score.of(maps[size]) for size in sorted(maps)}

    def over_splits(self, name: str) -> tuple[float, float] | None:
        """The lowest and the highest mean of the split seeds, at the example length, where there are several."""
        maps: dict[str, list[float]] = {}
        for cell in self.at(name, self.example, every_split=True):
            maps.setdefault(str(cell.split), []).append(cell.map)
        means = [mean(values) for values in maps.values()]
        return (min(means), max(means)) if len(means) > 1 else None

    def contenders(self, bits: int) -> dict[str, Score]:
        """Everything but references that was measured at this length, best first."""
        found = {n: self.scores(n) for n, v in self.variants.items() if v.kind != "reference"}
        known = {name: scores[bits] for name, scores in found.items() if bits in scores}
        return dict(sorted(known.items(), key=lambda item: -item[1].mean))

    def top(self, bits: int) -> list[str]:
        """The best at this length, and all that are level with it."""
        known = self.contenders(bits)
        best = next(iter(known.values()), None)
        return [name for name, score in known.items() if best and level(score, best)]

    def _length(self, cell: Cell) -> float | None:
        if self.variants[cell.variant].kind == "rival" and cell.bytes:
            return 8 * cell.bytes
        return cell.bits


def median_of(cells: Iterable[Cell], key: str) -> float | None:
    """The median of a measure over cells that have it."""
    known = [value for cell in cells if (value := number(cell.all.get(key))) is not None]
    return median(known) if known else None


def _cell(value: object) -> Cell | None:
    own = mapping(value)
    name, score = own.get("variant", own.get("method")), number(own.get("map"))
    if name is None or score is None:
        return None
    bits = number(own.get("bits"))
    size = number(own.get("bytes")) or (bits and bits / 8)
    kept = int(bits) if bits and bits > 0 else None
    return Cell(str(name), kept, size if size and size > 0 else None, own.get("seed"),
                own.get("split_seed"), score, own)  # fmt: skip


def _variant(value: object) -> Variant | None:
    own = mapping(value)
    name = own.get("name", own.get("variant", own.get("method")))
    if name is None:
        return None
    settings, tuned = mapping(own.get("settings")), mapping(own.get("tuned"))
    return Variant(str(name), str(own.get("method", name)), str(own.get("kind", "deep")), settings, tuned)


def _example(result: Mapping[str, Any], lengths: Sequence[int]) -> int | None:
    """The run's own, or 32, or the middle one."""
    asked = result.get("example_bits", mapping(result.get("run")).get("example_bits"))
    for bits in (asked, 32):
        if bits in lengths:
            return int(bits)
    return lengths[(len(lengths) - 1) // 2] if lengths else None


def _first_split(result: Mapping[str, Any], cells: Sequence[Cell]) -> object:
    seeds = [mapping(split).get("seed") for split in sequence(result.get("splits"))]
    seeds += [cell.split for cell in cells]
    measured = {str(cell.split) for cell in cells}
    return next((seed for seed in seeds if str(seed) in measured), None)
