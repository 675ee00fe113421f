"""What forms, and the parameters of an address, say: texts that stand for JSON values."""

from __future__ import annotations

import json
from typing import Any

from starlette.requests import Request

from anglehash.search.filters import Filter
from anglehash.serve.web.forms import Form
from anglehash.serve.web.problems import RefusalError
from anglehash.serve.web.requests import FilterRequest, checked


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
    for name in values.keys() & {"k", "max_distance", "filter", "asymmetric"}:
        try:
            value = json.loads(values[name])
        except (ValueError, RecursionError):
            wanted = {"filter": "JSON", "asymmetric": "true or false"}.get(name, "a number")
            raise RefusalError(422, "invalid", f"{name}: {wanted} is wanted") from None
        values[name] = value
    return values


def labels_of(form: Form) -> list[str]:
    """The labels that images are sent with: ``cat|pet``, or a JSON list.

    Raises:
        RefusalError: 422.
    """
    if unknown := sorted(form.fields.keys() - {"labels"}):
        raise RefusalError(422, "invalid", f"{unknown[0][:200]}: no such field; there are image and labels")
    text = form.fields.get("labels", "")
    if not text.lstrip().startswith("["):
        return [label.strip() for label in text.split("|") if label.strip()]
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, list) or not all(isinstance(label, str) and label for label in found):
        raise RefusalError(422, "invalid", "labels: cat|pet, or a JSON list of texts")
    return found
