"""The manifest of a folder that anglehash writes: what it is, and the sha256 of every file in it.

A model and a gallery are such folders. The manifest also seals itself, so any changed byte in any
file is found when the folder is opened, and named.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from anglehash.errors import ModelError
from anglehash.files import sha256_file, sha256_json, write_atomic

NAME = "manifest.json"

_AGAIN = {"gallery": "index the images again", "model": "train again", "bundle": "export the model again"}


def _text(content: dict[str, Any]) -> bytes:
    content = {**content, "seal": sha256_json(content)}
    return (json.dumps(content, indent=2, ensure_ascii=True, allow_nan=False) + "\n").encode()


def write_manifest(
    folder: Path, kind: str, version: int, facts: dict[str, Any], *, seal_files: bool = True
) -> None:
    """Write ``folder``'s manifest, over every file that is in it now.

    Args:
        folder: the folder; its files are complete.
        kind: what the folder is: ``model`` or ``gallery``.
        version: version of that kind's format.
        facts: JSON values that the kind wants to keep.
        seal_files: false where the kind keeps the hashes of its files in ``facts``.
    """
    present = sorted(folder.iterdir()) if seal_files else []
    files = {p.name: sha256_file(p) for p in present if p.is_file() and p.name != NAME}
    content = {"format": f"anglehash-{kind}", "version": version, **facts, "files": files}
    write_atomic(folder / NAME, _text(content))


def read_manifest(folder: Path, kind: str, version: int, *, oldest: int = 0) -> dict[str, Any]:
    """The manifest of ``folder``, after checking it and every file that it names.

    Args:
        folder: where to look.
        kind: what the folder should be.
        version: the newest format version that the caller can read.
        oldest: the oldest one.

    Raises:
        ModelError: no such folder, another kind, another version, a damaged manifest, or a file that is
            missing or does not have the sha256 that the manifest states.
    """
    path = folder / NAME
    if not folder.exists():
        raise ModelError(f"no folder {folder}: name an anglehash {kind}")
    if not path.is_file():
        raise ModelError(f"{folder} is not an anglehash {kind}: it has no {NAME}")
    raw = path.read_bytes()
    try:
        content = json.loads(raw)
        if not isinstance(content, dict):
            raise TypeError
        content.pop("seal", None)
        intact = raw == _text(content)
    except (ValueError, TypeError, RecursionError):
        raise ModelError(f"{path} is damaged: it is not a JSON object of finite values") from None
    found = str(content.get("format"))
    if not found.startswith("anglehash-"):
        raise ModelError(f"{folder} is not an anglehash {kind}: {NAME} belongs to another program")
    if (
        not intact
        or not isinstance(content.get("version"), int)
        or not isinstance(content.get("files"), dict)
    ):
        raise ModelError(f"{path} is damaged: its content does not match its seal")
    if found != f"anglehash-{kind}":
        raise ModelError(f"{folder} is an {found}, but an anglehash-{kind} is wanted")
    if not oldest <= content["version"] <= version:
        newer = "upgrade anglehash, or " if content["version"] > version else ""
        raise ModelError(
            f"{folder} has the {kind} format {content['version']}, this anglehash reads {version}: "
            f"{newer}{_AGAIN.get(kind, 'make it again')}"
        )
    for name, expected in content["files"].items():
        if Path(name).name != name:  # the seal was right, so this is not damage
            raise ModelError(f"{path} names a file outside of its folder: {name!r}. It is not ours")
        verify_file(folder / name, expected)
    return content


def checked_info(raw: bytes) -> dict[str, Any]:
    """What the bytes of a manifest say, none of its files looked at; nothing where they do not match its seal.

    >>> checked_info(_text({"id": "m"})), checked_info(_text({"id": "m"}).replace(b"m", b"n")), checked_info(b"3")
    ({'id': 'm'}, {}, {})
    """
    try:
        content: dict[str, Any] = json.loads(raw)
        content.pop("seal", None)
        return content if raw == _text(content) else {}
    except (ValueError, TypeError, AttributeError, RecursionError):
        return {}


def verify_file(path: Path, expected: str) -> None:
    """Check one file against its sha256.

    Raises:
        ModelError: the file is missing or damaged.
    """
    if not path.is_file():
        raise ModelError(f"{path} is missing: restore it, or make the folder again")
    if sha256_file(path) != expected:
        raise ModelError(
            f"{path} is damaged: its sha256 is not the manifest's. Restore it, or make the folder again"
        )


def is_a(kind: str) -> Callable[[Path], bool]:
    """Tells folders of one kind from all others: what ``--force`` may replace."""
    return lambda folder: kind_of(folder) == kind


def kind_of(folder: Path) -> str | None:
    """What a folder says it is, without checking it: ``model``, ``gallery``, or ``None``."""
    try:
        content = json.loads((folder / NAME).read_bytes())
        found = str(content["format"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return found.removeprefix("anglehash-") if found.startswith("anglehash-") else None
