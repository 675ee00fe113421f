"""Bodies of requests: multipart forms, read as they come, and JSON.

Images to search by stay in memory, within a budget; images to be added go to a file each, which is rebuilt
under a name of ours. What a client calls its files is data: it never becomes a path.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from anglehash.server.errors import RefusalError
from anglehash.server.limits import Budget, Space

JSON_LIMIT = 2**20
FIELD_LIMIT = 64 * 2**10
NAME_LIMIT = 1024
"""Bytes of a JSON body, of a text field, and of the name of a field; characters of a file's name that are kept."""


class Upload(NamedTuple):
    """A file of a form.

    Attributes:
        name: what the client calls it; bytes that are no UTF-8 are kept as surrogates.
        data: its bytes, where it is in memory.
        path: its file, where it is on disk.
    """

    name: str
    data: bytes = b""
    path: Path | None = None


@dataclass(slots=True)
class Form:
    """A form that has come.

    Attributes:
        fields: the text fields.
        files: the files named ``image``.
    """

    fields: dict[str, str] = field(default_factory=dict)
    files: list[Upload] = field(default_factory=list)

    def discard(self) -> None:
        """Remove those of its files that are still where they came in."""
        for upload in self.files:
            if upload.path is not None:
                upload.path.unlink(missing_ok=True)


class Held:
    """Bytes of one request that are counted against a budget until it is answered."""

    def __init__(self, budget: Budget) -> None:
        self._budget, self._count = budget, 0

    def take(self, count: int) -> None:
        """Count more bytes."""
        self._budget.take(count)
        self._count += count

    def release(self) -> None:
        """All of them are free again."""
        self._budget.give_back(self._count)
        self._count = 0


@contextmanager
def holding(budget: Budget) -> Iterator[Held]:
    """Count bytes against a budget, and give them back at the end."""
    held = Held(budget)
    try:
        yield held
    finally:
        held.release()


async def read_json(request: Request, held: Held) -> Any:
    """The JSON value of a body.

    Raises:
        RefusalError: no JSON, or too much of it.
    """
    body = bytearray()
    async for chunk in request.stream():
        held.take(len(chunk))
        body += chunk
        if len(body) > JSON_LIMIT:
            raise RefusalError(
                413, "too-large", f"JSON of at most {JSON_LIMIT:,} bytes is taken", hang_up=True
            )
    try:
        return json.loads(bytes(body), parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise RefusalError(422, "no-json", "the body is not JSON") from None


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is not a valid JSON number")


async def read_form(
    request: Request, held: Held, *, most_files: int, folder: Path | None = None, space: Space | None = None
) -> Form:
    """The form that a multipart body holds.

    Args:
        request: its body has not been read.
        held: counts what stays in memory.
        most_files: maximum number of files.
        folder: files go here, under new names; in memory without it. After an error none is left.
        space: counts what goes to disk.

    Raises:
        RefusalError: no form, or too many parts.
    """
    _, options = parse_options_header(request.headers.get("content-type", ""))
    boundary = options.get(b"boundary", b"")
    if not 0 < len(boundary) <= 70:
        raise RefusalError(400, "bad-form", "a form names its boundary, of at most 70 characters")
    parts = _Parts(held, most_files, folder, space)
    parser = MultipartParser(boundary, parts.callbacks(), max_header_count=8, max_header_size=4096)
    try:
        async for chunk in request.stream():
            parser.write(chunk)
        if not parts.complete:
            raise RefusalError(400, "bad-form", "the form has no end")
    except BaseException as error:
        parts.discard()
        if isinstance(error, FormParserError):
            text = " ".join(str(error).split())[:200]
            raise RefusalError(400, "bad-form", f"not a form: {text}", hang_up=True) from None
        raise
    return parts.form


class _Parts:
    """Hears a parser, and keeps the parts of a form."""

    def __init__(self, held: Held, most_files: int, folder: Path | None, space: Space | None) -> None:
        self._held, self._most_files, self._folder, self._space = held, most_files, folder, space
        self._most_fields = 16
        self._header, self._value = bytearray(), bytearray()
        self._options: dict[bytes, bytes] = {}
        self._bytes = bytearray()  # of the part at hand
        self._file: BinaryIO | None = None
        self._path = Path()
        self._seen = 0
        self.complete = False
        self.form = Form()

    def callbacks(self) -> Any:
        """What the parser calls."""
        return {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._header.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
            "on_header_end": self._header_end,
            "on_headers_finished": self._start,
            "on_part_data": self._data,
            "on_part_end": self._end,
            "on_end": self._finish,
        }

    def discard(self) -> None:
        """Remove the files."""
        if self._file is not None:
            self._file.close()
            self._path.unlink(missing_ok=True)
        self.form.discard()

    def _begin(self) -> None:
        self._seen += 1
        if self._seen > self._most_files + self._most_fields:
            raise RefusalError(400, "bad-form", "the form has too many parts", hang_up=True)
        self._options = {}

    def _header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._options = parse_options_header(bytes(self._value))[1]
        self._header.clear()
        self._value.clear()

    def _start(self) -> None:
        if not 0 < len(self._options.get(b"name", b"")) <= NAME_LIMIT:
            raise RefusalError(400, "bad-form", "each part of a form has a name", hang_up=True)
        if not self._is_file():
            return
        if self._options[b"name"] not in (b"image", b"images"):
            raise RefusalError(400, "bad-form", "files are in fields named image", hang_up=True)
        if len(self.form.files) == self._most_files:
            raise RefusalError(
                400, "too-many-files", f"at most {self._most_files} images at once", hang_up=True
            )
        if self._folder is not None:
            handle, path = tempfile.mkstemp(dir=self._folder, prefix=".", suffix=".tmp")
            self._file, self._path = os.fdopen(handle, "wb"), Path(path)

    def _is_file(self) -> bool:
        return b"filename" in self._options or self._options.get(b"name") == b"image"

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._file is not None:
            if self._space is not None:
                self._space.take(end - start)
            self._file.write(memoryview(data)[start:end])
            return
        self._held.take(end - start)
        self._bytes += memoryview(data)[start:end]
        if len(self._bytes) > FIELD_LIMIT and not self._is_file():
            raise RefusalError(413, "too-large", f"a field has at most {FIELD_LIMIT:,} bytes", hang_up=True)

    def _end(self) -> None:
        name = self._options[b"name"].decode("utf-8", "surrogateescape")
        if self._is_file():
            shown = self._options.get(b"filename", b"").decode("utf-8", "surrogateescape")[:NAME_LIMIT]
            if self._file is not None:
                self._file.close()
                self.form.files.append(Upload(shown, path=self._path))
                self._file = None
            else:
                self.form.files.append(Upload(shown, bytes(self._bytes)))
        elif name in self.form.fields:
            raise RefusalError(400, "bad-form", f"the field {name!r} comes twice", hang_up=True)
        else:
            self.form.fields[name] = self._bytes.decode("utf-8", "surrogateescape")
        self._bytes = bytearray()

    def _finish(self) -> None:
        self.complete = True
