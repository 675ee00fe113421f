"""Images to codes and thumbnails: decoding in processes that may die, the network in this one.

A hostile image can hang or kill a decoder; it costs its own request, and the next one gets a new process.
"""

from __future__ import annotations

import time
from io import BytesIO
from queue import SimpleQueue
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from anglehash.codes import Codes
from anglehash.data.dataset import Arrays, ImageStore
from anglehash.data.images import Preprocessing, decode
from anglehash.data.worker import Function, Worker
from anglehash.errors import ImageError
from anglehash.serve.pictures import thumbnail
from anglehash.serve.web.limits import Pool

THUMBNAIL = 256
"""The longer side of a thumbnail, in pixels."""

SECONDS = 15.0
"""What one image may take to be decoded."""


def network_input(data: bytes, preprocessing: dict[str, Any]) -> bytes:
    """The pixels for the network; done in a worker.

    Raises:
        ImageError: the image is refused.
    """
    return Preprocessing.from_dict(preprocessing)(data).tobytes()


def thumbnail_jpeg(data: bytes) -> bytes:
    """A thumbnail, made anew from the pixels; done in a worker.

    Raises:
        ImageError: the image is refused.
    """
    return to_jpeg(decode(data, draft=2 * THUMBNAIL, salvage=True).pixels)


def to_jpeg(pixels: NDArray[np.uint8]) -> bytes:
    """The thumbnail of pixels: none of what else was in a file is left."""
    stream = BytesIO()
    thumbnail(pixels, THUMBNAIL).save(stream, "JPEG", quality=85)
    return stream.getvalue()


class Crew:
    """Some workers with one job; as many threads may ask as there are workers, others wait."""

    def __init__(self, function: Function, settings: dict[str, Any], count: int) -> None:
        self._workers = [Worker(function, settings, SECONDS) for _ in range(count)]
        self._free: SimpleQueue[Worker] = SimpleQueue()
        for worker in self._workers:
            self._free.put(worker)

    def apply(self, data: bytes) -> bytes:
        """The function's result for one image.

        Raises:
            ImageError: it is refused, took too long, or killed its process twice.
        """
        worker = self._free.get()
        try:
            return worker.apply(data)
        finally:
            self._free.put(worker)

    def stop(self) -> None:
        """End the processes."""
        for worker in self._workers:
            worker.stop()


class Encoder(Protocol):
    """What makes codes: a model, or a bundle that was made from one."""

    def encode(self, images: ImageStore) -> Any:
        """Codes and problems of images; see :meth:`anglehash.learn.model.Model.encode`."""
        ...


class Seen(NamedTuple):
    """The code of an image, and the seconds of decoding and of the network."""

    code: Codes
    decode: float
    network: float


class Eyes:
    """Encodes query images and makes thumbnails, both within bounds.

    Args:
        model: the gallery's own; ``None`` where it has none, and no image can be searched by.
        preprocessing: how its images are prepared, as its manifest has it.
        queue: images that may be worked on or wait.
        workers: processes that decode query images.
    """

    def __init__(
        self, model: Encoder | None, preprocessing: dict[str, Any], *, queue: int, workers: int
    ) -> None:
        self.model = model
        self.images = Pool("encoding", workers, queue)  # the queue; its threads decode
        self._network = Pool("the network", 1, queue + workers)
        self._thumbnails = Pool("thumbnails", 1, 4 * queue)
        self._artists = Crew(thumbnail_jpeg, {}, 1)
        self._decoders: Crew | None = None
        self._size = 0
        if model is not None:
            self._size = preprocessing["size"]
            self._decoders = Crew(network_input, {"preprocessing": preprocessing}, workers)

    async def code(self, data: bytes) -> Seen:
        """The code of an image; the same as ``anglehash search`` makes.

        Raises:
            ImageError: the image is refused.
            RefusalError: 503, too many wait already.
        """
        assert self._decoders is not None, "the route has seen to it"
        with self.images.place():
            began = time.perf_counter()
            raw = await self.images.run_in_place(self._decoders.apply, data)
            decoded = time.perf_counter()
            code = await self._network.run_in_place(self._encode, raw)
            return Seen(code, decoded - began, time.perf_counter() - decoded)

    def _encode(self, raw: bytes) -> Codes:
        assert self.model is not None, "it was there a moment ago"
        pixels = np.frombuffer(raw, np.uint8).reshape(1, self._size, self._size, 3)
        found = self.model.encode(Arrays(pixels))
        if found.problems:
            raise ImageError(*found.problems[0][1:])
        return np.ascontiguousarray(found.codes)

    async def thumbnail(self, data: bytes | NDArray[np.uint8]) -> bytes:
        """A JPEG thumbnail of an image file's bytes, or of pixels.

        Raises:
            ImageError: the image is refused.
            RefusalError: 503, too many wait already.
        """
        if isinstance(data, bytes):
            return await self._thumbnails.run(self._artists.apply, data)
        return await self._thumbnails.run(to_jpeg, data)

    def try_decoding(self, data: bytes) -> None:
        """Decode an image in a process that may die.

        Raises:
            ImageError: it is refused.
        """
        self._artists.apply(data)

    def warm(self) -> None:
        """Encode an image and make a thumbnail, so that the first client does not wait for it."""
        grey = np.full((64, 64, 3), 128, np.uint8)
        self._artists.apply(to_jpeg(grey))
        if self._decoders is not None:
            self._encode(self._decoders.apply(to_jpeg(grey)))

    def close(self) -> None:
        """End the processes; what is under way fails."""
        for crew in (self._artists, self._decoders):
            if crew is not None:
                crew.stop()
        for pool in (self.images, self._network, self._thumbnails):
            pool.close()
