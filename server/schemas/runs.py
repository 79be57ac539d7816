"""Runs."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from server.schemas.common import (
    LARGEST_INTEGER,
    Describes,
    Given,
    JsonObject,
    ListQuery,
    Metadata,
    ModifyMetadata,
    ReasoningEffort,
    Shown,
    Temperature,
    TopP,
    Usage,
)
from server.schemas.messages import NewMessages
from server.schemas.response_format import ResponseFormat, stored_format
from server.schemas.sampling import SamplingOptions
from server.schemas.threads import CreateThread
from server.schemas.tools import (
    ENFORCEABLE_TOGETHER,
    Tool,
    ToolChoice,
    ToolResources,
    merge_resources,
)

RunStatus = Literal[
    "queued",
    "in_progress",
    "requires_action",
    "cancelling",
    "cancelled",
    "failed",
    "completed",
    "incomplete",
    "expired",
]
RunTools = Annotated[list[Tool], Field(max_length=20, fail_fast=True), ENFORCEABLE_TOGETHER]


class TruncationStrategy(Given):
    """Which messages of a long thread the model sees."""

    type: Literal["auto", "last_messages"]
    last_messages: Annotated[int, Field(ge=1, le=LARGEST_INTEGER)] | None = None

    @model_validator(mode="after")
    def _counted(self) -> Self:
        if self.type == "last_messages" and self.last_messages is None:
            raise PydanticCustomError("missing_part", "", {"name": "last_messages"})
        return self

    def stored(self) -> JsonObject:
        return {"type": self.type, "last_messages": self.last_messages}


class RunOptions(Given):
    """What both ways to create a run take."""

    assistant_id: str
    model: str | None = None
    instructions: str | None = None
    tools: RunTools | None = None
    metadata: Metadata | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    stream: bool | None = None
    max_prompt_tokens: Annotated[int, Field(ge=256, le=LARGEST_INTEGER)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=16, le=LARGEST_INTEGER)] | None = None
    truncation_strategy: TruncationStrategy | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool = True
    response_format: ResponseFormat | None = None
    x_sampling: SamplingOptions | None = None

    def stored(self) -> JsonObject:
        """The columns of the new run that this request decides alone."""
        strategy = self.truncation_strategy or TruncationStrategy(type="auto")
        return {
            "metadata": self.metadata or {},
            "max_completion_tokens": self.max_completion_tokens,
            "max_prompt_tokens": self.max_prompt_tokens,
            "truncation_strategy": strategy.stored(),
            "tool_choice": _stored_choice(self.tool_choice),
            "parallel_tool_calls": self.parallel_tool_calls,
            "x_sampling": self.x_sampling.stored() if self.x_sampling is not None else None,
        }

    def overrides(self) -> JsonObject:
        """The columns that would come from the assistant, but for this run are given."""
        given: JsonObject = {
            name: value
            for name in ("model", "instructions", "temperature", "top_p")
            if (value := getattr(self, name)) is not None
        }
        if self.tools is not None:
            given["tools"] = [tool.stored() for tool in self.tools]
        if self.response_format is not None:
            given["response_format"] = stored_format(self.response_format)
        return given


class CreateRun(RunOptions):
    """The body of `POST /threads/{thread_id}/runs`."""

    reasoning_effort: ReasoningEffort | None = None
    additional_instructions: str | None = None
    additional_messages: NewMessages | None = None

    def overrides(self) -> JsonObject:
        effort = {"reasoning_effort": self.reasoning_effort} if self.reasoning_effort else {}
        return {**super().overrides(), **effort}


class CreateThreadAndRun(RunOptions):
    """The body of `POST /threads/runs`."""

    thread: CreateThread = CreateThread()
    tool_resources: ToolResources | None = None

    def overrides(self) -> JsonObject:
        given = super().overrides()
        if self.tool_resources is not None:
            given["tool_resources"] = merge_resources((), self.tool_resources.stored())
        return given


class ModifyRun(ModifyMetadata):
    """The body of `POST /threads/{thread_id}/runs/{run_id}`."""


class ToolOutput(Given):
    """What one function call gave. Without an output it gave nothing."""

    tool_call_id: str
    output: str = ""


class SubmitToolOutputs(Given):
    """The body of `POST /threads/{thread_id}/runs/{run_id}/submit_tool_outputs`."""

    tool_outputs: Annotated[list[ToolOutput], Field(fail_fast=True)]
    stream: bool | None = None


class Failure(Shown):
    """Why a run or a step failed."""

    code: Literal["server_error", "rate_limit_exceeded", "invalid_prompt"]
    message: str


class IncompleteRun(BaseModel):
    """Why a run ended early."""

    reason: Literal["max_completion_tokens", "max_prompt_tokens"]


class CalledFunction(BaseModel):
    """A function and what to call it with: JSON as the model wrote it, which may be invalid."""

    name: str
    arguments: str


class RequiredCall(BaseModel):
    """A call that the client is to make."""

    id: str
    type: Literal["function"]
    function: CalledFunction


class RequiredCalls(BaseModel):
    """All calls of one turn."""

    tool_calls: list[RequiredCall]


class RequiredAction(BaseModel):
    """What a run waits for."""

    type: Literal["submit_tool_outputs"]
    submit_tool_outputs: RequiredCalls


def _stored_choice(choice: Any) -> Any:
    if choice is None or isinstance(choice, str):
        return choice or "auto"
    return choice.stored()


def _or_empty(value: str | None) -> str:
    return value or ""


class RunsQuery(ListQuery):
    """Which runs of all threads."""

    status: RunStatus | None = None


class Run(Shown):
    """A run. Its instructions are a string even where it has none: the SDK's type says so."""

    id: str
    object: Literal["thread.run"] = "thread.run"
    created_at: int
    assistant_id: str
    thread_id: str
    status: RunStatus
    started_at: int | None
    expires_at: int | None
    cancelled_at: int | None
    failed_at: int | None
    completed_at: int | None
    required_action: Annotated[JsonObject | None, Describes(RequiredAction | None)]
    last_error: Failure | None
    model: str
    instructions: Annotated[str, BeforeValidator(_or_empty)]
    tools: Annotated[list[Any], Describes(list[Tool])]
    tool_resources: Annotated[JsonObject, Describes(ToolResources)]
    metadata: Annotated[dict[str, str], Describes(Metadata)]
    temperature: float | None
    top_p: float | None
    reasoning_effort: str | None
    max_completion_tokens: int | None
    max_prompt_tokens: int | None
    truncation_strategy: Annotated[JsonObject, Describes(TruncationStrategy)]
    incomplete_details: Annotated[JsonObject | None, Describes(IncompleteRun | None)]
    usage: Usage | None
    response_format: Annotated[Any, Describes(ResponseFormat)]
    tool_choice: Annotated[Any, Describes(ToolChoice)]
    parallel_tool_calls: bool
