"""Thumbnails: made when they are asked for, and the last ones kept."""

from __future__ import annotations

import hashlib
from collections import OrderedDict

from anglehash.errors import ImageError
from anglehash.search.store.items import Stored
from anglehash.serve.web.decoding import THUMBNAIL
from anglehash.serve.web.eyes import Eyes
from anglehash.serve.web.limits import Pool
from anglehash.serve.web.originals import Originals
from anglehash.serve.web.problems import RefusalError

MEMORY = 64 * 2**20
"""Bytes of thumbnails that are kept: about 5,000."""


class Thumbnails:
    """The thumbnails of a gallery. It belongs to the event loop: no locks."""

    def __init__(self, originals: Originals, eyes: Eyes, files: Pool) -> None:
        self._originals, self._eyes, self._files = originals, eyes, files
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self.bytes = 0

    async def of(self, stored: Stored) -> bytes:
        """The JPEG of an item.

        Raises:
            RefusalError: 404, its image is gone or cannot be read any more; 503, too many wait.
        """
        tag = tag_of(stored)
        if tag in self._kept:
            self._kept.move_to_end(tag)
            return self._kept[tag]
        data = await self._files.run(self._originals.read, stored.item)
        try:
            made = await self._eyes.thumbnail(data)
        except ImageError as error:
            raise RefusalError(
                404, "no-image", f"the image cannot be read any more: {error.reason}"
            ) from None
        self._keep(tag, made)
        return made

    def _keep(self, tag: str, made: bytes) -> None:
        if tag not in self._kept:
            self._kept[tag] = made
            self.bytes += len(made)
        while self.bytes > MEMORY:
            self.bytes -= len(self._kept.popitem(last=False)[1])


def tag_of(stored: Stored) -> str:
    """What a thumbnail depends on, as a quoted entity tag: another image has another."""
    item = stored.item
    facts = repr((item.content, item.id, item.date, item.content or stored.row, THUMBNAIL))
    return f'"{hashlib.sha256(facts.encode("utf-8", "surrogatepass")).hexdigest()[:32]}"'
