"""Thumbnails: made when they are asked for, and the last ones kept."""

from __future__ import annotations

import hashlib

from cachetools import LRUCache

from anglehash.errors import ImageError
from anglehash.gallery.store.items import Stored
from anglehash.server.decode_tasks import THUMBNAIL
from anglehash.server.errors import RefusalError
from anglehash.server.image_encoder import ImageEncoder
from anglehash.server.limits import Pool
from anglehash.server.originals import Originals

MEMORY = 64 * 2**20
"""Bytes of thumbnails that are kept: about 5,000."""


_PASSED_OVER = ("decoder-timeout", "decoder-died")


class Thumbnails:
    """The thumbnails of a gallery. It belongs to the event loop: no locks."""

    def __init__(self, originals: Originals, image_encoder: ImageEncoder, files: Pool) -> None:
        self._originals, self._image_encoder, self._files = originals, image_encoder, files
        self._kept: LRUCache[str, bytes] = LRUCache(MEMORY, getsizeof=len)
        self._dead: LRUCache[str, str] = LRUCache(
            1000
        )  # why an image cost a decoder its life: once is enough

    @property
    def size(self) -> int:
        """Bytes of what is kept."""
        return int(self._kept.currsize)

    async def of(self, stored: Stored, client: object) -> bytes:
        """The JPEG of an item.

        Args:
            stored: the item.
            client: who asks: clients take turns.

        Raises:
            RefusalError: 404, its image is gone or cannot be read any more; 503, too many wait.
        """
        tag = tag_of(stored)
        made = self._kept.get(tag)
        if made is None:
            reason = self._dead.get(tag)
            data = await self._files.run(self._originals.read, stored.item)
            try:
                if reason:
                    raise ImageError(reason, "as before")
                made = self._kept[tag] = await self._image_encoder.thumbnail(data, client)
            except ImageError as error:
                if error.reason in _PASSED_OVER:
                    self._dead[tag] = error.reason
                raise RefusalError(
                    404, "no-image", f"the image cannot be read any more: {error.reason}"
                ) from None
        return made


def tag_of(stored: Stored) -> str:
    """What a thumbnail depends on, as a quoted entity tag: another image has another."""
    item = stored.item
    facts = repr((item.content, item.id, item.date, item.content or stored.row, THUMBNAIL))
    return f'"{hashlib.sha256(facts.encode("utf-8", "surrogatepass")).hexdigest()[:32]}"'
