"""Images to codes and thumbnails: decoding in processes that may die, the network in this one.

A hostile image can hang or kill a decoder; it costs its own request, and the next one gets a new process.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from queue import LifoQueue
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from anglehash.data.dataset import Arrays
from anglehash.data.image_hash import KEY_BYTES, Picture
from anglehash.data.images.worker import Function, Worker
from anglehash.encode.encoder import Encoder, Encoding
from anglehash.errors import ImageError, ModelError
from anglehash.server.decode_tasks import KEYS, framed, network_input, thumbnail_jpeg, to_jpeg
from anglehash.server.errors import busy
from anglehash.server.limits import FairPool, Pool

THUMBNAIL_SECONDS = TRIAL_SECONDS = 15.0
"""What an image of the gallery, and one that is to be added, may take to be decoded."""


class WorkerPool:
    """Some workers with one job; as many threads may ask as there are workers, others wait."""

    def __init__(self, function: Function, count: int, seconds: float) -> None:
        self._workers = [Worker(function, {}, seconds) for _ in range(count)]
        self._free: LifoQueue[Worker] = LifoQueue()  # one that has started before one that has not
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

    def warm(self, data: bytes) -> None:
        """Start all processes, with one image for each."""
        with ThreadPoolExecutor(len(self._workers)) as threads:
            list(threads.map(Worker.apply, self._workers, [data] * len(self._workers)))

    def stop(self) -> None:
        """End the processes; threads that wait for one come back."""
        for worker in self._workers:
            worker.stop()

    def close(self) -> None:
        """Free what they held, once no thread waits for one."""
        for worker in self._workers:
            worker.close()


class Seen(NamedTuple):
    """The code of an image with its logits, its keys, and the seconds of decoding and of the network."""

    found: Encoding
    picture: Picture
    decode: float
    network: float


class _LoadedModel(NamedTuple):
    """A model and what prepares images for it.

    Attributes:
        model: it.
        id: its identity, which takes 20 ms to work out.
        preprocessing: how its images are prepared, as its manifest has it.
    """

    model: Encoder
    id: str
    preprocessing: dict[str, Any]


class ImageEncoder:
    """Encodes query images and makes thumbnails, both within bounds.

    Args:
        queue: images that may be worked on or wait.
        workers: processes that decode query images; they stay the same when the model changes.
        seconds: what a query image may take to be decoded.
    """

    def __init__(self, *, queue: int, workers: int, seconds: float) -> None:
        self.images = FairPool("decoding", workers, queue)
        self._network = Pool("the network", 1, queue + workers)
        self._thumbnails = FairPool("thumbnails", 1, 4 * queue)
        self._decoders = WorkerPool(network_input, workers, seconds)
        self._artists = WorkerPool(thumbnail_jpeg, 1, THUMBNAIL_SECONDS)
        self._trials = WorkerPool(thumbnail_jpeg, 1, TRIAL_SECONDS)
        self._loaded_model: _LoadedModel | None = None

    @property
    def model(self) -> Encoder | None:
        """The model; ``None`` where no image can be encoded."""
        return self._loaded_model and self._loaded_model.model

    def use_model(self, model: Encoder, preprocessing: dict[str, Any]) -> None:
        """Use a model from now on; what is under way ends with the one before.

        Args:
            model: the gallery's own.
            preprocessing: how its images are prepared, as its manifest has it.
        """
        self._loaded_model = _LoadedModel(model, model.id, preprocessing)

    async def code(self, data: bytes, model_id: str, client: object) -> Seen:
        """The code of an image by the model of this id; the same as ``anglehash search`` makes.

        Args:
            data: the image.
            model_id: the model.
            client: who asks: clients take turns.

        Raises:
            ImageError: the image is refused.
            RefusalError: 503, too many wait already, or the model is being changed.
        """
        loaded_model = self._loaded_model
        if loaded_model is None or loaded_model.id != model_id:
            raise busy("the gallery was encoded with another model just now: come again in a moment")
        began = time.perf_counter()
        raw = await self.images.run(client, self._decoders.apply, framed(data, loaded_model.preprocessing))
        decoded = time.perf_counter()
        found = await self._network.run(_encode, loaded_model, raw)
        picture = Picture(raw[:KEY_BYTES], raw[KEY_BYTES:KEYS])
        return Seen(found, picture, decoded - began, time.perf_counter() - decoded)

    def encoder_of(self, model_id: str) -> Encoder:
        """The model, if it is the one of this id.

        Raises:
            ModelError: the gallery has another one now.
        """
        if self._loaded_model is None or self._loaded_model.id != model_id:
            raise ModelError(
                f"the gallery was encoded again with the model {model_id}: come again in a moment"
            )
        return self._loaded_model.model

    async def thumbnail(self, data: bytes | NDArray[np.uint8], client: object) -> bytes:
        """A JPEG thumbnail of an image file's bytes, or of pixels.

        Raises:
            ImageError: the image is refused.
            RefusalError: 503, too many wait already.
        """
        if isinstance(data, bytes):
            return await self._thumbnails.run(client, self._artists.apply, data)
        return await self._thumbnails.run(client, to_jpeg, data)

    def try_decoding(self, data: bytes) -> None:
        """Decode an image in a process that may die.

        Raises:
            ImageError: it is refused.
        """
        self._trials.apply(data)

    def warm(self) -> None:
        """Encode an image and make a thumbnail, so that the first client does not wait for it."""
        grey = to_jpeg(np.full((64, 64, 3), 128, np.uint8))
        self._artists.warm(grey)
        if self._loaded_model is not None:
            image = framed(grey, self._loaded_model.preprocessing)
            self._decoders.warm(image)
            _encode(self._loaded_model, self._decoders.apply(image))

    def close(self) -> None:
        """End the processes; what is under way fails."""
        crews = self._decoders, self._artists, self._trials
        for workers in crews:
            workers.stop()
        for pool in (self.images, self._network, self._thumbnails):
            pool.close()
        for workers in crews:
            workers.close()


def _encode(loaded_model: _LoadedModel, raw: bytes) -> Encoding:
    size = loaded_model.preprocessing["size"]
    pixels = np.frombuffer(raw, np.uint8, offset=KEYS).reshape(1, size, size, 3)
    found = loaded_model.model.encode(Arrays(pixels))
    if found.problems:
        raise ImageError(*found.problems[0][1:])
    return found
