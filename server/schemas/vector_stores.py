"""Vector stores, the files in them, batches of files, and searching."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    Tag,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError, PydanticKnownError

from server.schemas.common import (
    FEW_KEYS,
    Describes,
    Given,
    JsonObject,
    ListQuery,
    Metadata,
    Shown,
    member_of,
    one_of,
)
from server.schemas.tools import ChunkingStrategy, StaticChunkingStrategy, stored_chunking

LONGEST_TEXT = 512
MOST_FILTERS = 100
DEEPEST_FILTER = 16  # SQLite's parser takes some 27 levels
WITHOUT_NUL = r"^[^\u0000]*$"  # at which SQLite ends a text that it reads from JSON
A_SCALAR = "one of a string, a number, or a boolean"

FileStatus = Literal["in_progress", "completed", "failed", "cancelled"]


class StoreExpiry(Given):
    """When a vector store expires: so many days after it was last used."""

    anchor: Literal["last_active_at"]
    days: Annotated[int, Field(ge=1, le=365)]


def _is_scalar(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, (int, float)) and math.isfinite(value))


def _not_one_of(expected: str) -> PydanticCustomError:
    words = {"expected": expected, "types": "", "key": ""}
    return PydanticCustomError("no_union_member", "Expected {expected}", words)


def _require_no_nul(*values: Any) -> None:
    if any(isinstance(value, str) and "\0" in value for value in values):
        raise PydanticKnownError("string_pattern_mismatch", {"pattern": WITHOUT_NUL})


def _attribute(value: Any) -> Any:
    if not _is_scalar(value):
        raise _not_one_of(A_SCALAR)
    if isinstance(value, str) and len(value) > LONGEST_TEXT:
        raise PydanticKnownError("string_too_long", {"max_length": LONGEST_TEXT})
    _require_no_nul(value)
    return value


def _key(value: str) -> str:
    _require_no_nul(value)
    return value


Attribute = Annotated[
    Any,
    AfterValidator(_attribute),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "maxLength": LONGEST_TEXT, "pattern": WITHOUT_NUL},
                {"type": "number"},
                {"type": "boolean"},
            ]
        }
    ),
]
Attributes = Annotated[
    # Not by a pattern: it would be published as `patternProperties`, which few generators know.
    dict[Annotated[str, Field(max_length=64), AfterValidator(_key)], Attribute],
    Field(max_length=16),
    FEW_KEYS,
]


class CreateVectorStore(Given):
    """The body of `POST /vector_stores`."""

    file_ids: Annotated[list[str], Field(max_length=500, fail_fast=True)] | None = None
    name: str | None = None
    description: str | None = None
    expires_after: StoreExpiry | None = None
    chunking_strategy: ChunkingStrategy | None = None
    metadata: Metadata | None = None


class ModifyVectorStore(Given):
    """The body of `POST /vector_stores/{vector_store_id}`: a key that is absent changes nothing."""

    name: str | None = None
    expires_after: StoreExpiry | None = None
    metadata: Metadata | None = None


class CreateVectorStoreFile(Given):
    """The body of `POST /vector_stores/{vector_store_id}/files`, and a file of a batch."""

    file_id: str
    chunking_strategy: ChunkingStrategy | None = None
    attributes: Attributes | None = None

    @property
    def chunking(self) -> JsonObject:
        return stored_chunking(self.chunking_strategy)


class ModifyVectorStoreFile(Given):
    """The body of `POST /vector_stores/{vector_store_id}/files/{file_id}`."""

    attributes: Attributes | None


LENGTH_OF_BATCH = Field(min_length=1, max_length=2000, fail_fast=True)


class CreateFileBatch(Given):
    """The body of `POST /vector_stores/{vector_store_id}/file_batches`.

    Files are told by their ids, all with the same strategy and attributes, or each with its own.
    """

    file_ids: Annotated[list[str], LENGTH_OF_BATCH] | None = None
    files: Annotated[list[CreateVectorStoreFile], LENGTH_OF_BATCH] | None = None
    chunking_strategy: ChunkingStrategy | None = None
    attributes: Attributes | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.file_ids is not None and self.files is not None:
            raise PydanticCustomError(
                "mutually_exclusive", "'file_ids' and 'files' exclude each other"
            )
        if self.file_ids is None and self.files is None:
            raise PydanticCustomError("missing_part", "", {"name": "file_ids"})
        return self

    def each(self) -> list[CreateVectorStoreFile]:
        """The files, each with its strategy and attributes."""
        if self.files:
            return self.files
        return [
            CreateVectorStoreFile(
                file_id=file_id,
                chunking_strategy=self.chunking_strategy,
                attributes=self.attributes,
            )
            for file_id in self.file_ids or ()
        ]


class VectorStoreFilesQuery(ListQuery):
    """Which page of a store's or a batch's files, or only of those that have one status."""

    filter: FileStatus | None = None


ORDERED = ("gt", "gte", "lt", "lte")
AMONG = ("in", "nin")
COMPARISONS = ("eq", "ne", *ORDERED, *AMONG)
COMPOUNDS = ("and", "or")
A_TEXT = {"type": "string", "pattern": WITHOUT_NUL}


class ComparisonFilter(Given):
    """Compares an attribute of a file with a value, or looks for it among several."""

    type: Literal["eq", "ne", "gt", "gte", "lt", "lte", "in", "nin"]
    key: Annotated[str, Field(pattern=WITHOUT_NUL)]
    value: Annotated[
        Any,
        WithJsonSchema(
            {
                "anyOf": [
                    A_TEXT,
                    {"type": "number"},
                    {"type": "boolean"},
                    {"type": "array", "items": {"anyOf": [A_TEXT, {"type": "number"}]}},
                ]
            }
        ),
    ]

    @field_validator("value")
    @classmethod
    def _comparable(cls, value: Any, info: ValidationInfo) -> Any:
        """Texts and numbers have an order; only among several values is something looked for."""
        type = info.data.get("type")
        if type in AMONG:
            if not isinstance(value, list) or not all(map(_has_order, value)):
                raise _not_one_of("an array of strings and numbers")
        elif type in ORDERED and not _has_order(value):
            raise _not_one_of("one of a string or a number")
        elif not _is_scalar(value):
            raise _not_one_of(A_SCALAR)
        _require_no_nul(*(value if isinstance(value, list) else (value,)))
        return value


def _has_order(value: Any) -> bool:
    return _is_scalar(value) and not isinstance(value, bool)


class CompoundFilter(Given):
    """All of some filters, or any of them."""

    type: Literal["and", "or"]
    filters: Annotated[list[Filter], Field(fail_fast=True)]


def _kind_of_filter(value: Any) -> str | None:
    tag = member_of(value)
    for kind, types in (("<comparison>", COMPARISONS), ("<compound>", COMPOUNDS)):
        if tag in {f"<{type}>" for type in types}:
            return kind
    return tag


Filter = Annotated[
    Annotated[ComparisonFilter, Tag("<comparison>")] | Annotated[CompoundFilter, Tag("<compound>")],
    one_of(*COMPARISONS, *COMPOUNDS, member=_kind_of_filter),
]
CompoundFilter.model_rebuild()


def _bounded(value: Filter) -> Filter:
    """Few parts, and few compounds within each other."""
    level: list[ComparisonFilter | CompoundFilter] = [value]
    parts, depth = 1, 0
    while compounds := [part for part in level if isinstance(part, CompoundFilter)]:
        level = [part for compound in compounds for part in compound.filters]
        parts, depth = parts + len(level), depth + 1
        if parts > MOST_FILTERS:
            raise PydanticCustomError(
                "too_many_parts", "a filter has at most {most} parts", {"most": MOST_FILTERS}
            )
        if depth > DEEPEST_FILTER:
            raise PydanticCustomError(
                "too_deep", "a filter is at most {most} levels deep", {"most": DEEPEST_FILTER}
            )
    return value


class SearchRanking(Given):
    """How results are ranked, and which score they must have at least."""

    ranker: Literal["none", "auto", "default-2024-11-15"] | None = "auto"
    score_threshold: Annotated[float, Field(ge=0, le=1)] | None = 0.0


QueryText = Annotated[str, Field(min_length=1, max_length=4096)]
Queries = Annotated[
    Annotated[QueryText, Tag("<string>")]
    | Annotated[
        list[QueryText], Field(min_length=1, max_length=32, fail_fast=True), Tag("<array>")
    ],
    one_of(expected="one of a string or array of strings"),
]


USUAL_RESULTS = 10  # where nothing is said


class SearchVectorStore(Given):
    """The body of `POST /vector_stores/{vector_store_id}/search`."""

    query: Queries
    rewrite_query: bool | None = False
    max_num_results: Annotated[int, Field(ge=1, le=50)] | None = USUAL_RESULTS
    filters: Annotated[Filter, AfterValidator(_bounded)] | None = None
    ranking_options: SearchRanking | None = None

    @property
    def queries(self) -> list[str]:
        return [self.query] if isinstance(self.query, str) else self.query

    @property
    def most_results(self) -> int:
        return self.max_num_results or USUAL_RESULTS

    @property
    def ranking(self) -> SearchRanking:
        return self.ranking_options or SearchRanking()


class FileCounts(Shown):
    """How many files there are, by status."""

    in_progress: int
    completed: int
    failed: int
    cancelled: int
    total: int


def _or_empty(value: str | None) -> str:
    return value or ""


class VectorStore(Shown):
    """A vector store. Its name is a string even where it has none: the SDK's type says so."""

    id: str
    object: Literal["vector_store"] = "vector_store"
    created_at: int
    name: Annotated[str, BeforeValidator(_or_empty)]
    description: str | None
    usage_bytes: int
    file_counts: FileCounts
    status: Literal["expired", "in_progress", "completed"]
    expires_after: Annotated[JsonObject | None, Describes(StoreExpiry | None)]
    expires_at: int | None
    last_active_at: int
    metadata: Annotated[dict[str, str], Describes(Metadata)]


