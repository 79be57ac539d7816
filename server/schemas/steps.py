"""Run steps."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AliasChoices, BaseModel, Field

from server.schemas.common import Describes, JsonObject, ListQuery, Metadata, Row, Shown, Usage
from server.schemas.messages import NamedFile
from server.schemas.runs import CalledFunction, Failure

IncludeField = Literal["step_details.tool_calls[*].file_search.results[*].content"]
# PHP counts the values of an array; there is only one that can be given.
_NAMES = AliasChoices("include[]", "include", "include[0]")
Include = Annotated[list[IncludeField], Field(validation_alias=_NAMES)]


class IncludeQuery(BaseModel):
    """What else to show of a step."""

    include: Include = []

    @property
    def with_content(self) -> bool:
        """Whether what a search found is wanted with its text: nothing else can be included."""
        return bool(self.include)


class StepsQuery(ListQuery, IncludeQuery):
    """Which page of a run's steps."""


class CreatedMessage(BaseModel):
    """The message that a step wrote."""

    message_id: str


class MessageCreation(BaseModel):
    """A step that wrote a message."""

    type: Literal["message_creation"]
    message_creation: CreatedMessage


class AnsweredFunction(CalledFunction):
    """A function that the client runs, and what it gave."""

    output: str | None


class FunctionCall(BaseModel):
    """A call to the client."""

    id: str
    type: Literal["function"]
    function: AnsweredFunction


class Logs(BaseModel):
    """What code printed."""

    type: Literal["logs"]
    logs: str


class Image(BaseModel):
    """What code drew."""

    type: Literal["image"]
    image: NamedFile


class RunCode(BaseModel):
    """Code, and what came out of it."""

    input: str
    outputs: list[Logs | Image]


class CodeInterpreterCall(BaseModel):
    """A run of Python."""

    id: str
    type: Literal["code_interpreter"]
    code_interpreter: RunCode


class UsedRanking(BaseModel):
    """How the results were ranked."""

    ranker: Literal["auto", "default_2024_08_21"]
    score_threshold: Annotated[float, Field(ge=0, le=1)]


class FoundText(BaseModel):
    """Text of a file."""

    type: Literal["text"]
    text: str


class FoundFile(BaseModel):
    """A part of a file; its content is shown where it is asked for."""

    file_id: str
    file_name: str
    score: Annotated[float, Field(ge=0, le=1)]
    attributes: JsonObject
    content: list[FoundText] = []


class Search(BaseModel):
    """A search, and what it found."""

    ranking_options: UsedRanking
    results: list[FoundFile]


class FileSearchCall(BaseModel):
    """A search in vector stores."""

    id: str
    type: Literal["file_search"]
    file_search: Search


class ToolCalls(BaseModel):
    """A step that called tools."""

    type: Literal["tool_calls"]
    tool_calls: list[CodeInterpreterCall | FileSearchCall | FunctionCall]


class RunStep(Shown):
    """A step of a run. It has both the wire's `expires_at` and the types' `expired_at`."""

    id: str
    object: Literal["thread.run.step"] = "thread.run.step"
    created_at: int
    run_id: str
    assistant_id: str
    thread_id: str
    type: Literal["message_creation", "tool_calls"]
    status: Literal["in_progress", "cancelled", "failed", "completed", "expired"]
    cancelled_at: int | None
    completed_at: int | None
    expires_at: int | None
    expired_at: int | None
    failed_at: int | None
    last_error: Failure | None
    step_details: Annotated[Any, Describes(MessageCreation | ToolCalls)]
    usage: Usage | None
    metadata: Annotated[dict[str, str], Describes(Metadata)]

    @classmethod
    def from_row(cls, row: Row, *, with_content: bool = False) -> Self:
        """The step that a row is; what a search found has its text only if that is wanted."""
        values = row._asdict()
        return cls.model_validate(
            {**values, "step_details": _shown_details(values["step_details"], with_content)}
        )


def _shown_details(stored: JsonObject, with_content: bool) -> JsonObject:
    calls = stored.get("tool_calls")
    if not calls:
        return stored
    return {**stored, "tool_calls": [_shown_call(call, with_content) for call in calls]}


def _shown_call(stored: JsonObject, with_content: bool) -> JsonObject:
    """A call without what the server keeps with it."""
    call = {key: value for key, value in stored.items() if key != "asked"}
    if stored["type"] != "file_search":
        return call
    search = stored["file_search"]
    hidden = () if with_content else ("content",)
    results = [
        {key: value for key, value in result.items() if key not in hidden}
        for result in search["results"]
    ]
    return {**call, "file_search": {**search, "results": results}}
