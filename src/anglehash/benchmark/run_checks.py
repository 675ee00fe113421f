"""What a run file may hold: the kinds of its values, and which settings a row may have of its own."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from anglehash.errors import ConfigError, unknown

_SHARED = ("backbone", "image_size", "fine_tune")
_WITHOUT_EFFECT = ("use_validation", "allow_truncated", "max_pixels", "unlabelled")


def check_layers(name: str, layers: Sequence[Mapping[str, Any]]) -> None:
    """Refuse settings that a variant cannot have of its own, or that a benchmark does not use."""
    for number, layer in enumerate(layers):
        if not isinstance(layer.get("loss", {}), Mapping):
            raise ConfigError(f"variant {name!r}: loss must be a table, got {layer['loss']!r}")
        for key in layer:
            if key in _WITHOUT_EFFECT:
                raise ConfigError(f"variant {name!r}: {key} has no effect in a benchmark: leave it out")
            if number and key in _SHARED and layer[key] != layers[0].get(key) and not _learns(key, layers):
                raise ConfigError(
                    f"variant {name!r}: {key} belongs to [settings], since all variants see the same features"
                )


def _learns(key: str, layers: Sequence[Mapping[str, Any]]) -> bool:
    """A fine-tuned variant may say so itself; its images still have the size of all."""
    return key == "fine_tune" and layers[-1].get(key) is True


def check_examples(examples: Mapping[str, Any]) -> None:
    """Refuse what the table of examples cannot hold."""
    kinds = {"variants": list, "bits": int, "queries": int, "answers": int}
    for key, value in examples.items():
        if key not in kinds:
            raise unknown("key of the examples", key, kinds)
        if type(value) is not kinds[key] or (isinstance(value, int) and value < 1):
            wanted = "a list of names" if key == "variants" else "a whole number >= 1"
            raise ConfigError(f"{key} of the examples must be {wanted}, got {value!r}")


def check_once(key: str, values: Sequence[Any]) -> None:
    """Refuse a list that names something twice."""
    twice = next((value for i, value in enumerate(values) if value in values[:i]), None)
    if twice is not None:
        raise ConfigError(f"{key} holds {twice!r} twice")


def read_tuned(path: Path) -> dict[str, Any]:
    """Chosen settings by row, out of a file of ``benchmarks/tuning.py``."""
    try:
        chosen = dict(json.loads(path.read_text(encoding="utf-8"))["chosen"])
        for entry in chosen.values():
            if not isinstance(entry["settings"], dict):
                raise TypeError("its settings are no table")
        return chosen
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"tuned: {path} is not a file of chosen settings: {error!r}") from error


_LISTS = {
    "draws": int, "notes": str, "bits": int, "seeds": int, "split_seeds": int, "other_seeds": int,
    "other_bits": int, "methods": str, "variants": dict, "baselines": str, "baseline_bytes": int, "published": dict,
    "likeness_bits": int,
}  # fmt: skip
_SINGLE = {
    "data": str, "finer_label": str,
    "unlabelled": str, "protocol": str, "title": str, "tuned": str, "map_logits": bool,
    "map_asymmetric": bool, "options": dict, "settings": dict, "override": dict, "examples": dict,
}  # fmt: skip
_WORDS = {int: "whole number", str: "text", dict: "table", bool: "true or false"}


def check_kind(key: str, value: Any) -> None:
    """Refuse a value of another kind than its key wants."""
    if key in _SINGLE:
        if not isinstance(value, _SINGLE[key]):
            raise ConfigError(f"{key} must be a {_WORDS[_SINGLE[key]]}, got {value!r}")
        return
    kind = _LISTS[key]
    if not isinstance(value, list) or not all(type(item) is kind for item in value):
        raise ConfigError(f"{key} must be a list, each item a {_WORDS[kind]}, got {value!r}")
