"""Run steps."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BaseModel, Field

from server.schemas.common import Describes, JsonObject, ListQuery, Metadata, Shown, Usage
from server.schemas.runs import Failure

IncludeField = Literal["step_details.tool_calls[*].file_search.results[*].content"]
Include = Annotated[
    list[IncludeField], Field(validation_alias=AliasChoices("include[]", "include"))
]


class IncludeQuery(BaseModel):
    """What else to show of a step."""

    include: Include = []


class StepsQuery(ListQuery, IncludeQuery):
    """Which page of a run's steps."""


class CreatedMessage(BaseModel):
    """The message that a step wrote."""

    message_id: str


class MessageCreation(BaseModel):
    """A step that wrote a message."""

    type: Literal["message_creation"]
    message_creation: CreatedMessage


class ToolCalls(BaseModel):
    """A step that called tools."""

    type: Literal["tool_calls"]
    tool_calls: list[JsonObject]


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
