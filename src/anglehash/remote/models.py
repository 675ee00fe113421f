"""The model travels with the codes, so that a remote gallery can be searched by images from anywhere.

Its files are kept as they are; whoever opens the model compares each with the sha256 in its manifest.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from anglehash.errors import ModelError, NoModelError
from anglehash.files import cache_dir, new_folder, sha256_file
from anglehash.manifest import NAME
from anglehash.remote.backend import Backend

_LIST = "files.json"


def keep(engine: Backend, model_id: str, folder: Path) -> int:
    """Keep the files of a model's folder, unless they are there; how many it has. The list of them is written last."""
    if not (folder / NAME).is_file():
        return 0
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    names = [path.relative_to(folder).as_posix() for path in files]
    facts = {name: sha256_file(path) for name, path in zip(names, files, strict=True)}
    text = json.dumps(facts, sort_keys=True).encode()
    if engine.file(model_id, _LIST) != text:
        for name, path in zip(names, files, strict=True):
            engine.put_file(model_id, name, path.read_bytes())
        engine.put_file(model_id, _LIST, text)
    return len(files)


def fetched(engine: Backend, model_id: str, where: object) -> Path:
    """The folder in the cache that holds the model; fetched, if it is not there.

    Raises:
        ModelError: the engine has no such model, or its files are damaged.
    """
    place = cache_dir() / "models" / hashlib.sha256(model_id.encode()).hexdigest()[:32]
    if (place / NAME).is_file():
        return place
    listed = engine.file(model_id, _LIST)
    if listed is None:
        raise NoModelError(f"{where} was pushed without its model: name it with --model")
    try:
        facts = {str(name): str(digest) for name, digest in json.loads(listed).items()}
    except (ValueError, AttributeError):
        facts = {"": ""}
    with new_folder(place, force=True) as folder:
        for name, digest in facts.items():
            data = None if _climbs(name) else engine.file(model_id, name)
            if data is None or hashlib.sha256(data).hexdigest() != digest:
                raise ModelError(
                    f"{where} holds a damaged copy of its model ({name!r}): push the gallery again"
                )
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
    return place


def _climbs(name: str) -> bool:
    r"""Whether a name would lead out of a folder.

    >>> _climbs("head.safetensors"), _climbs("../x"), _climbs("/x"), _climbs("C:\\x")
    (False, True, True, True)
    """
    return not name or name.startswith("/") or ".." in name.split("/") or "\\" in name or ":" in name
