"""The scores of a benchmark, ordered: variants x code lengths, over seeds and splits.

A *run* is what a mean is taken over: a training seed; or, where cells name a draw (of classes that are kept out
of training), a draw, its seeds averaged. Draws differ in their data, so that scores are compared draw by draw.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, median
from typing import Any, NamedTuple

from anglehash.benchmark.report.scores import Score, level, level_in_pairs
from anglehash.report.values import mapping, number, sequence

KINDS = {"deep": "Deep", "classical": "Conventional", "baseline": "Untrained", "reference": "References"}


class Variant(NamedTuple):
    """A method with its settings, under the name that the page uses."""

    name: str
    method: str
    kind: str
    settings: Mapping[str, Any] = {}
    tuned: Mapping[str, Any] = {}

    @property
    def trained(self) -> bool:
        """Whether it is a method that learns codes, and no baseline or reference."""
        return self.kind not in ("baseline", "reference")


class Cell(NamedTuple):
    """One measurement."""

    variant: str
    bits: int | None
    bytes: float | None
    seed: object
    split: object
    draw: str | None
    map: float
    all: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Leaderboard:
    """What a benchmark measured.

    Attributes:
        variants: in the order of the result; those that have a cell only, last.
        cells: all measurements.
        lengths: the code lengths of trained variants (of all, if none is trained), ascending.
        example: the length that is shown where one must do.
        split: the first split seed: the table and the charts are of this one.
        draws: the draws of that split, the first one first; none where the cells name no draw.
        highlight: the variant or method that the page marks; none by default.
    """

    variants: Mapping[str, Variant]
    cells: Sequence[Cell]
    lengths: Sequence[int]
    example: int | None
    split: object
    draws: Sequence[str]
    highlight: str | None = None

    @classmethod
    def of(cls, result: Mapping[str, Any], highlight: str | None = None) -> Leaderboard:
        """Read a result; what is not a cell or not a variant is passed over."""
        cells = [cell for cell in map(_cell, sequence(result.get("cells"))) if cell]
        listed = [variant for variant in map(_variant, sequence(result.get("variants"))) if variant]
        known = {variant.name: variant for variant in listed}
        for cell in cells:
            if cell.variant not in known and (variant := _variant(cell.all)):
                known[variant.name] = variant
        trained = {name for name, variant in known.items() if variant.trained}
        lengths = sorted({c.bits for c in cells if c.bits and c.variant in trained})
        lengths = lengths or sorted({c.bits for c in cells if c.bits})
        split = _first_split(result, cells)
        example, draws = _example(result, lengths), _draws(result, cells, split)
        return cls(known, cells, lengths, example, split, draws, highlight)

    def highlighted(self, name: str) -> bool:
        """Whether the page marks this variant: by its own name where there is one of that name, or its method's."""
        return self.highlight == (name if self.highlight in self.variants else self.variants[name].method)

    @property
    def run(self) -> str:
        """What a mean is taken over, in a word: ``seed`` or ``draw``."""
        return "draw" if self.draws else "seed"

    def of_kind(self, kind: str | None) -> list[str]:
        """The variants of a kind that have a score, best mean over the lengths first; ``None``: other kinds."""
        same = [
            v.name for v in self.variants.values() if v.kind == kind or (kind is None and v.kind not in KINDS)
        ]
        return self.best_first([name for name in same if self.cells_of(name)])

    def best_first(self, names: Iterable[str]) -> list[str]:
        """Variants by their mean over the lengths; those without one stand at their best mAP."""
        means = {}
        for name in names:
            scores = [score.mean for score in self.scores(name).values()]
            means[name] = mean(scores) if scores else max(cell.map for cell in self.cells_of(name))
        return sorted(means, key=lambda name: -means[name])

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
        found = {bits: self.at(name, bits) for bits in self.lengths}
        return {bits: score_of(cells) for bits, cells in found.items() if cells}

    def by_bytes(self, name: str) -> dict[float, Score]:
        """The mAP of a variant by bytes an image."""
        found: dict[float, list[Cell]] = {}
        for cell in self.cells_of(name):
            if cell.bytes:
                found.setdefault(cell.bytes, []).append(cell)
        return {size: score_of(found[size]) for size in sorted(found)}

    def over_splits(self, name: str) -> tuple[float, float] | None:
        """The lowest and the highest score of the splits, at the example length, where there are several.

        They are those of the first training seed alone: other splits have fewer seeds than the first one.
        """
        cells = self.at(name, self.example, every_split=True)
        means = by_split(cell for cell in cells if str(cell.seed) == self._first_seed()).values()
        return (min(means), max(means)) if len(means) > 1 else None

    def contenders(self, bits: int) -> dict[str, Score]:
        """Everything but references that was measured at this length, best first."""
        found = {n: self.scores(n) for n, v in self.variants.items() if v.kind != "reference"}
        known = {name: scores[bits] for name, scores in found.items() if bits in scores}
        return dict(sorted(known.items(), key=lambda item: -item[1].mean))

    def top(self, bits: int) -> list[str]:
        """The best at this length, and all that are level with it."""
        known = self.contenders(bits)
        best = next(iter(known), None)
        return [name for name in known if best and self.level(name, best, bits)]

    def level(self, one: str, other: str, bits: int) -> bool:
        """Whether two variants are level at a length that both have: by pairs where there are draws."""
        if not self.draws:
            return level(self.scores(one)[bits], self.scores(other)[bits])
        first, second = self._by_draw(one, bits), self._by_draw(other, bits)
        shared = [first[draw] - second[draw] for draw in first if draw in second]
        return level_in_pairs(shared or [mean(first.values()) - mean(second.values())])

    def _by_draw(self, name: str, bits: int) -> dict[str, float]:
        maps: dict[str, list[float]] = {}
        for cell in self.at(name, bits):
            maps.setdefault(str(cell.draw), []).append(cell.map)
        return {draw: mean(own) for draw, own in maps.items()}

    def first_cell(self, name: str) -> Cell | None:
        """The cell of a variant at the example length with the first seed; of the first draw, where there are draws."""
        cells = self.at(name, self.example)
        if self.draws:
            cells = [cell for cell in cells if cell.draw == self.draws[0]]
        return next((cell for cell in cells if str(cell.seed) == self._first_seed()), None)

    def _first_seed(self) -> str:
        return next((str(cell.seed) for cell in self.cells if cell.split == self.split), "")

    def _length(self, cell: Cell) -> float | None:
        if self.variants[cell.variant].kind == "baseline" and cell.bytes:
            return 8 * cell.bytes
        return cell.bits


