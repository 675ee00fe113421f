"""Refusals: every error leaves the service as ``application/problem+json`` with a reason."""

from __future__ import annotations

import errno
import json
import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.responses import Response

from anglehash.errors import (
    AnglehashError,
    CodeMismatchError,
    ConfigError,
    ImageError,
    ModelError,
)

_log = logging.getLogger("anglehash.cli")

_IMAGE_STATUS = {"not-an-image": 415, "unsupported-format": 415, "empty": 415, "too-large": 413}
"""The statuses of images that are refused; of all other reasons 422."""


class RefusalError(Exception):
    """A request that is refused.

    Attributes:
        status: of HTTP.
        reason: a short code for programs.
        detail: one line for a person.
        headers: further headers of the answer.
        hang_up: close the connection: what follows on it cannot be understood, or is not wanted.
    """

    def __init__(
        self,
        status: int,
        reason: str,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        hang_up: bool = False,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.reason = reason
        self.detail = detail
        self.headers = dict(headers or {}) | ({"Connection": "close"} if hang_up else {})
        self.hang_up = hang_up


def busy(detail: str) -> RefusalError:
    """Too much to do: come again in a second."""
    return RefusalError(503, "busy", detail, headers={"Retry-After": "1"})


def json_bytes(value: Any) -> bytes:
    r"""Plain ASCII JSON: names that are not UTF-8 keep their escapes, and so every byte.

    >>> json_bytes({"id": "caf" + chr(0xDCE9)})
    b'{"id":"caf\\udce9"}'
    """
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode("ascii")


def answer(value: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """JSON with a status."""
    return Response(json_bytes(value), status, dict(headers or {}), "application/json")


def problem(refusal: RefusalError) -> Response:
    """The answer to a request that is refused."""
    value = {
        "type": "about:blank",
        "title": HTTPStatus(refusal.status).phrase,
        "status": refusal.status,
        "detail": refusal.detail,
        "reason": refusal.reason,
    }
    return Response(json_bytes(value), refusal.status, refusal.headers, "application/problem+json")


def refusal_of(error: Exception) -> RefusalError:
    """What an error of ours, of the disk, or of nobody's expectation is to a client.

    >>> refusal_of(ImageError("not-an-image", "begins with b'<html'")).status
    415
    """
    match error:
        case RefusalError():
            return error
        case ImageError():
            return RefusalError(_IMAGE_STATUS.get(error.reason, 422), error.reason, error.detail)
        case CodeMismatchError() | ConfigError():
            return RefusalError(422, "invalid", str(error))
        case ClientDisconnect():  # nobody reads this, and it is nobody's fault
            return RefusalError(400, "gone", "the client went away")
        case OSError(errno=errno.ENOSPC | errno.EDQUOT):
            return RefusalError(507, "disk-full", "the disk is full: nothing was changed")
        case ModelError():
            _log.error("%s", error)
            return RefusalError(503, "gallery", "the gallery cannot be read: see the log of the service")
        case AnglehashError():
            return RefusalError(422, "invalid", str(error))
    _log.error("unexpected", exc_info=error)
    return RefusalError(500, "internal", "something went wrong here: see the log of the service")