class VectorStoreDeleted(Shown):
    """The answer to deleting a vector store."""

    id: str
    object: Literal["vector_store.deleted"] = "vector_store.deleted"
    deleted: bool = True


class FileFault(Shown):
    """Why a file could not be taken in."""

    code: Literal["server_error", "unsupported_file", "invalid_file"]
    message: str


class VectorStoreFile(Shown):
    """A file in a vector store, under the id that it has as a file."""

    id: str
    object: Literal["vector_store.file"] = "vector_store.file"
    usage_bytes: int
    created_at: int
    vector_store_id: str
    status: FileStatus
    last_error: FileFault | None
    chunking_strategy: Annotated[JsonObject, Describes(StaticChunkingStrategy)]
    attributes: Annotated[JsonObject, Describes(Attributes)]


class VectorStoreFileDeleted(Shown):
    """The answer to taking a file out of a vector store."""

    id: str
    object: Literal["vector_store.file.deleted"] = "vector_store.file.deleted"
    deleted: bool = True


class FileBatch(Shown):
    """A batch of files. The object's name is that of the SDK's types."""

    id: str
    object: Literal["vector_store.files_batch"] = "vector_store.files_batch"
    created_at: int
    status: FileStatus
    vector_store_id: str
    file_counts: FileCounts


class ContentPart(Shown):
    """A piece of text."""

    type: Literal["text"] = "text"
    text: str


class FileContent(Shown):
    """The text of a file, chunk by chunk; all of it is on one page."""

    object: Literal["vector_store.file_content.page"] = "vector_store.file_content.page"
    data: list[ContentPart]
    has_more: bool = False
    next_page: str | None = None


class SearchResult(Shown):
    """A piece of a file that fits a query."""

    file_id: str
    filename: str
    score: Annotated[float, Field(ge=0, le=1)]
    attributes: Annotated[JsonObject, Describes(Attributes)]
    content: list[ContentPart]


class SearchResults(Shown):
    """All results of a search, the best first; all of them are on one page."""

    object: Literal["vector_store.search_results.page"] = "vector_store.search_results.page"
    search_query: list[str]
    data: list[SearchResult]
    has_more: bool = False
    next_page: str | None = None
