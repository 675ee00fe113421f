"""Requests as the OpenAPI document shows them, and as they are checked.

They are strict: a text is not a number, and an unknown field is an error, so that a misspelt one is heard of.
"""

from __future__ import annotations

import math
import re
from datetime import datetime
from functools import partial
from typing import Annotated, Any, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
    model_validator,
)

from anglehash.errors import ConfigError
from anglehash.gallery.filters import Condition, Filter
from anglehash.server.errors import RefusalError

R = TypeVar("R", bound=BaseModel)


LONGEST_NAME, LONGEST_TEXT, MOST_LABELS = 4096, 1000, 100
"""Characters of an id and of any other text, and labels of one request."""


def check_text(value: Any, longest: int = LONGEST_TEXT, *, raw: bool = False) -> str:
    """The one rule for every text that comes in.

    Args:
        value: the text.
        longest: characters at most.
        raw: it may hold bytes that are not UTF-8, as the escapes that answers give them in: it names what is
            there already, or a file.

    Raises:
        ValueError: not a text, too long, with a NUL, or with half of a surrogate pair.

    >>> check_text("caf" + chr(0xDCE9), raw=True) == "caf" + chr(0xDCE9)
    True
    >>> check_text("caf" + chr(0xDCE9))
    Traceback (most recent call last):
    ...
    ValueError: this text has half of a surrogate pair, which stands for no character
    """
    if not isinstance(value, str) or len(value) > longest:
        raise ValueError(f"a text of at most {longest:,} characters is wanted")
    if "\0" in value:
        raise ValueError("this text has a NUL character, which no text may have")
    try:
        value.encode("utf-8", "surrogateescape" if raw else "strict")
    except UnicodeEncodeError:
        raise ValueError("this text has half of a surrogate pair, which stands for no character") from None
    return value


def _schema(longest: int) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "maxLength": longest}, mode="validation")


# Any, for pydantic's own texts refuse bytes that are not UTF-8.
Name = Annotated[
    Any, AfterValidator(partial(check_text, longest=LONGEST_NAME, raw=True)), _schema(LONGEST_NAME)
]
Text = Annotated[Any, AfterValidator(partial(check_text, raw=True)), _schema(LONGEST_TEXT)]
Label = Annotated[Any, AfterValidator(check_text), _schema(LONGEST_TEXT)]
Word = Annotated[str, Field(max_length=LONGEST_TEXT), AfterValidator(check_text)]
K = Annotated[int, Field(ge=1, le=1000, description="Maximum number of answers.")]
Distance = Annotated[int, Field(ge=0, le=1024, description="Maximum distance, in bits.")]
Cursor = Annotated[str, Field(max_length=8000, description="Where an earlier answer ended.")]
Code = Annotated[
    str, Field(pattern=r"^([0-9a-fA-F]{2})+$", max_length=256, description="A packed code in hexadecimal.")
]
Value = Word | int | float | bool | None

_COMPARISONS = ("=", "!=", "<", "<=", ">", ">=")
_YEARS = range(1970, 2262)  # what 64 bits of nanoseconds hold


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class FilterRequest(_Request):
    """Which items are looked at; what is not given does not matter."""

    labels: Annotated[list[Text], Field(max_length=100, description="One of these labels.")] = []
    path: Annotated[Text | None, Field(description="The id matches this pattern: *, ?, [abc].")] = None
    after: Annotated[Text | None, Field(description="The file was changed at or after this ISO date.")] = None
    before: Annotated[Text | None, Field(description="The file was changed before this ISO date.")] = None
    where: Annotated[
        dict[Word, Value | dict[str, Value]],
        Field(max_length=20, description="Metadata: column: value, or column: {comparison: value}."),
    ] = {}

    def filter(self) -> Filter:
        """The filter that is meant.

        >>> FilterRequest(labels=["cat"], where={"year": {">=": 2019}}).filter().where
        (Condition(column='year', compare='>=', value='2019'),)

        Raises:
            ConfigError: a date or a comparison cannot be read.
        """
        return Filter(
            labels=tuple(self.labels),
            path=self.path,
            after=_moment(self.after),
            before=_moment(self.before),
            where=tuple(_conditions(self.where)),
        )


