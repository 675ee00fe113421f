"""Engines that keep remote galleries. One file is one engine, and dropping a file in is enough.

Every engine file holds a function ``connect(target)``, which gives an
:class:`~anglehash.remote.backend.Backend`; the tests run over all of them.
"""

from __future__ import annotations

from anglehash.registry import Folder

BACKENDS = Folder("engine of remote galleries", "anglehash.remote.backends")
