"""Keys: who may read, and who may write as well."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Self

from anglehash.errors import ConfigError

Role = Literal["read", "write"]


@dataclass(frozen=True, slots=True)
class Keys:
    """The hashes of the keys; the keys themselves are kept nowhere, and so cannot be logged.

    Attributes:
        digests: sha256 of each key, with its role.
    """

    digests: tuple[tuple[bytes, Role], ...] = field(default=(), repr=False)

    @classmethod
    def read(cls, path: Path) -> Self:
        """The keys of a file: lines ``read:KEY`` and ``write:KEY``, ``#`` before a remark.

        Raises:
            ConfigError: a line is something else, or there is none.
        """
        digests: list[tuple[bytes, Role]] = []
        try:
            text = path.read_text(encoding="utf-8-sig")  # editors of Windows put a mark before it
        except UnicodeDecodeError:
            raise ConfigError(f"{path} is not text: lines read:KEY or write:KEY are wanted") from None
        for number, given in enumerate(text.splitlines(), start=1):
            line = given.strip()
            if not line or line.startswith("#"):
                continue
            role, _, key = line.partition(":")
            key = key.strip()
            if role not in ("read", "write") or not key or not key.isascii() or not key.isprintable():
                raise ConfigError(f"{path}, line {number}: a key is a line read:KEY or write:KEY")
            digests.append((_digest(key.encode()), "read" if role == "read" else "write"))
        if not digests:
            raise ConfigError(f"{path} holds no key: write a line read:KEY or write:KEY into it")
        return cls(tuple(digests))

    def __bool__(self) -> bool:
        return bool(self.digests)

    def role(self, authorization: bytes) -> Role | None:
        """What the holder of an ``Authorization`` header may do; ``None`` without a right key.

        Hashes are compared, all of them, each in constant time: how long it takes tells nothing of a key.

        >>> keys = Keys(((_digest(b"k"), "read"),))
        >>> keys.role(b"Bearer k"), keys.role(b"Bearer K"), keys.role(b"")
        ('read', None, None)
        """
        scheme, _, key = authorization.partition(b" ")
        given = _digest(key.strip())
        found: Role | None = None
        for digest, role in self.digests:
            if hmac.compare_digest(given, digest) and found != "write":
                found = role
        return found if scheme.lower() == b"bearer" else None


NO_KEYS = Keys()


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
