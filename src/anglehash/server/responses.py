"""Answers as the OpenAPI document shows them."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, Field

Address = Annotated[str, Field(description="Relative to the address of the service, which is the page's.")]


class Result(BaseModel):
    """One answer."""

    id: str
    distance: float
    labels: list[str]
    metadata: dict[str, Any]
    code: str
    same_picture: Annotated[bool, Field(description="It has the bytes or the pixels of the image asked by.")]
    item: Address
    thumbnail: Address
    original: Address


TiedAtLast = Annotated[
    int | None,
    Field(description="Items that are as far away as the last result, shown or not; null: not counted."),
]


Unknown = Annotated[
    bool | None,
    Field(
        description="Whether nothing in the whole gallery looks like the query: its nearest item is farther away "
        "than the level of the gallery's model; null: no level."
    ),
]


class Query(BaseModel):
    """What was searched by."""

    code: str
    bits: int
    labels: list[str] | None = None


class SearchAnswer(BaseModel):
    """Answers, best first, and where the next ones begin."""

    results: list[Result]
    next_cursor: str | None
    tied_at_last: TiedAtLast
    unknown: Unknown
    model: str
    query: Query


class Results(BaseModel):
    """The answers to one of several queries."""

    results: list[Result]
    tied_at_last: TiedAtLast
    unknown: Unknown


class BatchAnswer(BaseModel):
    """The answers to several queries, in their order."""

    answers: list[Results]


class ListedItem(BaseModel):
    """An item in a list."""

    id: str
    labels: list[str]
    item: Address
    thumbnail: Address
    original: Address


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
    status: Annotated[str, Field(description="ok, or missing: its image file is gone.")]
    item: Address
    thumbnail: Address
    original: Address


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
    url: Address


class Skipped(BaseModel):
    """An image that was not added."""

    name: str
    reason: Annotated[
        str,
        Field(description="Of an image that is refused; already-there; removed: deleted after it was sent."),
    ]
    detail: str


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