class BatchQuery(_Request):
    """One of several queries."""

    id: Name | None = None
    code: Code | None = None

    @model_validator(mode="after")
    def _one_query(self) -> Self:
        if (self.id is None) == (self.code is None):
            raise ValueError("give id or code, and not both")
        return self


class SearchRequest(BatchQuery):
    """A search by an item of the gallery, or by a code."""

    k: K = 20
    max_distance: Distance | None = None
    filter: FilterRequest | None = None
    cursor: Cursor | None = None


class ImageFields(_Request):
    """What may stand beside the image in a form."""

    k: K = 20
    max_distance: Distance | None = None
    filter: FilterRequest | None = None
    asymmetric: bool = False


class UploadFields(_Request):
    """What may stand beside the images in a form."""

    labels: Annotated[list[Label], Field(max_length=MOST_LABELS)] = []
    replace: bool = False


class BatchRequest(_Request):
    """Several searches at once."""

    queries: Annotated[list[BatchQuery], Field(min_length=1, max_length=100)]
    k: Annotated[int, Field(ge=1, le=100)] = 20
    max_distance: Distance | None = None
    filter: FilterRequest | None = None


def checked(kind: type[R], value: Any) -> R:
    """A request of a kind, out of JSON values.

    Raises:
        RefusalError: 422, with the first fault.
    """
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise RefusalError(422, "invalid", first_fault(error.errors())) from None


def first_fault(errors: Any) -> str:
    """One line about the first of some faults.

    >>> first_fault([{"loc": ("body", "k"), "msg": "Input should be greater than 0"}])
    'k: Input should be greater than 0'
    """
    where = ".".join(str(part) for part in errors[0]["loc"] if part not in ("body", "query", "path"))
    text = re.sub(r"^Value error, ", "", errors[0]["msg"])
    return f"{where[:200]}: {text}" if where else text


def _moment(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"a date is such as 2024-05-01 or 2024-05-01T12:00:00, got {text!r}") from None
    if moment.year not in _YEARS:
        raise ConfigError(f"a date is in the years {_YEARS.start} to {_YEARS.stop - 1}, got {text!r}")
    return moment


def _conditions(where: dict[str, Any]) -> list[Condition]:
    found = []
    for column, value in where.items():
        for compare, operand in (value if isinstance(value, dict) else {"=": value}).items():
            if compare not in _COMPARISONS:
                raise ConfigError(f"a comparison is one of {', '.join(_COMPARISONS)}, got {compare!r}")
            found.append(Condition(column, compare, _operand(operand)))
    return found


def _operand(value: Any) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError("a number in a filter is finite")
    return "" if value is None else str(value)


UPLOAD_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "image": {"type": "array", "items": {"type": "string", "format": "binary"}},
                        "labels": {"type": "string", "description": "cat|pet, or a JSON list."},
                        "replace": {
                            "type": "boolean",
                            "description": "Give these labels also to images that are there already.",
                        },
                    },
                    "required": ["image"],
                }
            }
        },
    }
}
"""The body of a request that adds images, for the OpenAPI document."""


def body_of(kind: type, *, image: bool = False) -> dict[str, Any]:
    """The body of a request, for the OpenAPI document: it is read by hand, for a form is read as it comes."""
    content: dict[str, Any] = {"application/json": {"schema": kind.model_json_schema()}}  # type: ignore[attr-defined]
    if image:
        fields = {
            "image": {"type": "string", "format": "binary"},
            "k": {"type": "integer", "minimum": 1, "maximum": 1000},
            "max_distance": {"type": "integer", "minimum": 0},
            "filter": {"type": "string", "description": "The filter as JSON."},
            "asymmetric": {
                "type": "boolean",
                "description": "Compare the image's logits with the codes.",
            },
        }
        content["multipart/form-data"] = {
            "schema": {"type": "object", "properties": fields, "required": ["image"]}
        }
    return {"requestBody": {"required": True, "content": content}}
