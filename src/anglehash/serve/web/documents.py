"""Requests and answers as the OpenAPI document shows them; requests are checked by these classes.

They are strict: a text is no number, and an unknown field is an error, so that a misspelt one is heard of.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import datetime
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
from anglehash.search.filters import Condition, Filter
from anglehash.serve.web.problems import RefusalError

R = TypeVar("R", bound=BaseModel)


def _text(longest: int) -> Callable[[Any], str]:
    """Check for a text that may hold bytes that are no UTF-8, as surrogates: pydantic's own refuses them."""

    def check(value: Any) -> str:
        if not isinstance(value, str) or len(value) > longest:
            raise ValueError(f"a text of at most {longest} characters is wanted")
        return value

    return check


Name = Annotated[
    Any, AfterValidator(_text(4096)), WithJsonSchema({"type": "string", "maxLength": 4096}, mode="validation")
]
Text = Annotated[
    Any, AfterValidator(_text(1000)), WithJsonSchema({"type": "string", "maxLength": 1000}, mode="validation")
]
Word = Annotated[str, Field(max_length=1000)]
K = Annotated[int, Field(ge=1, le=1000, description="At most so many answers.")]
Distance = Annotated[int, Field(ge=0, le=1024, description="None farther away than so many bits.")]
Cursor = Annotated[str, Field(max_length=1000, description="Where an earlier answer ended.")]
Code = Annotated[
    str, Field(pattern=r"^([0-9a-fA-F]{2})+$", max_length=256, description="A packed code in hexadecimal.")
]
Value = str | int | float | bool | None

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


class SearchRequest(_Request):
    """A search by an item of the gallery, or by a code."""

    id: Name | None = None
    code: Code | None = None
    k: K = 20
    max_distance: Distance | None = None
    filter: FilterRequest | None = None
    cursor: Cursor | None = None

    @model_validator(mode="after")
    def _one_query(self) -> Self:
        if (self.id is None) == (self.code is None):
            raise ValueError("give id or code, and not both")
        return self


class ImageFields(_Request):
    """What may stand beside the image in a form."""

    k: K = 20
    max_distance: Distance | None = None
    filter: FilterRequest | None = None


class BatchQuery(_Request):
    """One of several queries."""

    id: Name | None = None
    code: Code | None = None

    @model_validator(mode="after")
    def _one_query(self) -> Self:
        if (self.id is None) == (self.code is None):
            raise ValueError("give id or code, and not both")
        return self


class BatchRequest(_Request):
    """Several searches at once."""

    queries: Annotated[list[BatchQuery], Field(min_length=1, max_length=100)]
    k: Annotated[int, Field(ge=1, le=100)] = 20
    max_distance: Distance | None = None
    filter: FilterRequest | None = None


class Result(BaseModel):
    """One answer."""

    id: str
    distance: int
    labels: list[str]
    metadata: dict[str, Any]
    code: str
    item: str
    thumbnail: str


class Query(BaseModel):
    """What was searched by."""

    code: str
    bits: int
    labels: list[str] | None = None


class SearchAnswer(BaseModel):
    """Answers, nearest first, and where the next ones begin."""

    results: list[Result]
    next_cursor: str | None
    model: str
    query: Query


class Results(BaseModel):
    """The answers to one of several queries."""

    results: list[Result]


class BatchAnswer(BaseModel):
    """The answers to several queries, in their order."""

    answers: list[Results]


class ListedItem(BaseModel):
    """An item in a list."""

    id: str
    labels: list[str]
    item: str
    thumbnail: str


class ListAnswer(BaseModel):
    """Some items in the gallery's order, and where the next ones begin."""

    results: list[ListedItem]
    next_cursor: str | None


class ItemAnswer(BaseModel):
    """All that is known of an item."""

    id: str
    labels: list[str]
    metadata: dict[str, Any]
    code: str
    bits: int
    added: Annotated[int, Field(description="The generation of the gallery in which it was added.")]
    date: Annotated[str | None, Field(description="When its file was changed last.")]
    size: Annotated[int | None, Field(description="Bytes of its file.")]
    status: Annotated[str, Field(description="ok, or missing: there is no image file any more.")]
    item: str
    thumbnail: str


class LabelCount(BaseModel):
    """A label and how many items have it."""

    name: str
    count: int


class ModelFacts(BaseModel):
    """The model that made the codes."""

    id: str
    method: str | None
    backbone: str | None
    size: int | None
    classes: list[str] | None


class GalleryAnswer(BaseModel):
    """What the gallery is, and what may be done with it."""

    items: int
    bits: int
    generation: int
    model: ModelFacts
    labels: list[LabelCount]
    columns: list[str]
    can_write: bool
    needs_key: bool
    can_encode: bool


class ReasonCount(BaseModel):
    """A reason and how many files it kept out."""

    reason: str
    count: int


class ProblemFile(BaseModel):
    """A file that gave no code."""

    path: str
    reason: str


class Problems(BaseModel):
    """Files that gave no code."""

    count: int
    reasons: list[ReasonCount]
    files: list[ProblemFile]


class HealthAnswer(BaseModel):
    """How good the codes are, by what can be counted."""

    items: int
    unique_codes: int
    bits: list[float]
    problems: Problems


class BitsAnswer(BaseModel):
    """Which labels a bit leans to."""

    labels: list[str]
    lean: list[list[float]]


class JobAccepted(BaseModel):
    """A job that was taken up."""

    job: str
    url: str


class Skipped(BaseModel):
    """An image that was not added."""

    name: str
    reason: str


class JobAnswer(BaseModel):
    """How far a job is."""

    id: str
    state: Annotated[str, Field(pattern="^(queued|running|done|failed)$")]
    done: int
    total: int
    added: int
    skipped: list[Skipped]
    error: str | None


class Removed(BaseModel):
    """How many items were removed."""

    removed: int


class Status(BaseModel):
    """Whether the service works."""

    status: str


class ProblemAnswer(BaseModel):
    """A request that was refused."""

    type: str
    title: str
    status: int
    detail: str
    reason: str


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
