"""``anglehash info``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from anglehash.errors import ModelError
from anglehash.serve.console import json_option, show


@click.command("info")
@click.argument("path", type=click.Path(path_type=Path))
@json_option
def command(path: Path, as_json: bool) -> None:
    """Say what PATH is: a model, a gallery, or a file that anglehash wrote.

    \b
    Example:
        anglehash info model/
    """
    found = describe(path)
    show(found, as_json=as_json, text=lambda: "\n".join(_lines(found)))


def describe(path: Path) -> dict[str, Any]:
    """What a path is, as JSON values.

    Raises:
        FileNotFoundError: there is nothing.
        ModelError: it is nothing that anglehash wrote, or it is damaged.
    """
    from anglehash.manifest import kind_of, read_manifest
    from anglehash.search.gallery import Gallery

    if not path.exists():
        raise FileNotFoundError(2, "no such file or folder", str(path))
    if path.is_dir():
        kind = kind_of(path)
        if kind == "gallery":
            return Gallery.open(path).info()
        return {"kind": "model", **read_manifest(path, "model", 1)}
    if path.suffix == ".npz":
        return _codes(path)
    try:
        content = json.loads(path.read_bytes())
    except ValueError:
        raise ModelError(f"{path} is nothing that anglehash wrote: not a folder, .npz or .json") from None
    if isinstance(content, dict) and content.get("format") == "anglehash-split":
        sizes = {name: len(ids) for name, ids in content["parts"].items()}
        return {"kind": "split", **{k: content[k] for k in ("protocol", "seed", "hash")}, **sizes}
    if isinstance(content, dict) and "map" in content:
        return {"kind": "result", **content}
    raise ModelError(f"{path} is not a split or a result that anglehash wrote")


def _codes(path: Path) -> dict[str, Any]:
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as arrays:
            codes, bits = arrays["codes"], int(arrays["bits"])
    except (ValueError, KeyError, OSError) as error:
        raise ModelError(f"{path} is not a file of codes: {error}") from error
    return {
        "kind": "codes",
        "images": len(codes),
        "bits": bits,
        "unique_codes": len(np.unique(codes, axis=0)),
    }


def _lines(facts: dict[str, Any], indent: str = "") -> list[str]:
    out = []
    for key, value in facts.items():
        if isinstance(value, dict):
            out += [f"{indent}{key}:", *_lines(value, indent + "  ")]
        elif isinstance(value, list) and len(value) > 12:
            out.append(f"{indent}{key}: {len(value)} entries")
        else:
            out.append(f"{indent}{key}: {value}")
    return out