def over_runs(values: Iterable[tuple[Cell, float]]) -> list[float]:
    """One value a seed, or one a draw, the mean over its seeds, where a cell names its draw."""
    groups: dict[object, list[float]] = {}
    for place, (cell, value) in enumerate(values):
        groups.setdefault(place if cell.draw is None else cell.draw, []).append(value)
    return [mean(own) for own in groups.values()]


def score_of(cells: Iterable[Cell]) -> Score:
    """The mAP of one cell or more."""
    return Score.of(over_runs((cell, cell.map) for cell in cells))


def by_split(cells: Iterable[Cell]) -> dict[str, float]:
    """The mean mAP of the cells of each split."""
    maps: dict[str, list[float]] = {}
    for cell in cells:
        maps.setdefault(str(cell.split), []).append(cell.map)
    return {split: mean(values) for split, values in maps.items()}


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
    draw = None if own.get("draw") is None else str(own["draw"])
    return Cell(str(name), kept, size if size and size > 0 else None, own.get("seed"),
                own.get("split_seed"), draw, score, own)  # fmt: skip


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


def _draws(result: Mapping[str, Any], cells: Iterable[Cell], split: object) -> list[str]:
    """The draws that were measured, in the order of the result's splits."""
    measured = [cell.draw for cell in cells if cell.split == split and cell.draw is not None]
    options = [mapping(mapping(one).get("options")) for one in sequence(result.get("splits"))]
    listed = [str(own["draw"]) for own in options if own.get("draw") is not None]
    return [draw for draw in dict.fromkeys([*listed, *measured]) if draw in measured]
