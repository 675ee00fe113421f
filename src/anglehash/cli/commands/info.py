"""``anglehash info``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import click

from anglehash.cli.console import json_option, show
from anglehash.errors import ModelError


@click.command("info")
@click.argument("path")
@json_option
def command(path: str, as_json: bool) -> None:
    """Say what PATH is: a model, a bundle, a gallery (in an engine, too), or a file that anglehash wrote.

    \b
    Example:
        anglehash info model/
    """
    from anglehash.gallery.target import is_target
    from anglehash.remote.gallery import RemoteGallery

    if is_target(path):
        with RemoteGallery.open(path) as there:
            found = there.info()
    else:
        found = describe(Path(path))
    show(found, as_json=as_json, text=lambda: "\n".join(_lines(found)))


def describe(path: Path) -> dict[str, Any]:
    """What a path is, as JSON values.

    Raises:
        FileNotFoundError: there is nothing.
        ModelError: it is nothing that anglehash wrote, or it is damaged.
    """
    from anglehash.encode import bundle
    from anglehash.encode.encoder import MODEL_VERSION
    from anglehash.gallery.gallery import Gallery
    from anglehash.manifest import kind_of, read_manifest

    if not path.exists():
        raise FileNotFoundError(2, "no such file or folder", str(path))
    if path.is_dir():
        if kind_of(path) == "gallery":
            return Gallery.open(path).info()
        if kind_of(path) == bundle.KIND:
            return {"kind": bundle.KIND, **read_manifest(path, bundle.KIND, bundle.VERSION)}
        return {"kind": "model", **read_manifest(path, "model", MODEL_VERSION, oldest=MODEL_VERSION)}
    if not path.is_file():
        raise ModelError(f"{path} is neither a folder nor a regular file")
    try:
        return _codes(path) if path.suffix == ".npz" else _json(path)
    except (ValueError, KeyError, TypeError, AttributeError, EOFError, RecursionError, BadZipFile) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ModelError(
            f"{path} is nothing that anglehash wrote, or it is damaged: {reason[:200]}"
        ) from error


def _codes(path: Path) -> dict[str, Any]:
    import numpy as np

    with np.load(path, allow_pickle=False) as arrays:
        codes, bits = arrays["codes"], int(arrays["bits"])
    return {
        "kind": "codes",
        "images": len(codes),
        "bits": bits,
        "unique_codes": len(np.unique(codes, axis=0)),
    }


def _json(path: Path) -> dict[str, Any]:
    content = json.loads(path.read_bytes())
    json.dumps(content, allow_nan=False)
    if content.get("format") == "anglehash-split":
        sizes = {name: len(ids) for name, ids in content["parts"].items()}
        return {"kind": "split", **{k: content[k] for k in ("protocol", "seed", "hash")}, **sizes}
    if "map" in content and "protocol" in content:
        return {"kind": "result", **content}
    raise ValueError("neither a split nor a result")


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
