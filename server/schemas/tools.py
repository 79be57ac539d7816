"""Tools and their resources, as clients give them and as they are stored and shown.

Their optional parts take null as absent, since objects that an SDK has dumped come back with nulls.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, Tag, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError, PydanticKnownError

from server.schemas.common import Given, JsonObject, Metadata, one_of
from server.schemas.json_schema import (
    MOST_REMAINDERS,
    TOO_MANY_FACTORS,
    refused,
    require_strict,
)

FunctionName = Annotated[str, Field(min_length=1, max_length=64, pattern="^[a-zA-Z0-9_-]+$")]


class CodeInterpreterTool(Given):
    """Python, run by the server."""

    type: Literal["code_interpreter"]

    def stored(self) -> JsonObject:
        return {"type": self.type}


class FileSearchType(Given):
    """File search where nothing of it can be set: attachments and tool choices."""

    type: Literal["file_search"]

    def stored(self) -> JsonObject:
        return {"type": self.type}


class RankingOptions(Given):
    """How search results are ranked. The hosted API shows `hybrid_search`, so it may come back."""

    ranker: Literal["auto", "default_2024_08_21"] | None = None
    score_threshold: Annotated[float, Field(ge=0, le=1)]
    hybrid_search: None = None

    def stored(self) -> JsonObject:
        return {
            "ranker": self.ranker or "default_2024_08_21",
            "score_threshold": self.score_threshold,
            "hybrid_search": None,
        }


class FileSearchSettings(Given):
    """What a file search returns."""

    max_num_results: Annotated[int, Field(ge=1, le=50)] | None = None
    ranking_options: RankingOptions | None = None

    def stored(self) -> JsonObject:
        ranking = self.ranking_options or RankingOptions(score_threshold=0.0)
        limit = {} if self.max_num_results is None else {"max_num_results": self.max_num_results}
        return {**limit, "ranking_options": ranking.stored()}


class FileSearchTool(Given):
    """Search in vector stores, run by the server."""

    type: Literal["file_search"]
    file_search: FileSearchSettings | None = None

    def stored(self) -> JsonObject:
        settings = self.file_search or FileSearchSettings()
        return {"type": self.type, "file_search": settings.stored()}


class Function(Given):
    """A function that the client runs."""

    name: FunctionName
    description: str | None = None
    parameters: JsonObject | None = None
    strict: bool | None = None
    _remainders: int = 0  # of a strict schema's factors

    @model_validator(mode="after")
    def _enforceable(self) -> Self:
        if self.strict and self.parameters is not None:
            self._remainders = require_strict(self.parameters, f"function '{self.name}'")
        return self

    def stored(self) -> JsonObject:
        described = {} if self.description is None else {"description": self.description}
        nothing = {"type": "object", "properties": {}}
        parameters = nothing if self.parameters is None else self.parameters
        return {
            "name": self.name,
            **described,
            "parameters": parameters,
            "strict": bool(self.strict),
        }


class FunctionTool(Given):
    """A call to the client."""

    type: Literal["function"]
    function: Function

    def stored(self) -> JsonObject:
        return {"type": self.type, "function": self.function.stored()}


Tool = Annotated[
    Annotated[CodeInterpreterTool, Tag("<code_interpreter>")]
    | Annotated[FunctionTool, Tag("<function>")]
    | Annotated[FileSearchTool, Tag("<file_search>")],
    one_of("code_interpreter", "function", "file_search"),
]


def _enforceable_together(tools: list[Any]) -> list[Any]:
    """One grammar has the schemas of all functions, and their factors add up in it."""
    total = 0
    for tool in tools:
        if isinstance(tool, FunctionTool):
            total += tool.function._remainders
            if total > MOST_REMAINDERS:
                raise refused(f"function '{tool.function.name}'", TOO_MANY_FACTORS)
    return tools


ENFORCEABLE_TOGETHER = AfterValidator(_enforceable_together)
AttachmentTool = Annotated[
    Annotated[CodeInterpreterTool, Tag("<code_interpreter>")]
    | Annotated[FileSearchType, Tag("<file_search>")],
    one_of("code_interpreter", "file_search"),
]


class ChosenFunction(Given):
    """A function by its name."""

    name: FunctionName


class FunctionChoice(Given):
    """The one function that must be called."""

    type: Literal["function"]
    function: ChosenFunction

    def stored(self) -> JsonObject:
        return {"type": self.type, "function": {"name": self.function.name}}


ToolChoice = Annotated[
    Annotated[Literal["none", "auto", "required"], Tag("<string>")]
    | Annotated[FunctionChoice, Tag("<function>")]
    | Annotated[CodeInterpreterTool, Tag("<code_interpreter>")]
    | Annotated[FileSearchType, Tag("<file_search>")],
    one_of(
        "function",
        "code_interpreter",
        "file_search",
        expected="one of one of 'none', 'auto', or 'required' or object",
    ),
]


class CodeInterpreterResources(Given):
    """Files that code finds in its folder."""

    file_ids: Annotated[list[str], Field(max_length=20, fail_fast=True)] | None = []


class StaticChunking(Given):
    """Sizes of chunks, in tokens."""

    max_chunk_size_tokens: Annotated[int, Field(ge=100, le=4096)]
    chunk_overlap_tokens: Annotated[int, Field(ge=0)]

    @field_validator("chunk_overlap_tokens")
    @classmethod
    def _half_at_most(cls, overlap: int, info: ValidationInfo) -> int:
        half = info.data.get("max_chunk_size_tokens", overlap * 2) // 2
        if overlap > half:
            raise PydanticKnownError("less_than_equal", {"le": half})
        return overlap

    def stored(self) -> JsonObject:
        return {"type": "static", "static": self.model_dump()}


DEFAULT_CHUNKING = StaticChunking(max_chunk_size_tokens=800, chunk_overlap_tokens=400)


class StaticChunkingStrategy(Given):
    """Chunks of a given size."""

    type: Literal["static"]
    static: StaticChunking

    def stored(self) -> JsonObject:
        return self.static.stored()


class AutoChunkingStrategy(Given):
    """Chunks of the default size, which is what is shown of it."""

    type: Literal["auto"]

    def stored(self) -> JsonObject:
        return DEFAULT_CHUNKING.stored()


ChunkingStrategy = Annotated[
    Annotated[AutoChunkingStrategy, Tag("<auto>")]
    | Annotated[StaticChunkingStrategy, Tag("<static>")],
    one_of("auto", "static"),
]


def stored_chunking(strategy: ChunkingStrategy | None) -> JsonObject:
    """The sizes of chunks, also where nothing is said of them."""
    return DEFAULT_CHUNKING.stored() if strategy is None else strategy.stored()


class NewVectorStore(Given):
    """A vector store to be made along with the object that names it."""

    file_ids: Annotated[list[str], Field(max_length=100_000_000, fail_fast=True)] | None = None
    chunking_strategy: ChunkingStrategy | None = None
    metadata: Metadata | None = None


class FileSearchResources(Given):
    """The vector stores to search in."""

    vector_store_ids: Annotated[list[str], Field(max_length=1, fail_fast=True)] | None = None


class NewFileSearchResources(FileSearchResources):
    """The vector stores to search in, which may be made on the way."""

    vector_stores: Annotated[list[NewVectorStore], Field(max_length=1, fail_fast=True)] | None = (
        None
    )

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.vector_store_ids is not None and self.vector_stores is not None:
            raise PydanticCustomError(
                "mutually_exclusive", "'vector_store_ids' and 'vector_stores' exclude each other"
            )
        return self


class ToolResources(Given):
    """What the tools may use, by tool."""

    code_interpreter: CodeInterpreterResources | None = None
    file_search: FileSearchResources | None = None

    def stored(self) -> JsonObject:
        """Only what was given; a list that was left out of a given object is empty."""
        shown: JsonObject = {}
        if self.file_search is not None:
            shown["file_search"] = {"vector_store_ids": self.file_search.vector_store_ids or []}
        if self.code_interpreter is not None:
            shown["code_interpreter"] = {"file_ids": self.code_interpreter.file_ids or []}
        return shown


class NewToolResources(ToolResources):
    """Tool resources of an object that is being created."""

    file_search: NewFileSearchResources | None = None

    def new_stores(self) -> list[NewVectorStore]:
        """The vector stores that are to be made for it: one, or none."""
        return (self.file_search and self.file_search.vector_stores) or []


def merge_resources(
    tools: Sequence[Mapping[str, Any]], *resources: Mapping[str, Any]
) -> JsonObject:
    """The resources of an object with these tools: a later resource replaces an earlier one.

    Code interpreter has an entry as soon as it is among the tools, as on the hosted API.
    """
    merged: JsonObject = {}
    for given in resources:
        merged.update(given)
    if any(tool["type"] == "code_interpreter" for tool in tools):
        merged.setdefault("code_interpreter", {"file_ids": []})
    return {tool: merged[tool] for tool in ("file_search", "code_interpreter") if tool in merged}
