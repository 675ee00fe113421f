"""One question to a gallery: an image or one of its own items, with a page of answers."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

from anglehash.data.image_hash import picture_of
from anglehash.encode.encoder import Encoder, Encoding
from anglehash.encode.load import OWN, Using
from anglehash.errors import ConfigError, ImageError
from anglehash.gallery.filters import Filter
from anglehash.gallery.folder import FolderGallery
from anglehash.gallery.interface import AnyGallery
from anglehash.gallery.query import Hits


class Question(NamedTuple):
    """What is asked.

    Attributes:
        query: an image file, ``-`` for the one on standard input, or
        similar_to: the id of an item.
        k: maximum number of answers.
        radius: maximum distance, in bits.
        cursor: where an earlier answer ended.
        engine: who searches.
        where: look only at items that pass.
        asymmetric: compare the image's logits with the gallery's codes.
    """

    query: Path | None
    similar_to: str | None
    k: int | None
    radius: int | None
    cursor: str | None
    engine: str
    where: Filter
    asymmetric: bool = False

    @property
    def size(self) -> int | None:
        """How many answers are wanted: 10 where nothing is said."""
        return 10 if self.k is None and (self.radius is None or self.cursor) else self.k


def answers(gallery: AnyGallery, question: Question, using: Using = OWN) -> tuple[Hits, str | None]:
    """The answers, best first, and a cursor to the next ones.

    Raises:
        ConfigError: a setting is out of range, or the cursor is of another search.
        DataError: no such item.
        ImageError: the query image cannot be used.
        ModelError: the gallery is damaged.
        RemoteError: the database that keeps it is down.
    """
    if question.asymmetric and not isinstance(gallery, FolderGallery):
        raise ConfigError(
            f"{gallery.path} is kept by a database, which compares codes alone: leave out --asymmetric"
        )
    size, radius, engine, where = question.size, question.radius, question.engine, question.where
    if question.similar_to is not None:
        if question.cursor:
            raise ConfigError("--similar-to has one page of answers: ask for more of them with -k")
        hits = gallery.similar(
            question.similar_to, size or len(gallery), radius=radius, engine=engine, where=where
        )
        return hits, None
    assert question.query is not None, "the command has seen to it"
    image = read_query(question.query)
    encoder = model_of(gallery, using)
    gallery.level = encoder.level
    logits, picture = encoding_of(encoder, image, str(question.query)).logits, picture_of(image)
    asymmetric = question.asymmetric
    if size is None:
        hits = gallery.search(
            logits, radius=radius, engine=engine, where=where, asymmetric=asymmetric, pictures=[picture]
        )[0]
        return hits, None
    page = gallery.page(
        logits, size, cursor=question.cursor, radius=radius, engine=engine, where=where,
        asymmetric=asymmetric, picture=picture,
    )  # fmt: skip
    return page.hits, page.cursor


def model_of(gallery: AnyGallery, using: Using = OWN) -> Encoder:
    """The gallery's model or bundle: the one place in which searches and the service open it.

    Raises:
        ModelError: it is damaged, or not the one that made the gallery's codes.
        MissingExtraError: it is a model, and torch is not installed.
    """
    return using.open(gallery)


def read_query(query: Path) -> bytes:
    """The bytes of an image file, or of the one on standard input where it is called ``-``.

    Raises:
        ImageError: it cannot be read; the message names it.
    """
    from anglehash.data.images.decoding import Limits, read_file

    try:
        if str(query) != "-":
            return read_file(query)
        limits = Limits()
        image = sys.stdin.buffer.read(limits.max_bytes + 1)
        limits.check_bytes(len(image))
        return image
    except ImageError as error:
        raise ImageError(error.reason, f"{_shown(query)}: {error.detail}") from error


def encoding_of(model: Encoder, image: bytes, query: str) -> Encoding:
    """The code of an encoded image, and its logits.

    Args:
        model: who encodes.
        image: the bytes of a file.
        query: its name, for messages.

    Raises:
        ImageError: it cannot be used; the message names it.
    """
    from anglehash.data.dataset import Encoded

    found = model.encode(Encoded([image]))
    if found.problems:
        _, reason, detail = found.problems[0]
        raise ImageError(reason, f"{_shown(query)}: {detail}")
    return found


def _shown(query: str | Path) -> str:
    return "standard input" if str(query) == "-" else str(query)
