"""What forms, and the parameters of an address, say: texts that stand for JSON values."""

from __future__ import annotations

import json
from typing import Any

from starlette.requests import Request

from anglehash.gallery.filters import Filter
from anglehash.server.errors import RefusalError
from anglehash.server.forms import NAME_LIMIT, Form
from anglehash.server.requests import FilterRequest, UploadFields, check_text, checked


def is_form(request: Request) -> bool:
    """Whether the body is a form.

    Raises:
        RefusalError: 415, it is neither that nor JSON.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in ("multipart/form-data", "application/json"):
        raise RefusalError(415, "unknown-body", "send multipart/form-data with an image, or application/json")
    return kind == "multipart/form-data"


def filter_of(text: str) -> Filter:
    """The filter that a text is.

    Raises:
        RefusalError: 422, it is none.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise RefusalError(422, "invalid", "filter: JSON is wanted") from None
    return checked(FilterRequest, value).filter()


def values_of(form: Form) -> dict[str, Any]:
    """The text fields of a form as JSON values; those that are empty are not given.

    Raises:
        RefusalError: 422, one is not what it should be.
    """
    values: dict[str, Any] = {name: text for name, text in form.fields.items() if text.strip()}
    for name in values.keys() & {"k", "max_distance", "filter", "asymmetric", "replace"}:
        try:
            value = json.loads(values[name])
        except (ValueError, RecursionError):
            truth = "true or false"
            wanted = {"filter": "JSON", "asymmetric": truth, "replace": truth}.get(name, "a number")
            raise RefusalError(422, "invalid", f"{name}: {wanted} is wanted") from None
        values[name] = value
    return values


def upload_fields(form: Form) -> UploadFields:
    """What images are sent with: labels as ``cat|pet`` or a JSON list, and whether they replace others.

    Raises:
        RefusalError: 422.
    """
    values = values_of(form)
    text = values.get("labels", "")
    values["labels"] = [label.strip() for label in text.split("|") if label.strip()]
    if text.lstrip().startswith("["):
        try:
            values["labels"] = json.loads(text)
        except (ValueError, RecursionError):
            raise RefusalError(422, "invalid", "labels: cat|pet, or a JSON list of texts") from None
    found = checked(UploadFields, values)
    if not all(label.strip() for label in found.labels):
        raise RefusalError(422, "invalid", "labels: a label has at least one character that is seen")
    for upload in form.files:
        try:
            check_text(upload.name, NAME_LIMIT, raw=True)
        except ValueError as error:
            raise RefusalError(422, "invalid", f"the name of a file: {error}") from None
    return found
